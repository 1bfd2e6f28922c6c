"""CLIPs of random weights: a ViT and a ResNet of open_clip with QuickGELU, a model of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from tests.architectures.tiny_stable_diffusion import TOKENS, clip_tokenizer

SIDE, DIM = 32, 24
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
RESNET = {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 16}
KINDS = ("vit", "resnet", "transformers")


def tiny_clip(folder: Path, kind: str = "vit", seed: int = 0) -> dict[str, Any]:
    """Keys of the student's table. No norm is the identity, so that tuning and saving one can be told."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    if kind == "transformers":
        return {"name": "clip", "weights": str(_transformers(folder))}
    config = {"embed_dim": DIM, "quick_gelu": True, "vision_cfg": VIT if kind == "vit" else RESNET, "text_cfg": TEXT}
    model = CLIP(**config)
    shake(model)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return {"name": "clip", "arch": f"local-dir:{folder}"}


@torch.no_grad()
def shake(model: torch.nn.Module) -> None:
    """Move every parameter and running statistic a little (a variance up)."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and name != "logit_scale":
            noise = 0.05 * torch.randn_like(value)
            value.add_(noise.abs() if name.endswith("running_var") else noise)


def _transformers(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = CLIPConfig(
        text_config={**tower, "vocab_size": len(TOKENS), "max_position_embeddings": 24,
                     "bos_token_id": len(TOKENS) - 2, "eos_token_id": len(TOKENS) - 1},
        vision_config={**tower, "image_size": SIDE, "patch_size": 8}, projection_dim=DIM,
    )  # fmt: skip
    model = CLIPModel(config)
    shake(model)
    model.save_pretrained(folder)
    clip_tokenizer(folder)
    return folder
