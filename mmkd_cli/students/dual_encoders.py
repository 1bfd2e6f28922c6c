"""Whatever embeds pictures and texts, opened by its name: our runs, CLIP of open_clip and transformers, two halves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmkd_cli.core import artifacts, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.contracts import Batch, DualEncoder, PictureTransform, Teacher, Tokenize
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.references import moved, parse_model, teacher_table

IMAGE_SIGNALS = ("image_embedding", "image_cls")
TEXT_SIGNALS = ("text_embedding", "text_cls")


class TeacherEncoder:
    """A teacher's own vectors of pictures, of texts, or of both where it is a CLIP. Weights are read at first use."""

    image_signal: str | None = None
    layers: tuple[str, ...] = ("embedding",)

    def __init__(self, name: str, teacher: Teacher, device: str) -> None:
        self.name, self.teacher, self.device = name, teacher, device
        self._loaded = False

    def identity(self) -> dict[str, Any]:
        return {"teacher": self.name, **self.teacher.identity()}

    @property
    def picture_transform(self) -> PictureTransform:
        self._signal(IMAGE_SIGNALS, "pictures")
        assert self.teacher.picture_transform is not None
        return self.teacher.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        self._signal(TEXT_SIGNALS, "texts")
        assert self.teacher.tokenize is not None
        return self.teacher.tokenize

    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] of pixels."""
        return self._said(batch, self._signal(IMAGE_SIGNALS, "pictures"), layer)

    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] of token ids."""
        return self._said(batch, self._signal(TEXT_SIGNALS, "texts"), layer)

    def _said(self, batch: Batch, signal: str, layer: str | None) -> Tensor:
        check_layer(layer, self.layers)
        if not self._loaded:
            self.teacher.load(self.device)
            self._loaded = True
        return self.teacher(batch, [signal])[signal]

    def _signal(self, wanted: Sequence[str], what: str) -> str:
        offered = self.teacher.signals()
        found = next((name for name in wanted if name in offered), None)
        if found is None:
            raise UserError(f"model {self.name!r} gives no vector of {what}: name another model for that half")
        return found


class Halves:
    """Pictures by one model, texts by another, compared as they are: sensible where both have one width."""

    layers: tuple[str, ...] = ("embedding",)

    def __init__(self, image: DualEncoder, text: DualEncoder) -> None:
        self.image, self.text = image, text
        self.image_signal = image.image_signal

    def identity(self) -> dict[str, Any]:
        return {"image": self.image.identity(), "text": self.text.identity()}

    @property
    def picture_transform(self) -> PictureTransform:
        return self.image.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        return self.text.tokenize

    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] by the model of pictures."""
        check_layer(layer, self.layers)
        return self.image.embed_images(batch)

    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] by the model of texts."""
        check_layer(layer, self.layers)
        return self.text.embed_texts(batch)


def open_dual_encoder(
    reference: str | None, *, root: Path, image_model: str | None = None, text_model: str | None = None,
    device: str = "cpu", teacher_weights: str | None = None,
) -> DualEncoder:  # fmt: skip
    """The model of a name, or two halves. Names: RUN, open_clip:ARCH:FILE, hf:FOLDER, timm:ARCH:FILE, TEACHER:FILE.

    teacher_weights: where the weights of a run's teacher are now.
    """
    if reference is not None:
        return _open(reference, root, device, teacher_weights)
    if image_model is None or text_model is None:
        raise UserError("two halves are needed: give both --image-model and --text-model, or --model alone")
    return Halves(_open(image_model, root, device, teacher_weights), _open(text_model, root, device))


def check_layer(layer: str | None, layers: Sequence[str]) -> None:
    """UserError with the nearest name unless the layer is one of these, or None."""
    if layer is not None and layer not in layers:
        raise UserError(f"layer {layer!r} is not one of this model's{nearest(layer, layers)}")


def teacher_of(run: Artifact, weights: str | None = None) -> Teacher | None:
    """The teacher that a run's configuration names, without its weights; `weights`: where they are now."""
    table = run.plan["config"].get("teacher")
    return _teacher(moved(table, weights) if weights else table) if table else None


def _open(reference: str, root: Path, device: str, teacher_weights: str | None = None) -> DualEncoder:
    if parse_model(reference).library:
        return TeacherEncoder(reference, _teacher(teacher_table(reference)), device)
    run = artifacts.open_artifact(root, reference, "run")
    config = run.plan["config"]
    student = registry.load("students", config["student"]["name"]).load(
        run.path, config, teacher_of(run, teacher_weights)
    )
    opened: DualEncoder = student.to(device)
    return opened


def _teacher(table: dict[str, Any]) -> Teacher:
    chosen = registry.load("teachers", table["name"])
    made: Teacher = chosen(configs.validate(chosen.Config, table))
    return made
