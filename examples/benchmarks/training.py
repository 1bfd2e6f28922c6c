"""A training step: our loop against a bare PyTorch loop, a cache against memory, and a cache against a live teacher.

    python examples/benchmarks/training.py [--quick]

The student is a text transformer, 256 wide, that regresses cached vectors [1280] and takes part in an InfoNCE loss:
batches of 128 captions of 32 tokens. The bare loop has the same model, batches, losses and optimiser, and nothing
else: no seeds, no metrics, no checks. From the cache, each batch's targets are gathered from shards of 30,000 rows in
bfloat16; in memory, they are indexed out of a tensor. A step's time is that between two ends of steps; each pair is
timed in turn in one process, medians over the rounds. The live teacher is a ViT-B/16 that is given the pictures of
each batch (256 px JPEGs, decoded on the way), its student 7 layers, 768 wide, 64 tokens, batches of 32.

On a machine with other work the processor time of the main thread (`thread_ratios`; all of the computing where torch
has one thread) says more than the clock.

The table goes to stderr, one JSON document to stdout. `--quick`: fewer steps, two layers instead of four.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cache import photos
from torch import Tensor, nn

from mmkd_cli.cache.index import Index
from mmkd_cli.cache.live import LiveTargets
from mmkd_cli.cache.reader import CacheTargets, open_cache
from mmkd_cli.cache.writer import ShardWriter
from mmkd_cli.core import artifacts, console, paths
from mmkd_cli.core.artifacts import FileRecord, Plan
from mmkd_cli.core.contracts import Batch, Feed, Outputs, Position, SignalSpec, Trainable
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.regression import cls_regression_per_row
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from mmkd_cli.training.sampler import Sampler

ROWS, TARGET_WIDTH, WIDTH, TOKENS, VOCABULARY, BATCH = 30_000, 1_280, 256, 32, 8_192, 128
LIVE_ROWS, LIVE_BATCH = 64, 32
TARGETS = {"loop_vs_bare": "<= 1.03", "cache_vs_memory": "<= 1.05", "live_vs_cache": "reported"}


Moment = tuple[float, float]
"""Seconds of the clock, seconds of this thread on a processor."""


def now() -> Moment:
    return time.perf_counter(), time.thread_time()


@dataclass
class MemoryTargets:
    """Targets that are already there."""

    values: Tensor

    def gather(self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        return {signal: self.values[torch.from_numpy(rows)] for signal in signals}


@dataclass
class CaptionFeed:
    """Token ids from memory, targets from wherever they are kept."""

    tokens: Tensor
    targets: MemoryTargets | CacheTargets | LiveTargets
    name: str = "captions"
    rows: int = ROWS
    weight: float = 1.0
    stream: str = ""

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        target = self.targets.gather(["image_cls"], rows)["image_cls"].float()
        return {"input_ids": self.tokens[torch.from_numpy(rows)], "image_cls": target}


class TextStudent(nn.Module):
    def __init__(self, layers: int, width: int, tokens: int, target_width: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Parameter(torch.randn(tokens, width) * 0.02)
        block = nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, target_width)

    def forward(self, batch: Batch) -> Tensor:
        hidden = self.blocks(self.tokens(batch["input_ids"]) + self.places)
        vectors: Tensor = self.head(hidden.mean(dim=1))
        return vectors


class Distillation(Trainable):
    """Notes when each step ended."""

    def __init__(
        self, layers: int, feed: CaptionFeed, width: int = WIDTH, tokens: int = TOKENS, target_width: int = TARGET_WIDTH
    ) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = TextStudent(layers, width, tokens, target_width)
        self.feeds: Sequence[Feed] = [feed]
        self.ends: list[Moment] = []

    def forward(self, batch: Batch) -> Outputs:
        said = self.model(batch)
        return Outputs(
            {"regression": cls_regression_per_row(said, batch["image_cls"])},
            {"text": said, "image": batch["image_cls"]},
        )

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {"contrastive": info_nce(gathered["image"], gathered["text"], 20.0)}

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        self.ends.append(now())

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "lr": peak_lr, "weight_decay": weight_decay}]


def our_loop(trained: Distillation, config: TrainConfig) -> list[Moment]:
    """When each step of `mmkd_cli.training.loop` ended."""
    with tempfile.TemporaryDirectory() as folder:
        train(trained, config, Path(folder), device=torch.device("cpu"))
    return trained.ends


def bare_loop(trained: Distillation, config: TrainConfig) -> list[Moment]:
    """The same by hand, on batches that are ready."""
    sampler = Sampler(trained.feeds, BATCH, config.seed)
    steps = config.max_steps or 0
    batches = [trained.feeds[0].load(sampler.batch(s).parts[0].rows, Position(0, s, 0)) for s in range(steps)]
    groups = trained.parameter_groups(config.peak_lr, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
    trained.model.train()
    ends = []
    for batch in batches:
        said = trained.model(batch)
        loss = cls_regression_per_row(said, batch["image_cls"]).mean() + info_nce(batch["image_cls"], said, 20.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ends.append(now())
    return ends


def make_cache(folder: Path, values: Tensor) -> CacheTargets:
    """A finished cache of these vectors in four shards."""
    count, width = values.shape
    index = Index({"image_cls": SignalSpec("image_cls", "images", (width,))}, {"train": {"images": count}},
                  {"images": -(-count // 4)})  # fmt: skip
    _, artifact = artifacts.begin(folder, Plan("cache", "cache-teacher", folder.name, {"rows": count}, {}))
    paths.write_json(folder / "index.json", index.to_json())
    files = {"index.json": FileRecord.of(folder / "index.json")}
    for shard in index.shards():
        writer = ShardWriter(index, shard)
        rows = np.arange(shard.first, shard.last)
        writer.put(rows, {"image_cls": values[rows]})
        files[shard.file] = writer.commit(folder, artifact.plan["request"])
    artifacts.finish(artifact, content={"rows": count}, files=files, hashed={}, started=time.time())
    return open_cache(folder).targets("train")


def step_seconds(ends: Sequence[Moment]) -> list[Moment]:
    """Times between steps, the first few left out."""
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(ends[2:])]


def live_and_cached(folder: Path, steps: int, rounds: int) -> tuple[list[Moment], list[Moment]]:
    """Steps with a ViT-B/16 that runs beside the student, and the same steps from its cache."""
    import timm
    from safetensors.torch import save_file

    from mmkd_cli.cache.inputs import TeacherInputs
    from mmkd_cli.data.prepared import open_data
    from mmkd_cli.teachers.timm_models import Timm, TimmConfig

    arch, width, length = "vit_base_patch16_224", 768, 64
    photos(folder, LIVE_ROWS)
    save_file(timm.create_model(arch).state_dict(), folder / "weights.safetensors")
    teacher = Timm(TimmConfig(arch=arch, weights=str(folder / "weights.safetensors"), pool="cls"))
    teacher.load("cpu")
    cached = make_cache(folder / "caches" / "vit", torch.randn(LIVE_ROWS, width).bfloat16())
    inputs = TeacherInputs(teacher, open_data(folder, "photos"), 0, open_cache(folder / "caches" / "vit").index)
    tokens = torch.randint(VOCABULARY, (LIVE_ROWS, length))
    feeds = [
        CaptionFeed(tokens, targets, rows=LIVE_ROWS) for targets in (LiveTargets(teacher, inputs, "train"), cached)
    ]
    config = TrainConfig(batch_size=LIVE_BATCH, max_steps=steps, validation=False)
    seen: tuple[list[Moment], list[Moment]] = ([], [])
    for _ in range(rounds):
        for feed, spans in zip(feeds, seen, strict=True):
            spans += step_seconds(our_loop(Distillation(7, feed, width, length, width), config))
    return seen


def ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    return {
        "loop_vs_bare": seconds["memory"] / seconds["bare"],
        "cache_vs_memory": seconds["cache"] / seconds["memory"],
        "live_vs_cache": seconds["live"] / seconds["cache of the live teacher"],
    }


def measure(layers: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step (medians of all rounds) and the two ratios."""
    torch.manual_seed(0)
    tokens = torch.randint(VOCABULARY, (ROWS, TOKENS))
    values = torch.randn(ROWS, TARGET_WIDTH).bfloat16()
    config = TrainConfig(batch_size=BATCH, max_steps=steps, validation=False)
    seconds: dict[str, list[Moment]] = {"bare": [], "memory": [], "cache": []}
    with tempfile.TemporaryDirectory() as folder:
        memory = CaptionFeed(tokens, MemoryTargets(values))
        cached = CaptionFeed(tokens, make_cache(Path(folder) / "caches" / "benchmark", values))
        for round_ in range(rounds):
            seconds["bare"] += step_seconds(bare_loop(Distillation(layers, memory), config))
            seconds["memory"] += step_seconds(our_loop(Distillation(layers, memory), config))
            seconds["cache"] += step_seconds(our_loop(Distillation(layers, cached), config))
            print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
        seconds["live"], seconds["cache of the live teacher"] = live_and_cached(Path(folder) / "live", 4, rounds)
    median = {name: statistics.median(clock for clock, _ in spans) for name, spans in seconds.items()}
    thread = {name: statistics.median(busy for _, busy in spans) for name, spans in seconds.items()}
    return {
        "sizes": {"layers": layers, "width": WIDTH, "batch": BATCH, "tokens": TOKENS, "rows": ROWS, "steps": steps},
        "ratios": ratios(median),
        "thread_ratios": ratios(thread),
        "targets": TARGETS,
        "median_seconds": median,
        "thread_seconds": thread,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two layers, fewer steps")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default 5)")
    options = parser.parse_args()
    console.LEVEL.quiet = True
    result = measure(2 if options.quick else 4, 12 if options.quick else 30, options.rounds)
    print(f"{'ratio':20} {'clock':>9} {'thread':>9}  to reach", file=sys.stderr)
    for name, value in result["ratios"].items():
        print(f"{name:20} {value:9.3f} {result['thread_ratios'][name]:9.3f}  {TARGETS[name]}", file=sys.stderr)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
