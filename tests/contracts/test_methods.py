"""What every registered method keeps to, with every student it can train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from mmkd_cli.core import registry
from mmkd_cli.core.config import describe
from mmkd_cli.core.contracts import Outputs, Position, Ragged, SignalSpec
from mmkd_cli.teachers.clip import Clip, ClipConfig
from mmkd_cli.teachers.language_models import LanguageModelConfig, LanguageModelTeacher
from mmkd_cli.teachers.stable_diffusion import StableDiffusionConfig
from mmkd_cli.training.config import TrainConfig
from tests.architectures.tiny_bart import tiny_bart, tiny_gpt2
from tests.architectures.tiny_clip import tiny_clip
from tests.architectures.tiny_language_models import tiny_bert, tiny_language_model
from tests.architectures.tiny_stable_diffusion import MAX_TOKENS, WIDTH, stable_diffusion
from tests.pairs_in_memory import pairs
from tests.students import small_students
from tests.students.test_mm_beit2 import beit2_file
from tests.tasks.grids_in_memory import CELLS, CHANNELS, asked_grids


def students(folder: Path) -> dict[str, dict[str, Any]]:
    """A small table for each registered student."""
    image, text, *_ = small_students.d2v2_files(folder)
    sizes = {"width": small_students.WIDTH, "heads": small_students.HEADS, "max_tokens": 32}
    return {
        "unimodal": {**sizes, "text": "scratch", "depth": 1, "vocabulary": 64},
        "mm-d2v2": {**sizes, "image_weights": str(image), "text_weights": str(text), "depth": 2, "image_size": 32,
                    "vocabulary": small_students.BPE_TOKENS},
        "mm-beit2": {**sizes, "image_weights": str(beit2_file(folder / "beit2.pth")), "text_weights": str(text),
                     "depth": 2, "image_size": 32, "vocabulary": small_students.BPE_TOKENS},
        "encoder": {"width": small_students.WIDTH, "heads": small_students.HEADS, "image_size": 32, "depth": 2,
                    "weights": str(image)},
        "s-smke": {"width": small_students.WIDTH, "heads": small_students.HEADS, "image_size": 32, "depth": 2,
                   "image_weights": str(image), "text_weights": str(small_students.bert_folder(folder / "words")),
                   "max_tokens": 32},
        "clip": tiny_clip(folder / "clip"),
        "bart": {"weights": str(tiny_bart(folder / "bart", dropout=0.0)), "max_tokens": 48},
        "prefix": {"weights": str(tiny_gpt2(folder / "gpt2")), "max_tokens": 48},
        "vlp": {"weights": str(tiny_bert(folder / "bert"))},
    }  # fmt: skip


class TeacherSizes:
    """A teacher as counting asks for it."""

    def signals(self) -> dict[str, SignalSpec]:
        vectors = {name: SignalSpec(name, "images", (JOINT,)) for name in ("image_cls", "image_embedding")}
        return {**vectors, "grid": SignalSpec("grid", "images", (CELLS, CHANNELS))}

    def parameters_count(self) -> int:
        return 1234


JOINT = 24
"""Width of the teacher's vectors: the tiny CLIP's."""
DUAL_ENCODER = ("identity", "picture_transform", "tokenize", "embed_images", "embed_texts", "load", "files")
STREAMS = ("vlp", "encoder")
"""Students that embed nothing: a text and its picture are read together, or one of them alone."""
TRAINS = {"layer-mean": ("encoder",),
          "cls-regression": ("unimodal", "mm-d2v2", "mm-beit2", "s-smke"), "sds": ("clip",), "contrastive": ("clip",),
          "plm-kl": ("clip",), "vlkd": ("bart",), "prefix": ("prefix",), "vlp": ("vlp",)}  # fmt: skip
SIGNALS = {"layer-mean": ("layer_mean",),
           "cls-regression": ("image_cls",), "sds": ("text_states",), "contrastive": (), "plm-kl": (),
           "vlkd": ("image_embedding", "text_embedding"), "prefix": ("image_embedding",), "vlp": ("grid",)}  # fmt: skip
HEADLESS = ("contrastive", "layer-mean")
KEYS = {method: {"contrastive_weight": 1.0} for method in ("cls-regression", "sds", "contrastive")}
CASES = [(method, student) for method, students_ in TRAINS.items() for student in students_]


def stage(folder: Path, method: str, student: str) -> Any:
    teacher: Any = StableDiffusionConfig(weights=str(stable_diffusion(folder / "sd"))) if method == "sds" else None
    if method == "plm-kl":
        teacher = LanguageModelConfig(weights=str(tiny_language_model(folder / "lm")), max_tokens=12, topk=8)
    if method == "prefix":
        teacher = ClipConfig(**tiny_clip(folder / "teacher"))
    return SimpleNamespace(
        method=registry.load("methods", method).Config(**KEYS.get(method, {})),
        student=registry.load("students", student).Config(**students(folder)[student]),
        teacher=teacher,
        live=False,
        train=TrainConfig(),
    )


class Means:
    """layer_mean of a split's pictures: random numbers."""

    n_views = 0
    specs: ClassVar[Any] = {"layer_mean": SignalSpec("layer_mean", "images", (5, small_students.WIDTH))}

    def gather(self, signals: Any, rows: np.ndarray, views: Any = None) -> dict[str, torch.Tensor]:
        return {"layer_mean": torch.randn((len(rows), 5, small_students.WIDTH))}


class Tokens:
    """Token distributions of a split's texts, by the teacher itself."""

    n_views = 0

    def __init__(self, teacher: LanguageModelTeacher, texts: Any, split: str) -> None:
        self.teacher, self.texts, self.split, self.specs = teacher, texts, split, teacher.signals()
        teacher.load("cpu")

    def gather(self, signals: Any, rows: np.ndarray, views: Any = None) -> dict[str, Ragged]:
        texts = self.texts[rows.tolist()]["text"]
        batch = {"row": torch.from_numpy(rows), "split": self.split, **self.teacher.tokenize(texts)}
        said = self.teacher(batch, list(signals))
        return {name: Ragged(torch.cat(values), torch.tensor([0, *map(len, values)]).cumsum(0))
                for name, values in said.items()}  # fmt: skip


def data(method: str, config: Any = None) -> Any:
    if method == "plm-kl":
        made = pairs(pictures=12)
        teacher = LanguageModelTeacher(config.teacher)
        return [replace(made, targets=lambda split: Tokens(teacher, made.tables(split)["texts"], split))]
    if method == "layer-mean":
        return [replace(pairs(pictures=12), targets=lambda split: Means())]
    if method == "sds":
        return [pairs(pictures=12, states=(MAX_TOKENS, WIDTH))]
    if method == "vlp":
        return [asked_grids(rows=12)]
    joint = method in ("vlkd", "prefix")
    return [pairs(pictures=12, joint=JOINT) if joint else pairs(pictures=12, width=JOINT)]


def test_there_is_a_case_of_every_registered_method_and_student() -> None:
    assert TRAINS.keys() == registry.TABLES["methods"].keys()
    tuned = {student for task in registry.TABLES["finetune_tasks"]
             for student in registry.load("finetune_tasks", task).trains}  # fmt: skip
    assert {student for named in TRAINS.values() for student in named} | tuned == registry.TABLES["students"].keys()


@pytest.mark.parametrize(("method", "student"), CASES)
def test_a_method_trains_its_students(tmp_path: Path, method: str, student: str) -> None:
    config, chosen = stage(tmp_path, method, student), registry.load("methods", method)
    assert chosen.signals(config, {"images", "texts"}) == SIGNALS[method]
    trainable = chosen.build(config, data(method, config), "cpu")
    outputs, streams = Outputs(), {feed.stream: feed for feed in trainable.feeds}
    for feed in streams.values():  # a step takes a batch of each
        batch = feed.load(np.arange(10), Position(0, 0, 0))
        assert all(len(value) == 10 for value in batch.values())
        said, counts = trainable.forward(batch), trainable.counts(batch)
        assert isinstance(said, Outputs) and counts.keys() <= said.row_losses.keys()
        assert all(v.shape == (counts.get(n, 10),) and v.dtype == torch.float32 for n, v in said.row_losses.items())
        assert all(v.shape == (10,) and not v.requires_grad for v in said.report.values())
        outputs.row_losses |= said.row_losses
        outputs.gathered |= said.gathered
    joint = trainable.joint_losses(outputs.gathered)
    assert all(v.shape == () and v.dtype == torch.float32 and v.isfinite() for v in joint.values())
    assert {*outputs.row_losses, *joint} <= trainable.weights.keys()
    trained = [p for p in trainable.model.parameters() if p.requires_grad]
    grouped = [p for group in trainable.parameter_groups(1e-3, 0.01) for p in group["params"]]
    assert len(grouped) == len(trained) and {*map(id, grouped)} == {*map(id, trained)}
    torch.stack([*(v.mean() for v in outputs.row_losses.values()), *joint.values()]).sum().backward()
    assert all(p.grad is not None for p in trained)
    trainable.after_step(0, outputs.gathered)
    student_class = type(trainable.model)
    assert student in STREAMS or all(hasattr(student_class, name) for name in DUAL_ENCODER)


@pytest.mark.parametrize(("method", "student"), CASES)
def test_a_saved_run_is_the_trained_model(tmp_path: Path, method: str, student: str) -> None:
    config = stage(tmp_path, method, student)
    trainable = registry.load("methods", method).build(config, data(method, config), "cpu")
    trainable.model.eval()
    run = tmp_path / "run"
    run.mkdir()
    trainable.save(run)
    assert (run / "heads.safetensors").is_file() == (method not in ("contrastive", "layer-mean")) and any(
        (run / "model").iterdir()
    )
    plan = {"student": config.student.model_dump(mode="json")}
    teacher = Clip(config.teacher) if student == "prefix" else None  # its texts are embedded by its CLIP
    loaded = registry.load("students", student).load(run, plan, teacher)
    batch = trainable.feeds[-1].load(np.arange(5), Position(0, 0, 0))  # of pairs
    if student == "encoder":
        assert torch.equal(loaded(batch, "ffn"), trainable.model(batch, "ffn"))
        return
    if student in STREAMS:
        said, again = trainable.model(batch), loaded(batch)
        torch.testing.assert_close(again.pooled, said.pooled, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(loaded.word_logits(again.tokens), trainable.model.word_logits(said.tokens))
        return
    texts = loaded.tokenize(["a dog", "two"])
    torch.testing.assert_close(loaded.embed_texts(texts), trainable.model.embed_texts(texts), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(loaded.embed_images(batch), trainable.model.embed_images(batch), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("method", "student"), CASES)
def test_counting_needs_no_weights_and_is_exact(tmp_path: Path, method: str, student: str) -> None:
    config, chosen = stage(tmp_path, method, student), registry.load("methods", method)
    trainable = chosen.build(config, data(method, config), "cpu")
    if student == "unimodal":  # its vocabulary is what the captions gave
        words = len(trainable.model.tokenize.tokenizer)
        config.student = config.student.model_copy(update={"vocabulary": words})
    without = {"image_weights": None, "text_weights": None, "weights": None}
    known = type(config.student).model_fields.keys() & without.keys()
    sized_by = {"bart": "weights", "prefix": "weights", "vlp": "weights", "s-smke": "text_weights"}
    if student in sized_by:  # their sizes stand in the folder's config.json
        (Path(getattr(config.student, sized_by[student])) / "model.safetensors").unlink()
        known = known - {sized_by[student]}
    config.student = config.student.model_copy(update=dict.fromkeys(known))
    counts = chosen.count(config, TeacherSizes())
    sizes = [(p.numel(), p.requires_grad) for p in trainable.model.parameters()]
    assert counts.total == sum(n for n, _ in sizes)
    assert counts.trainable == sum(n for n, trained in sizes if trained)
    assert counts.teacher == 1234


@pytest.mark.parametrize("kind", ["methods", "students"])
def test_every_key_is_described_and_says_where_its_default_comes_from(kind: str) -> None:
    for name in registry.table(kind):
        for row in describe(registry.load(kind, name).Config):
            assert row.description, row.key
            assert row.source or not row.identity or row.key in ("name", "text_weights"), row.key
