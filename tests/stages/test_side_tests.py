"""J's side tests from data to a score: BEiT-2's blocks, and the mean of tokens as target; from a cache and live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.stages import cache_teacher, distill, evaluate
from tests.stages.small_chain import config_of, context, make_chain
from tests.students import small_students
from tests.students.test_mm_beit2 import beit2_file

CASES = {"j-relative-positions": ("mm-beit2", "image_cls"), "j-mean": ("mm-d2v2", "image_mean")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data `squares` and a cache `beit2` of both signals."""
    folder = tmp_path_factory.mktemp("side")
    root = make_chain(folder)
    small_students.d2v2_files(folder)
    stored = {"data": "squares", "signals": ("image_cls", "image_mean"), "cache__dtype": "float32", "cache__threads": 1}
    cache_teacher.run(config_of(cache_teacher, **stored, **teacher(folder)), context(root, "beit2"))
    return folder


def teacher(folder: Path) -> dict[str, Any]:
    return {"teacher__name": "beit2", "teacher__weights": str(beit2_file(folder / "beit2.pth"))}


@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_from_a_cache_and_live(folder: Path, case: str) -> None:
    root, (student, signal) = folder / "work", CASES[case]
    image = folder / ("beit2.pth" if student == "mm-beit2" else "image.pt")
    keys = {
        "method__name": "cls-regression", "method__signal": signal, "data": "squares", "cache": "beit2",
        "student__name": student, "student__image_weights": str(image), "student__image_size": 32,
        "student__text_weights": str(folder / "text.pt"), "student__vocabulary": small_students.BPE_TOKENS,
        "student__width": small_students.WIDTH, "student__heads": small_students.HEADS, "student__depth": 2,
        "student__max_tokens": 24, "train__max_steps": 20, "train__batch_size": 8, "train__peak_lr": 3e-3,
    }  # fmt: skip

    def losses(name: str, **more: Any) -> list[float]:
        distill.run(config_of(distill, **{**keys, **more}), context(root, name))
        lines = map(json.loads, (root / "runs" / name / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    cached = losses(case)
    assert len(cached) == 20 and sum(cached[-4:]) < sum(cached[:4])
    live = losses(f"{case}-live", live=True, train__max_steps=4, train__warmup_steps=2, **teacher(folder))
    again = losses(f"{case}-short", train__max_steps=4, train__warmup_steps=2)
    assert live == pytest.approx(again, rel=1e-3)
    said = evaluate.run(config_of(evaluate, bench__name="retrieval", model=case, data="squares", split="val"),
                        context(root))  # fmt: skip
    assert 0 <= said["metrics"]["mean_recall"] <= 100
