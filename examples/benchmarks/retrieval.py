"""Retrieval of 5,000 pictures and 25,000 captions, 512 wide: all recalls both ways, against what it could cost.

    python examples/benchmarks/retrieval.py [--quick]

Times three things in turn in one process, medians over the rounds: the one matrix product that the scores need
(written into memory that is already there), `retrieval_ranks` with `retrieval_scores`, and CLIP_benchmark's recalls
(`pip install --no-deps clip-benchmark`; left out by name where absent). Peak memory is what a fresh process grows by
over its inputs (Linux only).

The table goes to stderr, one JSON document to stdout. `--quick`: 1,000 pictures, in seconds;
the whole takes minutes, nearly all of them CLIP_benchmark's, and 5 GB.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmkd_cli.metrics.retrieval import RECALL_KS, retrieval_ranks
from mmkd_cli.metrics.retrieval_scores import retrieval_scores

CAPTIONS, WIDTH = 5, 512
PEER_BATCH = 64  # CLIP_benchmark's default batch size
TARGETS = {"time_vs_product": "<= 1.5", "speedup_vs_clip_benchmark": ">= 9", "memory_vs_clip_benchmark": "<= 0.2"}


def embeddings(pictures: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised pictures [n, d], captions [5 n, d] scattered around them, and each caption's picture [5 n]."""
    torch.manual_seed(0)
    text_image = torch.arange(pictures * CAPTIONS) // CAPTIONS
    images = torch.randn(pictures, WIDTH)
    texts = torch.randn(len(text_image), WIDTH).mul_(3.5)
    texts.view(pictures, CAPTIONS, WIDTH).add_(images[:, None])
    images /= images.norm(dim=1, keepdim=True)
    texts /= texts.norm(dim=1, keepdim=True)
    return images, texts, text_image


def mmkd_recalls(images: Tensor, texts: Tensor, text_image: Tensor) -> list[float]:
    scores = retrieval_scores(retrieval_ranks(images, texts, text_image))
    return [scores[f"{way}_recall@{k}"] for k in RECALL_KS for way in ("text_to_image", "image_to_text")]


def clip_benchmark_recalls(images: Tensor, texts: Tensor, text_image: Tensor) -> list[float]:
    """The lines of clip_benchmark/metrics/zeroshot_retrieval.py that follow the embeddings, with its functions."""
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    scores = texts @ images.t()
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(scores)), text_image] = True
    return [
        100 * (batchify(recall_at_k, part, own, PEER_BATCH, "cpu", k=k) > 0).float().mean().item()
        for k in RECALL_KS
        for part, own in ((scores, positive), (scores.T, positive.T))
    ]


SCORERS: dict[str, Callable[[Tensor, Tensor, Tensor], list[float]]] = {
    "mmkd": mmkd_recalls,
    "clip_benchmark": clip_benchmark_recalls,
}


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (the highest since the last reset) of this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory_growth(scorer: str, pictures: int) -> int:
    """Bytes by which a fresh process grows over its inputs while the scorer runs."""
    call = [sys.executable, __file__, "--grow", scorer, "--pictures", str(pictures)]
    return int(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def measure(pictures: int, rounds: int, scorers: list[str]) -> dict[str, object]:
    """Seconds (each round's, in turn), ratios of medians, peak memory, and the recalls, which must agree."""
    inputs = embeddings(pictures)
    product = torch.empty(pictures, pictures * CAPTIONS)
    seconds: dict[str, list[float]] = {name: [] for name in ("product", *scorers)}
    recalls: dict[str, list[float]] = {}
    for round_ in range(-1, rounds):  # round -1 warms up
        for name in seconds:
            start = time.perf_counter()
            if name == "product":
                torch.mm(inputs[0], inputs[1].T, out=product)
            else:
                recalls[name] = SCORERS[name](*inputs)
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
    del product
    median = {name: statistics.median(values) for name, values in seconds.items()}
    memory = {name: memory_growth(name, pictures) for name in scorers if sys.platform == "linux"}
    ratios = {"time_vs_product": median["mmkd"] / median["product"]}
    if "clip_benchmark" in scorers:
        ratios["speedup_vs_clip_benchmark"] = median["clip_benchmark"] / median["mmkd"]
        if memory:
            ratios["memory_vs_clip_benchmark"] = memory["mmkd"] / memory["clip_benchmark"]
        gap = max(abs(a - b) for a, b in zip(recalls["mmkd"], recalls["clip_benchmark"], strict=True))
        if gap > 1e-4:
            raise SystemExit(f"the recalls differ by {gap} points: {recalls}")
    return {
        "sizes": {"pictures": pictures, "captions": pictures * CAPTIONS, "width": WIDTH},
        "ratios": ratios,
        "targets": TARGETS,
        "median_seconds": median,
        "seconds": seconds,
        "memory_bytes": memory,
        "recalls": recalls["mmkd"],
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 pictures instead of 5,000")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default 5)")
    parser.add_argument("--pictures", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--grow", choices=sorted(SCORERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    pictures = options.pictures or (1000 if options.quick else 5000)
    if options.grow:
        small = embeddings(20)
        SCORERS[options.grow](*small)  # loads the library's kernels and threads, which are no part of the cost
        inputs = embeddings(pictures)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
        before = resident_bytes("VmRSS")
        SCORERS[options.grow](*inputs)
        print(resident_bytes("VmHWM") - before)
        return
    scorers = ["mmkd"]
    if importlib.util.find_spec("clip_benchmark"):
        scorers.append("clip_benchmark")
    else:
        print("clip_benchmark is not installed: its rows are left out", file=sys.stderr)
    result = measure(pictures, options.rounds, scorers)
    print(f"{'ratio':28} {'measured':>9}  to reach", file=sys.stderr)
    for name, value in result["ratios"].items():
        print(f"{name:28} {value:9.3f}  {TARGETS[name]}", file=sys.stderr)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
