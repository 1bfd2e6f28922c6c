"""CIDEr-D as a reward: 5,000 captions against references that are indexed once, against pycocoevalcap's call.

    python examples/benchmarks/captions.py [--captions captions_val2017.json] [--quick]

The first caption of each picture is scored against its others: COCO's official captions where the file is given, else
those of the built-in scenes. Timed in turn in one process, medians over the rounds: `CiderD.score`, building its index,
pycocoevalcap's `Cider.compute_score`; and of all captions our tokenizer and the official Java one (left out by name
where there is no Java). The scores must agree to 1e-6.

The table goes to stderr, one JSON document to stdout. `--quick`: 1,000 pictures.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from mmkd_cli.metrics.cider import CiderD
from mmkd_cli.metrics.ptb_tokenizer import tokenize
from mmkd_cli.scenes.captions import captions as scene_captions
from mmkd_cli.scenes.world import scene

TARGETS = {"cider_speedup_vs_pycocoevalcap": ">= 10", "tokenizer_speedup_vs_java": "reported"}


def read_captions(file: Path | None, pictures: int) -> dict[int, list[str]]:
    """Captions of each picture, two at least."""
    captions: dict[int, list[str]] = {}
    if file is None:
        return {index: list(scene_captions(scene(0, index, "train"))) for index in range(pictures)}
    for row in json.loads(file.read_text("utf-8"))["annotations"]:
        captions.setdefault(row["image_id"], []).append(row["caption"])
    return dict(list(captions.items())[:pictures])


def measure(captions: dict[int, list[str]], rounds: int) -> dict[str, object]:
    tokens = tokenize(captions)
    references = {key: own[1:] for key, own in tokens.items()}
    candidates = {key: own[:1] for key, own in tokens.items()}
    ours, first = CiderD(list(references.values())), [own[0] for own in candidates.values()]
    official = {key: [{"caption": caption} for caption in own] for key, own in captions.items()}
    calls: dict[str, Callable[[], object]] = {
        "score": lambda: ours.score(first),
        "index": lambda: CiderD(list(references.values())),
        "pycocoevalcap": lambda: Cider().compute_score(references, candidates)[1],
        "tokenizer": lambda: tokenize(captions),
    }
    if shutil.which("java"):
        calls["java_tokenizer"] = lambda: PTBTokenizer().tokenize(official)
    else:
        print("java is not there: its tokenizer is left out", file=sys.stderr)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    said: dict[str, object] = {}
    for round_ in range(-1, rounds):  # round -1 warms up
        for name, call in calls.items():
            start = time.perf_counter()
            said[name] = call()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
    gap = float(np.abs(np.asarray(said["score"]) - np.asarray(said["pycocoevalcap"])).max())
    if gap > 1e-6:
        raise SystemExit(f"the scores differ by {gap}")
    if said.get("java_tokenizer", said["tokenizer"]) != said["tokenizer"]:
        raise SystemExit("the tokenizers differ")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {"cider_speedup_vs_pycocoevalcap": median["pycocoevalcap"] / median["score"]}
    if "java_tokenizer" in median:
        ratios["tokenizer_speedup_vs_java"] = median["java_tokenizer"] / median["tokenizer"]
    return {
        "sizes": {"pictures": len(captions), "references": sum(map(len, references.values()))},
        "ratios": ratios,
        "targets": TARGETS,
        "largest_difference": gap,
        "median_seconds": median,
        "seconds": seconds,
        "machine": {"processor": platform.machine(), "numpy": np.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, help="COCO's official captions_val2017.json")
    parser.add_argument("--quick", action="store_true", help="1,000 pictures instead of 5,000")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default 5)")
    options = parser.parse_args()
    result = measure(read_captions(options.captions, 1000 if options.quick else 5000), options.rounds)
    print(f"{'ratio':32} {'measured':>9}  to reach", file=sys.stderr)
    for name, value in result["ratios"].items():  # type: ignore[attr-defined]
        print(f"{name:32} {value:9.2f}  {TARGETS[name]}", file=sys.stderr)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
