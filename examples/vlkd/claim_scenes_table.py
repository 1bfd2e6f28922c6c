"""The tables of claim-scenes.sh, from the results in the root.

CIDEr x 100; answers by the official accuracy in percent; cells as ../tables.py has them. Retrieval and texts:
the mean over seeds, and the smallest and largest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import Values, cell, lines, row, table

from mmkd_cli.core import artifacts
from mmkd_cli.core.paths import default_root
from mmkd_cli.data.prepared import open_data
from mmkd_cli.metrics.vqa import vqa_accuracy

ARMS = {"all three": "all", "no TTDM": "no-ttdm", "no ITCL": "no-itcl", "no ICTI": "no-icti"}
BASELINES = ("constant", "nearest", "consensus")
TYPES = ("yes/no", "number", "other")


def finished(arm: str) -> list[str]:
    """The runs of an arm whose last text is written."""
    return sorted(file.stem for file in (default_root() / "text").glob(f"{arm}-s*.json"))


def captions(runs: dict[str, list[str]]) -> None:
    """CIDEr with their own pictures and with shuffled ones."""
    table(["captions", "CIDEr", "pictures shuffled", "difference"])
    for baseline in BASELINES:
        found = lines(f"{baseline}-captions")
        row(
            baseline,
            [cell(np.array([[100 * one["scores"]["CIDEr"] for one in found]]), [o["id"] for o in found]), "", ""],
        )
    for title, names in runs.items():
        own, other = (
            np.array([[100 * one["scores"]["CIDEr"] for one in lines(f"{name}{part}-captions")] for name in names])
            for part in ("", "-shuffled")
        )
        ids = [one["id"] for one in lines(f"{names[0]}-captions")]
        row(title, [cell(own, ids), cell(other, ids), cell(own - other, ids, sign=True)])


def answers(runs: dict[str, list[str]]) -> None:
    """Accuracy by answer type, beside the commonest training answer to questions that begin alike."""
    first = lines(f"{next(iter(runs.values()))[0]}-answers")
    kinds, images = np.array([one["answer_type"] for one in first]), np.array([one["image"] for one in first])
    places = {"overall": np.full(len(first), True), **{kind: kinds == kind for kind in TYPES}}
    table(["answers", *places])

    def said(title: str, values: Values, *, sign: bool = False) -> None:
        row(title, [cell(values[:, own], images[own], sign=sign) for own in places.values()])

    blind = commonest(first)
    said("commonest answer by the question's beginning", blind)
    for title, names in runs.items():
        own, other = (
            np.array([[one["accuracy"] for one in lines(f"{name}{part}-answers")] for name in names])
            for part in ("", "-shuffled")
        )
        said(title, own)
        said("pictures shuffled", other)
        said("difference", own - other, sign=True)
        said("difference to the commonest answer", own - blind, sign=True)


def commonest(asked: Sequence[dict[str, Any]]) -> Values:
    """Accuracy [1, n] of what is answered most often in training to questions of the same type."""
    data = open_data(default_root(), "world")
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    trained = data.table("questions", "train")
    for kind, answer in zip(trained["question_type"], trained["answer"], strict=True):
        counted[kind][answer] += 1
    test = data.table("questions", "test")
    people = dict(zip(test["question_id"], test["answers"], strict=True))
    says = {kind: found.most_common(1)[0][0] for kind, found in counted.items()}
    return np.array([[100 * vqa_accuracy(says[one["question_type"]], people[one["id"]]) for one in asked]])


def retrieval(runs: dict[str, list[str]]) -> None:
    """Recall of the encoder's vectors of captions and the teacher's of pictures."""
    columns = {f"{way.replace('_', ' ')} R@{k}": f"{way}_recall@{k}"
               for way in ("image_to_text", "text_to_image") for k in (1, 10)}  # fmt: skip
    table(["retrieval", *columns])
    for title, names in runs.items():
        folders = [artifacts.locate(default_root(), f"{name}-retrieved", "result") for name in names]
        scores = [json.loads((folder / "scores.json").read_text(encoding="utf-8"))["metrics"] for folder in folders]
        found = [[one[column] for one in scores] for column in columns.values()]
        row(title, [f"{np.mean(own):.1f} ({min(own):.1f} to {max(own):.1f})" for own in found])


def texts(runs: dict[str, list[str]]) -> None:
    """What text_kept.py says of texts that were never read, before and after."""
    folder: Path = default_root() / "text"
    before = json.loads((folder / "before.json").read_text(encoding="utf-8"))
    table(["held-out texts", *before])
    row("before", [f"{value:.3g}" for value in before.values()])
    for title, names in runs.items():
        after = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names]
        values = {kind: [one[kind] for one in after] for kind in before}
        row(title, [f"{np.mean(v):.3g} ({min(v):.3g} to {max(v):.3g})" for v in values.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    runs = {title: names for title, arm in ARMS.items() if (names := finished(arm))}
    print("seeds:", ", ".join(f"{title} {len(names)}" for title, names in runs.items()))
    captions(runs)
    answers(runs)
    retrieval(runs)
    texts(runs)


if __name__ == "__main__":
    main()
