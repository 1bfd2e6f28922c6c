"""Train the tiny latent diffusion model: VAE, text encoder and UNet on scenes.

    python examples/tiny/diffusion.py --out FOLDER

Pictures are scenes of the training split of a world of its own, so none holds a combination that is held out. The
folder it writes is diffusers' own: StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None) opens it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from principal_encoder import set_encoder
from swap_scores import report, swap_rows
from tokenizer import MAX_TOKENS, caption_tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from training import Checkpoint, optimizer_and_schedule
from transformers import CLIPTextConfig, CLIPTextModel

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene

VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (12, 16, 40, 40),
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 2,
    "sample_size": 64,
    "scaling_factor": 1.0,
    "mid_block_add_attention": False,
}
TEXT = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_TOKENS,
    "projection_dim": 128,
}
UNET = {
    "sample_size": 8,
    "in_channels": 16,
    "out_channels": 16,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "block_out_channels": (64,),
    "layers_per_block": 1,
    "cross_attention_dim": 128,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}
LATENT = (16, 8, 8)
DECODER_BATCH = 16
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
}
CAPTION_WEIGHTS = (3, 4, 1, 1, 1)
"""How often each kind of caption is drawn: those of relations and of all objects most."""
NO_CAPTION_PERCENT = 10


def pixels(rows: Sequence[Scene]) -> Tensor:
    """Pictures [B, 3, 64, 64] from -1 to 1."""
    return torch.from_numpy(np.stack([scenes.draw(row) for row in rows])).permute(0, 3, 1, 2).float() / 127.5 - 1


def row(seed: int, index: int, split: str = "train") -> Scene:
    """A scene of the plain world."""
    return scenes.scene(seed, index, split, plain=True)


# ---------------------------------------------------------------------------------------------------- VAE
def first_vae(seed: int) -> AutoencoderKL:
    """The encoder in closed form, the decoder random."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**VAE)
    set_encoder(vae, pixels([row(seed, index) for index in range(1000)]))
    latents = encode(vae, [row(seed, index, "val") for index in range(500)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, rows: Sequence[Scene]) -> Tensor:
    """Scaled means of the posterior [n, 16, 8, 8], by the one convolution that the encoder is equal to."""
    zero = vae.encode(torch.zeros(1, 3, 8, 8)).latent_dist.mean.flatten()
    weight = (vae.encode(torch.eye(192).view(192, 3, 8, 8)).latent_dist.mean.flatten(1) - zero).T
    latents = [
        F.conv2d(pixels(rows[i : i + 512]), weight.view(-1, 3, 8, 8), zero, stride=8) for i in range(0, len(rows), 512)
    ]
    return torch.cat(latents) * vae.config.scaling_factor


def train_decoder(vae: AutoencoderKL, arguments: argparse.Namespace) -> None:
    """Squared and absolute error of the pixels, of deviations from grey four times."""
    torch.manual_seed(arguments.seed)
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer, schedule = optimizer_and_schedule(parameters, [], 3e-3, 0.0, arguments.decoder_steps)
    checkpoint = Checkpoint(arguments.work / "decoder.pt", vae=vae, optimizer=optimizer, schedule=schedule)
    started = time.process_time()
    for step in range(checkpoint.load(), arguments.decoder_steps):
        first = step * DECODER_BATCH
        rows = [row(arguments.seed, index) for index in range(first, first + DECODER_BATCH)]
        x = pixels(rows)
        error = vae.decode(encode(vae, rows) / vae.config.scaling_factor).sample - x
        error = error + 3 * (error - error.mean(1, keepdim=True))
        loss = error.square().mean() + 0.1 * error.abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == arguments.decoder_steps - 1:
            print(f"decoder step {step}, loss {loss.item():.4f}, {time.process_time() - started:.0f} s", flush=True)
        if step % 200 == 199 or step == arguments.decoder_steps - 1:
            checkpoint.save(step + 1)


# ---------------------------------------------------------------------------------------------------- diffusion
class Denoiser(nn.Module):
    """Text encoder and UNet."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=len(tokenizer), **ids))
        self.unet = UNet2DConditionModel(**UNET)

    def forward(self, noisy: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """v [B, 16, 8, 8]."""
        return self.unet(noisy, t, self.text_encoder(ids).last_hidden_state).sample


def tokens(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    return tokenizer(list(texts), padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").input_ids


def train(vae: AutoencoderKL, tokenizer: Any, arguments: argparse.Namespace) -> Denoiser:
    """v-prediction on latents, by cycles of warm-up and cosine; returns the running average of the weights."""
    latents = encode(vae, [row(arguments.seed, index) for index in range(arguments.rows)]).half()
    torch.manual_seed(arguments.seed + 1)
    model = Denoiser(tokenizer)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    for number, steps in enumerate(arguments.steps):
        before = sum(arguments.steps[:number])
        decay = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        optimizer, schedule = optimizer_and_schedule(decay, plain, arguments.peak_lr, 0.01, steps)
        states = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
        checkpoint = Checkpoint(arguments.work / f"unet-{number}.pt", **states)
        started, losses = time.process_time(), []
        end = min(steps, arguments.end or steps)
        for step in range(checkpoint.load(), end):
            random = np.random.default_rng((arguments.seed, before + step))
            loss = loss_of(model, tokenizer, latents, random, arguments)
            losses.append(loss.detach())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if end < steps:
                for group in optimizer.param_groups:
                    group["lr"] *= min(1.0, (end - step - 1) / (end / 5))
            average.update_parameters(model)
            if step % 100 == 99:
                mean = torch.stack(losses).mean().item()
                print(
                    f"cycle {number}, step {step + 1}, loss {mean:.4f}, {time.process_time() - started:.0f} s",
                    flush=True,
                )
                losses = []
            if step % 200 == 199 or step == end - 1:
                checkpoint.save(step + 1)
    return average.module.eval().requires_grad_(False)


def loss_of(
    model: Denoiser, tokenizer: Any, latents: Tensor, random: np.random.Generator, arguments: argparse.Namespace
) -> Tensor:
    """Mean squared error about v of a batch."""
    scheduler = DDPMScheduler(**SCHEDULER)
    places = random.integers(len(latents), size=arguments.batch_size)
    texts = [caption(arguments.seed, int(place), random) for place in places]
    z = latents[places].float()
    t = drawn_timesteps(random, len(z))
    noise = torch.randn(z.shape)
    noisy, target = scheduler.add_noise(z, noise, t), scheduler.get_velocity(z, noise, t)
    return F.mse_loss(model(noisy, t, tokens(tokenizer, texts)), target)


def caption(seed: int, index: int, random: np.random.Generator) -> str:
    """One of a scene's captions, or none."""
    if random.integers(100) < NO_CAPTION_PERCENT:
        return ""
    weights = np.array(CAPTION_WEIGHTS) / sum(CAPTION_WEIGHTS)
    return scenes.captions(row(seed, index), plain=True)[random.choice(5, p=weights)]


def drawn_timesteps(random: np.random.Generator, n: int) -> Tensor:
    """[n], most of them where a caption tells something about what noise hides: logit-normal, strata of a batch."""
    from scipy.special import ndtri

    uniform = (np.arange(n) + random.random(n)) / n
    return torch.from_numpy((1000 / (1 + np.exp(-1.1 * ndtri(uniform)))).astype(np.int64)).clamp_(0, 999)


# ---------------------------------------------------------------------------------------------------- scores
@torch.no_grad()
def scores(
    model: Denoiser, vae: AutoencoderKL, tokenizer: Any, kind: str, items: int, timesteps: Sequence[int], draws: int
) -> dict[str, Any]:
    """Denoising errors of the swaps of a kind, the empty caption's subtracted, by Winoground's rules; draws shared."""
    swaps, scheduler = swap_rows(kind, items), DDPMScheduler(**SCHEDULER)
    z = encode(vae, [picture for swap in swaps for picture in swap.scenes]).view(items, 2, *LATENT)
    states = [model.text_encoder(tokens(tokenizer, [*swap.captions, ""])).last_hidden_state for swap in swaps]
    noise = torch.randn((draws, *LATENT), generator=torch.Generator().manual_seed(0))
    t = torch.tensor(timesteps).repeat_interleave(draws)
    bank = noise.repeat(len(timesteps), 1, 1, 1)
    errors = torch.zeros(items, len(t), 3, 2)
    for item in range(items):
        for picture in range(2):
            clean = z[item, picture].expand(len(t), -1, -1, -1)
            noisy, target = scheduler.add_noise(clean, bank, t), scheduler.get_velocity(clean, bank, t)
            v = model.unet(noisy.repeat(3, 1, 1, 1), t.repeat(3), states[item].repeat_interleave(len(t), 0)).sample
            error = (v.view(3, *target.shape) - target).square().mean((2, 3, 4))
            errors[item, :, :, picture] = error.T
    alpha = scheduler.alphas_cumprod[t].view(1, -1, 1, 1)
    found: dict[str, Any] = {}
    for name, weighted in (("v", errors), ("epsilon", errors * alpha)):
        found[name] = report((weighted[:, :, 2:] - weighted[:, :, :2]).mean(1))
    raw = errors * alpha
    found["epsilon, raw"] = report(-raw[:, :, :2].mean(1))
    for place, name in enumerate(timesteps):
        part = errors[:, place * draws : (place + 1) * draws]
        found[f"t {name}"] = report((part[:, :, 2:] - part[:, :, :2]).mean(1))["two-way"]
        found[f"t {name} caption's share"] = round(
            100 * (1 - (part[:, :, [0, 1], [0, 1]].mean() / part[:, :, 2].mean()).item()), 2
        )
    return found


# ---------------------------------------------------------------------------------------------------- saving
def save(model: Denoiser, vae: AutoencoderKL, tokenizer: Any, folder: Path) -> None:
    """diffusers' layout, float16."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in ((vae, "vae"), (model.text_encoder, "text_encoder"), (model.unet, "unet")):
        part.half().save_pretrained(folder / name)
        part.float()
    tokenizer.save_pretrained(folder / "tokenizer")
    DDPMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="checkpoints, to go on from")
    parser.add_argument("--seed", type=int, default=3000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--decoder-steps", type=int, default=250)
    parser.add_argument("--rows", type=int, default=30_000, help="pictures that are encoded once")
    parser.add_argument("--steps", type=int, nargs="+", default=[3500], help="of each cycle")
    parser.add_argument(
        "--end", type=int, default=3000, help="step that cuts each cycle short, its rate going to 0 in the last fifth"
    )
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--peak-lr", type=float, default=1.2e-3)
    parser.add_argument("--items", type=int, default=100, help="of each kind of swap that is scored")
    parser.add_argument("--timesteps", type=int, nargs="+", default=[200, 350, 500, 650, 800])
    parser.add_argument("--draws", type=int, default=4, help="of noise a timestep, shared by all pairs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_flash_sdp(False)
    tokenizer = caption_tokenizer()
    vae = first_vae(arguments.seed)
    model = train(vae, tokenizer, arguments)
    train_decoder(vae, arguments)
    save(model, vae, tokenizer, arguments.out)
    for kind in scenes.SWAP_KINDS:
        found = scores(model, vae, tokenizer, kind, arguments.items, arguments.timesteps, arguments.draws)
        print(json.dumps({kind: found}, indent=1), flush=True)


if __name__ == "__main__":
    main()
