"""A run of VLKD fine-tuned on captions and on questions, from cached CLIP or live; then asked and scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import BartForConditionalGeneration

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.metrics import captions
from mmkd_cli.stages import cache_teacher, evaluate, generate
from tests.architectures.tiny_bart import WIDTH
from tests.architectures.tiny_clip import DIM, tiny_clip
from tests.stages.finetune_chain import tuned
from tests.stages.made_data import make_data
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import clip_keys, make_vlkd_chain, taught


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of VLKD with the run `seeing`, and data `asked` (with questions) in the cache `asked-clip`."""
    folder = tmp_path_factory.mktemp("seeing")
    root = make_vlkd_chain(folder)
    taught(folder, "seeing", train__max_steps=2)
    splits: dict[str, Any] = {}
    for split, count in (("train", 32), ("val", 8)):
        images = datasets.load_from_disk(str(root / "data/squares/images" / split))
        questions = {"question_id": [f"{100 + i}" for i in range(count)], "question": ["what is it?"] * count,
                     "image_row": [*range(count)], "answers": [["red"] * 8 + ["blue"] * 2] * count}  # fmt: skip
        splits[split] = {"images": images, "questions": questions}
    make_data(root, "asked", splits)
    keys = {"data": "asked", "signals": ["image_embedding"], "cache__threads": 1, "cache__dtype": "float32"}
    cache_teacher.run(config_of(cache_teacher, **keys, **clip_keys(folder)), context(root, "asked-clip"))
    return folder


@pytest.fixture
def folder(chain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chain, tmp_path / "chain"))


def wrote(root: Path, name: str, task: str, **keys: Any) -> dict[str, Any]:
    given = {"task__name": task, "model": "tuned", "split": "val", "generation__max_new_tokens": 6, **keys}
    return generate.run(config_of(generate, **given), context(root, name))


def test_captions_of_a_tuned_run_are_written_and_scored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "has_java", lambda: False)  # METEOR takes half a minute to start
    root = folder / "work"
    made = tuned(root, "caption", "tuned", model="seeing", data="squares", cache="clip")
    run = artifacts.read(root / "runs/tuned")
    assert [(i.role, i.name) for i in run.inputs] == [("model", "seeing"), ("data", "squares"), ("cache", "clip")]
    assert run.plan["config"]["student"]["max_tokens"] == 48  # the run's own
    assert made["parameters"]["total"] - made["parameters"]["trainable"] == WIDTH * DIM  # W_e
    _, report = BartForConditionalGeneration.from_pretrained(run.path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert len(json.loads(Path(wrote(root, "captions", "caption")["predictions"]).read_text())) == 8
    keys = {"bench__name": "flickr8k-caption", "predictions": str(root / "results/captions/captions.json"),
            "bench__annotations": str(folder / "squares/annotations.json"), "split": "val"}  # fmt: skip
    scored = evaluate.run(config_of(evaluate, **keys), context(root, "scores"))
    assert scored["counts"]["items"] == 8


def test_answers_of_a_tuned_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The decoder begins with the answer, the encoder reads the question: as trained, with no flag."""
    root = folder / "work"
    tuned(root, "vqa-generative", "tuned", model="seeing", data="asked", cache="asked-clip", train__max_steps=60,
          train__peak_lr=0.01, student__dropout=0.0)  # fmt: skip
    found = wrote(root, "answers", "vqa", generation__num_beams=1)
    said = capsys.readouterr().err
    assert "task.prompt: '{question}', as run tuned was trained" in said and "task.prefix: ''" in said
    answers = json.loads(Path(found["predictions"]).read_text())
    assert [one["question_id"] for one in answers] == [*range(100, 108)]
    assert {one["answer"] for one in answers} == {"red"}


def test_live_clip_gives_the_losses_of_its_cache(folder: Path) -> None:
    root = folder / "work"
    shutil.rmtree(root / "runs/seeing/checkpoints")
    tuned(root, "caption", "cached", model="seeing", data="squares", cache="clip")
    tuned(root, "caption", "live", model="seeing", data="squares", live=True)
    run = artifacts.read(root / "runs/live")
    assert [i.role for i in run.inputs] == ["model", "data"] and run.plan["config"]["teacher"]["name"] == "clip"
    cached, live = ([json.loads(line) for line in (root / "runs" / name / "metrics.jsonl").read_text().splitlines()]
                    for name in ("cached", "live"))  # fmt: skip
    for one, other in zip(cached, live, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_another_teachers_cache_is_refused(folder: Path) -> None:
    root = folder / "work"
    tiny_clip(folder / "other", seed=9)
    keys = {"data": "squares", "signals": ["image_embedding"], "cache__threads": 1, "teacher__name": "clip",
            "teacher__arch": f"local-dir:{folder / 'other'}"}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(root, "other"))
    with pytest.raises(Refused, match=r"run 'seeing' was trained with another teacher: weights"):
        tuned(root, "caption", "x", model="seeing", data="squares", cache="other")
    with pytest.raises(UserError, match="no table 'questions' in 'train'"):
        tuned(root, "vqa-generative", "x", model="seeing", data="squares", cache="clip")
    assert not (root / "runs/x").exists()


def test_a_score_knows_what_the_whole_line_was_trained_on(folder: Path) -> None:
    """`asked` alone was never paired with captions, but the run before was trained on `squares`, contrastively."""
    root = folder / "work"
    tuned(root, "vqa-generative", "tuned", model="seeing", data="asked", cache="asked-clip")
    keys = {"bench__name": "retrieval", "model": "tuned", "data": "squares", "cache": "clip", "split": "val"}
    said = evaluate.run(config_of(evaluate, **keys), context(root, "scores"))["zero_shot"]
    assert said["value"] is False and "data 'squares'" in said["reason"]
