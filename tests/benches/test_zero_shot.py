"""Zero-shot or not, from manifests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.benches.zero_shot import zero_shot
from mmkd_cli.core.artifacts import Artifact


def data(source: str, fingerprint: str, files: str) -> Artifact:
    plan: dict[str, Any] = {"kind": "data", "stage": "prepare-data", "identity": {"files": {"annotations": files}}}
    manifest = {"fingerprint": fingerprint, "content": {"source": source}}
    return Artifact(Path(f"work/data/{source}-{fingerprint}"), plan, manifest)


def run(**method: float | str) -> Artifact:
    return Artifact(Path("work/runs/r"), {"kind": "run", "config": {"method": {"name": "m", **method}}}, None)


REGRESSION, CONTRASTIVE = run(contrastive_weight=0.0), run(contrastive_weight=0.5)
COCO, OTHER_COCO, MINE = data("coco", "a", "1"), data("coco", "b", "2"), data("image-text", "c", "3")


@pytest.mark.parametrize(
    ("trained", "on", "scored", "value", "why"),
    [
        (REGRESSION, [COCO], COCO, False, "the very data"),
        (REGRESSION, [MINE, OTHER_COCO], COCO, False, "the same set, coco"),
        (REGRESSION, [MINE], data("image-text", "d", "3"), False, "the same files"),
        (REGRESSION, [MINE], data("image-text", "d", "4"), True, "no contrastive loss"),
        (REGRESSION, [data("flickr8k", "e", "5")], data("flickr30k", "f", "6"), False, "extends Flickr8k"),
        (REGRESSION, [COCO], MINE, True, "trained on data 'coco-a' only"),
        (CONTRASTIVE, [COCO], MINE, False, "contrastive loss .method.contrastive_weight=0.5"),
        (run(itcl_weight=1.0), [COCO], MINE, False, "contrastive loss .method.itcl_weight=1.0"),
        (run(target_loss="mse"), [COCO], MINE, True, "no contrastive loss"),
        (run(target_loss="contrastive-target"), [COCO], MINE, False, "method.target_loss=contrastive-target"),
        (REGRESSION, [COCO, None], MINE, None, "no longer in the root"),
        (CONTRASTIVE, [COCO, None], MINE, False, "contrastive"),
        (None, [], MINE, None, "no manifest says what the model"),
    ],
)  # fmt: skip
def test_judgement(
    trained: Artifact | None, on: list[Artifact | None], scored: Artifact, value: bool | None, why: str
) -> None:
    said = zero_shot([trained] if trained else [], on, scored)
    assert said["value"] is value
    assert re.search(why, said["reason"]), said


def test_a_contrastive_loss_of_the_run_that_one_began_from_counts() -> None:
    said = zero_shot([REGRESSION, CONTRASTIVE], [COCO, COCO], MINE)
    assert said["value"] is False and "method.contrastive_weight=0.5" in said["reason"]
