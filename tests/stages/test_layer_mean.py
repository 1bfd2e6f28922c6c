"""`distill --method layer-mean` from data to a run: of pictures and of texts, from a cache and live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import cache_teacher, distill, prepare_data
from mmkd_cli.students.encoder import Encoder
from tests.stages.small_chain import config_of, context, draw
from tests.students import small_students

SIZES = {"student__width": small_students.WIDTH, "student__heads": small_students.HEADS}


def teachers(folder: Path) -> dict[str, dict[str, Any]]:
    """Case -> keys of its teacher and of its student."""
    image, text, *_ = small_students.d2v2_files(folder)
    bert = small_students.bert_folder(folder / "bert", layers=4)
    d2v2 = {"teacher__name": "d2v2", "teacher__heads": small_students.HEADS}
    of_text = {"teacher__max_tokens": 24}
    return {
        "a": {**d2v2, "teacher__weights": str(image), **SIZES, "student__image_size": 32},
        "b": {"teacher__name": "text-encoder", "teacher__weights": str(bert), **of_text,
              "student__modality": "text", "student__init": "random"},  # the random teacher's own begin at its mean
        "b-prime": {**d2v2, "teacher__weights": str(text), "teacher__layer_tap": "block", **of_text, **SIZES,
                    "student__modality": "text", "student__text": "d2v2",
                    "student__vocabulary": small_students.BPE_TOKENS},
    }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    draw(folder / "squares", 40)
    keys = {"source__name": "flickr8k", "source__images": str(folder / "squares"),
            "source__annotations": str(folder / "squares" / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(folder / "work", "squares"))
    return folder / "work"


def lines(root: Path, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "runs" / run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", ["a", "b", "b-prime"])
def test_twenty_steps_from_a_cache_and_live(root: Path, tmp_path: Path, case: str) -> None:
    keys = teachers(tmp_path)[case]
    of_teacher = {name: value for name, value in keys.items() if name.startswith("teacher")}
    views = {"cache__views": 2} if case == "a" else {}
    stored = {"data": "squares", "signals": ("layer_mean",), "cache__dtype": "float32", "cache__threads": 1, **views}
    cache_teacher.run(config_of(cache_teacher, **stored, **of_teacher), context(root, case))
    index = json.loads((root / "caches" / case / "index.json").read_text())
    assert index["signals"]["layer_mean"].get("ragged", False) == (case != "a")
    asked = {
        "method__name": "layer-mean", "data": "squares", "train__max_steps": 20, "train__batch_size": 8,
        "train__peak_lr": 2e-3, "student__depth": 2, "student__blocks": "alternate",
        **{name: value for name, value in keys.items() if name.startswith("student")},
    }  # fmt: skip

    def trained(name: str, **more: Any) -> dict[str, Any]:
        return distill.run(config_of(distill, **asked, **more), context(root, name))

    cached = trained(case, cache=case)
    losses = [line["layer_mean"] for line in lines(root, case) if "layer_mean" in line]
    assert len(losses) == 20 and losses[-1] < losses[0]
    assert any("val/layer_mean" in line for line in lines(root, case))
    live = trained(f"{case}-live", cache=case, live=True, **of_teacher)
    again = [line["layer_mean"] for line in lines(root, f"{case}-live") if "layer_mean" in line]
    assert again == pytest.approx(losses, rel=1e-3)
    assert cached["parameters"] == live["parameters"]
    assert trained(case, cache=case)["status"] == "already done"

    run = artifacts.open_artifact(root, case, "run")
    student = Encoder.load(run.path, run.plan["config"])
    assert cached["parameters"]["total"] == sum(p.numel() for p in student.parameters())
    if case != "a":
        said = student(student.tokenize(["a red square", "a"]), "block")
        assert said.shape[0] == 2 and torch.isfinite(said).all()


def test_what_does_not_fit_is_said(root: Path, tmp_path: Path) -> None:
    keys = {**teachers(tmp_path)["b"], "student__init": "pretrained"}

    def trained(name: str = "refused", **more: Any) -> None:
        asked = {"method__name": "layer-mean", "data": "squares", "live": True, "train__batch_size": 8, **keys, **more}
        distill.run(config_of(distill, **asked), context(root, name))

    with pytest.raises(UserError, match="layer-mean does not train the student 'unimodal': name encoder"):
        distill.run(config_of(distill, method__name="layer-mean", data="squares", student__name="unimodal"),
                    context(root, "refused"))  # fmt: skip
    with pytest.raises(UserError, match="has 4 blocks, number 5 was asked for"):
        trained(student__depth=5)
    with pytest.raises(Refused, match="are not those of the student's tokenizer"):
        trained(student__depth=2, student__max_tokens=4)
    keys = teachers(tmp_path)["a"]
    with pytest.raises(UserError, match=r"the teacher's layer_mean is \[tokens, width\] .*: give the student"):
        trained("smaller", student__image_size=16, student__init="random", student__depth=2)
