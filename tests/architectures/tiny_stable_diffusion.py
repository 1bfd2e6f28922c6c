"""A Stable Diffusion of random weights in diffusers' layout: UNet, VAE, text encoder, tokenizer, scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*BYTES, *(f"{byte}</w>" for byte in BYTES), "<|startoftext|>", "<|endoftext|>"]
MAX_TOKENS, WIDTH, SIZE, FACTOR = 24, 16, 8, 4
"""Of a caption, of its states, of a latent's side, and pixels a side of a latent's cell."""


def clip_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> None:
    """CLIP's tokenizer in the official four files, without merges: every byte is a token."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": TOKENS[-2], "eos_token": TOKENS[-1], "unk_token": TOKENS[-1]}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, "pad_token": TOKENS[-1], **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({**special, "pad_token": pad}))


def stable_diffusion(
    folder: Path, seed: int = 0, prediction_type: str | None = None, linear_projection: bool = False
) -> Path:
    """prediction_type: as the scheduler's file has it; None leaves it out, as 1.4's does. linear_projection: 2.1's."""
    torch.manual_seed(seed)
    UNet2DConditionModel(
        sample_size=SIZE, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=WIDTH,
        attention_head_dim=[2, 4] if linear_projection else 4, use_linear_projection=linear_projection,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8, 8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, sample_size=SIZE * FACTOR,
    ).save_pretrained(folder / "vae")  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(TOKENS), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=MAX_TOKENS, bos_token_id=len(TOKENS) - 2, eos_token_id=len(TOKENS) - 1,
    )  # fmt: skip
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    clip_tokenizer(folder / "tokenizer", pad="!" if linear_projection else TOKENS[-1])
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1,
        prediction_type=prediction_type or "epsilon",
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    if prediction_type is None:
        file = folder / "scheduler" / "scheduler_config.json"
        config = json.loads(file.read_text())
        del config["prediction_type"]
        file.write_text(json.dumps(config))
    return folder
