"""A step of score distillation: with the UNet's Jacobian left out (`jacobian=skip`) against through it (`full`).

    python examples/benchmarks/sds.py [--quick]

A batch of 8 vectors [512] becomes latents [4, 32, 32] by h_w, which a UNet of diffusers with random weights (30 M
parameters, cross-attention to 77 states of 768) must find the noise in; forward and backward, no optimiser. `full` is
as the method runs it, its activations computed again in the backward pass (gradient checkpointing), and beside it with
all of them kept. Step times are of the clock, each kind timed in turn in one process, medians over the rounds; memory
is what a step adds to a fresh process at its peak (Linux only).

The table goes to stderr, one JSON document to stdout. `--quick`: latents of 16 x 16, 4 rows.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from retrieval import resident_bytes
from torch import Tensor, nn

from mmkd_cli.architectures.denoiser import Denoiser
from mmkd_cli.core.contracts import Batch
from mmkd_cli.methods.sds import Sds
from mmkd_cli.methods.sds_config import SdsConfig
from mmkd_cli.students.clip import Embedded, LatentMap

KINDS = ("skip", "full", "full, all activations kept")
WIDTH, TOKENS, STATES = 512, 77, 768


class Vectors(nn.Module):
    """In CLIP's place: ready vectors of pictures, and h_w."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.latent_map = LatentMap(WIDTH, shape, "projected", normalize=False)

    def forward(self, batch: Batch, latents: bool = False) -> Embedded:
        return Embedded(batch["vectors"], batch["vectors"], self.latent_map(batch["vectors"]))

    def tuned(self) -> list[nn.Parameter]:
        return []


class Step:
    """Forward and backward of one batch."""

    def __init__(self, kind: str, unet: Any, rows: int, side: int) -> None:
        if kind == "full":
            unet.enable_gradient_checkpointing()
        else:
            unet.disable_gradient_checkpointing()
        denoiser = Denoiser(unet, DDPMScheduler(beta_schedule="scaled_linear"))
        config = SdsConfig(jacobian="skip" if kind == "skip" else "full", contrastive_weight=0.0)
        self.sds = Sds(Vectors((4, side, side)), config, [], [], denoiser)
        self.batch: dict[str, Tensor] = {
            "vectors": torch.randn(rows, WIDTH, requires_grad=True),
            "text_states": torch.randn(rows, TOKENS, STATES),
            "noise": torch.randn(rows, 4, side, side),
            "timestep": torch.randint(1000, (rows,)),
        }

    def __call__(self) -> None:
        self.sds.forward(self.batch).row_losses["sds"].mean().backward()


def random_unet(side: int) -> Any:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=side, block_out_channels=(96, 192, 384), layers_per_block=1, cross_attention_dim=STATES,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return unet.train(False).requires_grad_(False)


def peak_bytes(kind: str, rows: int, side: int) -> int:
    """What a step adds to the resident memory of a process of its own, at the peak."""
    unet = random_unet(side)
    Step(kind, unet, 1, side)()  # kernels and buffers that stay
    step = Step(kind, unet, rows, side)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
    step()
    return resident_bytes("VmHWM") - before


def measure(rows: int, side: int, rounds: int) -> dict[str, Any]:
    unet = random_unet(side)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind, spans in seconds.items():
            step = Step(kind, unet, rows, side)
            started = time.perf_counter()
            step()
            if number:  # the first round warms up
                spans.append(time.perf_counter() - started)
    memory = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--peak", kind, "--rows", str(rows), "--side", str(side)]
        memory[kind] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    median = {kind: statistics.median(spans) for kind, spans in seconds.items()}
    return {
        "sizes": {"rows": rows, "side": side, "unet_parameters": sum(p.numel() for p in unet.parameters())},
        "ratios_to_skip": {
            kind: {"time": median[kind] / median["skip"], "memory": memory[kind] / memory["skip"]} for kind in KINDS
        },
        "median_seconds": median,
        "peak_MiB": {kind: round(value / 2**20, 1) for kind, value in memory.items()},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller latents, fewer rows")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default 5)")
    parser.add_argument("--peak", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak_bytes(options.peak, options.rows, options.side))
        return
    result = measure(*((4, 16) if options.quick else (8, 32)), options.rounds)
    print(f"{'jacobian':28} {'seconds':>9} {'of skip':>8} {'MiB':>9} {'of skip':>8}", file=sys.stderr)
    for kind, ratio in result["ratios_to_skip"].items():
        time_, memory = result["median_seconds"][kind], result["peak_MiB"][kind]
        print(f"{kind:28} {time_:9.2f} {ratio['time']:8.2f} {memory:9.0f} {ratio['memory']:8.2f}", file=sys.stderr)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
