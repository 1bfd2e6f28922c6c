"""What every registered task of `finetune` keeps to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from mmkd_cli.core import registry
from mmkd_cli.core.config import Layer, describe, resolve
from mmkd_cli.core.contracts import Outputs, Position, SignalSpec
from mmkd_cli.stages import finetune
from mmkd_cli.tasks import answering, image_classification, navigation
from mmkd_cli.training.config import TrainConfig
from tests.architectures.tiny_bart import tiny_bart
from tests.data.small_houses import CHANNELS as VIEW_CHANNELS
from tests.pairs_in_memory import pairs
from tests.students import small_students
from tests.tasks.grids_in_memory import CELLS, CHANNELS, asked_grids, pairs_of_grids
from tests.tasks.test_image_classification import labelled_pictures
from tests.tasks.test_navigation import instructed
from tests.tasks.test_seeing import DIM, asked
from tests.tasks.test_summarization import articles
from tests.tasks.test_text_classification import labelled


def houses() -> Any:
    """Instructions and views in memory."""
    with TemporaryDirectory() as folder:
        return instructed(Path(folder))


def two_classes() -> Any:
    """As counting takes a head to be."""
    return labelled((0, 1, 1, 0, 0), datasets.ClassLabel(names=["no", "yes"]))


CASES: dict[str, tuple[str, Callable[[], Any], tuple[str, ...]]] = {
    "caption": ("bart", asked, ("image_embedding",)),
    "vqa-generative": ("bart", asked, ("image_embedding",)),
    "summarization": ("seq2seq", articles, ()),
    "text-classification": ("classifier", two_classes, ()),
    "vqa": ("mcan", asked_grids, ("grid",)),
    "gqa": ("mcan", asked_grids, ("grid",)),
    "snli-ve": ("mcan", asked_grids, ("grid",)),
    "nlvr": ("mcan", asked_grids, ("grid",)),
    "nlvr2": ("mcan", pairs_of_grids, ("grid",)),
    "retrieval": ("s-smke", pairs, ()),
    "image-classification": ("image-classifier", labelled_pictures, ()),
    "r2r": ("envdrop", houses, ("image_embedding",)),
    "r2r-speaker": ("speaker", houses, ("image_embedding",)),
}
"""Task -> student, data, signals (of data with pictures)."""


class TeacherSizes:
    """A teacher as counting asks for it."""

    def signals(self) -> dict[str, SignalSpec]:
        grid = SignalSpec("grid", "images", (CELLS, CHANNELS))
        views = SignalSpec("views", "viewpoints", (36, VIEW_CHANNELS))
        return {"image_embedding": SignalSpec("image_embedding", "images", (DIM,)), "grid": grid, "views": views}

    def parameters_count(self) -> int:
        return 1234


def stage(folder: Path, task: str) -> Any:
    student = registry.load("students", CASES[task][0])
    known = student.Config.model_fields
    sizes: dict[str, Any] = {"max_tokens": 48, "weights": str(tiny_bart(folder / "bart", dropout=0.0)), "layers": 1,
                             "width": 16, "heads": 2, "least": 1}  # fmt: skip
    if CASES[task][0] == "s-smke":
        bert = str(small_students.bert_folder(folder / "bert"))
        sizes |= {"text_weights": bert, "init": "random", "depth": 2, "width": small_students.WIDTH, "image_size": 32}
    elif task == "image-classification":
        sizes |= {"arch": "test_vit", "weights": None, "init": "random"}
    chosen = registry.load("finetune_tasks", task)
    return SimpleNamespace(
        task=chosen.Config(**{name: size for name, size in sizes.items() if name in chosen.Config.model_fields}),
        train=TrainConfig(), teacher=None, live=False,
        student=student.Config(**{name: size for name, size in sizes.items() if name in known}),
    )  # fmt: skip


def test_there_is_a_case_of_every_registered_task() -> None:
    assert CASES.keys() == registry.TABLES["finetune_tasks"].keys()


@pytest.mark.parametrize("task", CASES)
def test_a_task_trains_and_saves_its_student(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, chosen = stage(tmp_path, task), registry.load("finetune_tasks", task)
    assert chosen.signals(config, {"images", "texts", "questions"}) == CASES[task][2] and chosen.files(config) == {}
    trainable = chosen.build(config, [CASES[task][1]()], None, "cpu")
    batch = trainable.feeds[0].load(np.arange(3), Position(0, 0, 0))
    assert all(len(value) == 3 for value in batch.values())
    said, counts = trainable.forward(batch), trainable.counts(batch)
    assert isinstance(said, Outputs) and said.row_losses.keys() <= trainable.weights.keys()
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in said.row_losses.values())
    assert all(v.shape == (3,) for n, v in said.row_losses.items() if n not in counts)
    trained = [p for p in trainable.model.parameters() if p.requires_grad]
    grouped = [p for group in trainable.parameter_groups(1e-3, 0.01) for p in group["params"]]
    assert len(grouped) == len(trained) and {*map(id, grouped)} == {*map(id, trained)}
    joint = trainable.joint_losses(said.gathered) if said.gathered else {}
    assert joint.keys() <= trainable.weights.keys() or not trainable.weights
    torch.cat([loss.reshape(-1) for loss in (*said.row_losses.values(), *joint.values())]).sum().backward()
    assert all(p.grad is not None for p in trained)
    if vocabulary := getattr(trainable.model, "vocabulary", None):  # the data say how many words and answers there are
        monkeypatch.setattr(answering, "COUNTED", vocabulary)
        monkeypatch.setattr(chosen, "answers", len(vocabulary.answers), raising=False)
    if task == "image-classification":
        monkeypatch.setattr(image_classification, "COUNTED", trainable.model.classes)
    if task.startswith("r2r"):
        monkeypatch.setattr(navigation, "COUNTED", len(trainable.model.tokenize.words))
    counted = chosen.count(config, TeacherSizes())
    assert counted.total == sum(p.numel() for p in trainable.model.parameters())
    assert counted.trainable == sum(p.numel() for p in trained)
    run = tmp_path / "run"
    run.mkdir()
    trainable.save(run)
    student = registry.load("students", CASES[task][0]).load(run, {"student": config.student.model_dump(mode="json")})
    for name, value in trainable.model.state_dict().items():
        assert torch.equal(value, student.state_dict()[name]), name


@pytest.mark.parametrize("task", CASES)
def test_a_task_names_its_student_and_students_it_starts_from(task: str) -> None:
    chosen = registry.load("finetune_tasks", task)
    said = {"init": "random"} if task == "image-classification" else {"dropout": 0.5}
    config = resolve(finetune.Config, [Layer("test", {"task": task, "student": said})]).config
    assert config.student.name == CASES[task][0] and config.student.model_dump().items() >= said.items()
    assert config.student.name in chosen.trains
    assert {one for starts in chosen.trains.values() for one in starts} <= registry.TABLES["students"].keys()


@pytest.mark.parametrize("task", CASES)
def test_what_it_was_trained_for_are_keys_of_generate(task: str) -> None:
    chosen = registry.load("finetune_tasks", task)
    for name, keys in chosen.writes(chosen.Config()).items():
        registry.load("tasks", name).Config(**keys)


@pytest.mark.parametrize("task", CASES)
def test_every_key_is_described_and_says_where_its_default_comes_from(task: str) -> None:
    for row in describe(registry.load("finetune_tasks", task).Config):
        assert row.description and (row.source or row.key == "name"), row.key
