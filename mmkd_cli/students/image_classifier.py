"""A model of pictures that tells classes apart: of timm, or the image blocks of a run of `distill`, with a head.

B pictures, C classes. A run's blocks classify the mean of their patches behind a norm (`architectures.pooled_encoder`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, resolve_data_config
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import ImageEncoder, Sizes
from mmkd_cli.architectures.pooled_encoder import PooledEncoder, head_of, new_head, timm_classifier
from mmkd_cli.architectures.state_dicts import load_strictly, read_state_dict
from mmkd_cli.architectures.timm_source import TimmSource, load_timm
from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.pictures import Transform

_OURS = "data2vec2-image-classifier"
"""`model_type` of what is no timm model."""


class ImageClassifierConfig(Config):
    """Keys of the student `image-classifier`."""

    name: str = key("image-classifier", "the student")
    arch: str | None = key(
        None, "timm's name, or local-dir:FOLDER (None: the image blocks of the run that training starts from)",
        source="[P] A: the run's",
    )  # fmt: skip
    weights: str | None = key(None, "with an arch its file, or timm's tag (None: the name's own)", identity=False)
    init: Literal["pretrained", "random"] = key("pretrained", "of an arch: its weights, or random", source="[U]")


class ImageClassifier(nn.Module):
    """timm's own model, or our image blocks, with a head for the labels; labels None: the classes have no names."""

    Config: ClassVar[type] = ImageClassifierConfig
    image_signal: str | None = None
    layers: tuple[str, ...] = ()

    def __init__(self, model: Any, labels: Sequence[str] | None) -> None:
        super().__init__()
        self.model, self.labels = model, list(labels) if labels is not None else None
        self.probed = False
        self.identified: dict[str, Any] | None = None

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(cls, config: ImageClassifierConfig, labels: Sequence[str], encoder: ImageEncoder | None) -> Self:
        """timm's model, or a run's image blocks, with a new head. `encoder`: these, None where an arch is named."""
        if encoder is not None:
            encoder.requires_grad_(True)
            encoder.embed.positions.requires_grad_(False)
            model: Any = PooledEncoder(encoder, len(labels))
            new_head(model)
            return cls(model, labels)
        source = TimmSource.of(_named(config), config.weights)
        return cls(timm_classifier(source, len(labels), config.init == "pretrained"), labels)

    @classmethod
    def empty(cls, config: ImageClassifierConfig, classes: int) -> Self:
        """The model on the meta device, of an arch."""
        with torch.device("meta"):
            source = TimmSource.of(_named(config), None)
            return cls(timm_classifier(source, classes, pretrained=False), None)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder."""
        about = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
        if about.get("model_type") != _OURS:
            found = cls.open(f"local-dir:{folder / 'model'}", None)
        else:
            model = PooledEncoder(ImageEncoder(Sizes(**about["sizes"])), len(about["label_names"]))
            load_strictly(model, load_file(folder / "model/model.safetensors"), "a classifier of pictures", folder)
            found = cls(model, about["label_names"])
        found.identified = {"student": "image-classifier", "model": sha256_file(folder / "model")}
        return found.eval()

    @classmethod
    def open(cls, arch: str, weights: str | None) -> Self:
        """A timm model with the classifier that its weights have; UserError where they have none."""
        source = TimmSource.of(arch, weights)
        file, model = source.weights_file(), source.build()
        if not getattr(model, "num_classes", 0):
            raise UserError(f"timm's {source.name}: {file} holds no classifier: name weights that have one, or train "
                            "it by `mmkd finetune --task image-classification`")  # fmt: skip
        load_timm(model, read_state_dict(file, stand_ins=True), f"timm's {source.name}", file)
        found = cls(model, _label_names(source))
        found.identified = {"library": "timm", **source.identity, "weights_sha256": sha256_file(file)}
        return found.eval()

    def new_labels(self, labels: Sequence[str]) -> None:
        """A new head for other labels."""
        if isinstance(self.model, PooledEncoder):
            self.model = PooledEncoder(self.model.encoder, len(labels))
        else:
            self.model.reset_classifier(len(labels))
        new_head(self.model)
        self.labels = list(labels)

    def identity(self) -> dict[str, Any]:
        assert self.identified is not None, "a student is identified by its folder"
        return self.identified

    @staticmethod
    def files(config: ImageClassifierConfig) -> dict[str, str]:
        """Key -> file whose content decides the first weights."""
        source = TimmSource.of(_named(config), config.weights)
        described = {"student.config": str(source.folder / "config.json")} if source.folder is not None else {}
        pretrained = config.init == "pretrained"
        return {**described, **({"student.weights": str(source.weights_file())} if pretrained else {})}

    # ------------------------------------------------------------------------------------------ training
    def probe(self) -> None:
        """Train the head alone: what is before it stays, and runs as in evaluation."""
        self.probed = True
        self.model.requires_grad_(False)
        for part in head_of(self.model):
            part.requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.probed:
            self.model.eval()
            for part in head_of(self.model):
                part.train(mode)
        return self

    # ------------------------------------------------------------------------------------------ running
    @property
    def classes(self) -> int:
        """How many it tells apart."""
        if isinstance(self.model, PooledEncoder):
            return self.model.head.out_features
        return int(self.model.num_classes)

    @property
    def picture_transform(self) -> Transform:
        """timm's for its model; of our blocks short side and centre crop of 7/8, as data2vec 2.0 evaluates."""
        if not isinstance(self.model, PooledEncoder):
            return Transform.from_timm(resolve_data_config(pretrained_cfg=self.model.pretrained_cfg))
        side, mean, std = self.model.encoder.sizes.image_size, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        return Transform((side, side), "shortest", side * 8 // 7, "bicubic", mean, std)

    def classify_images(self, batch: Batch) -> Tensor:
        """Logits [B, C], float32, of pixels uint8 [B, 3, H, W]; of `inputs`, float32, where they are normalised."""
        inputs = batch.get("inputs")
        if inputs is None:
            device = next(self.model.parameters()).device
            inputs = self.picture_transform.normalize(batch["pixels"].to(device), torch.float32)
        logits: Tensor = self.model(inputs)
        return logits.float()

    def save(self, folder: Path) -> None:
        """Write model/: a timm model as timm reads it (`local-dir:`), our blocks with their sizes; labels in both."""
        place = folder / "model"
        if not isinstance(self.model, PooledEncoder):
            timm.models.save_for_hf(self.model, str(place), {"label_names": self.labels}, safe_serialization=True)
            return
        place.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        save_file(state, place / "model.safetensors")
        about = {"model_type": _OURS, "sizes": asdict(self.model.encoder.sizes), "label_names": self.labels}
        paths.write_json(place / "config.json", about)


def _named(config: ImageClassifierConfig) -> str:
    if config.arch is None:
        raise UserError("name what is trained: a run by --model RUN, or a model of timm by --model timm:ARCH[:FILE]")
    return config.arch


def _label_names(source: TimmSource) -> list[str] | None:
    """Of a folder that names them, in the order of its classes."""
    if source.folder is None:
        return None
    about = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    names = about.get("label_names")
    return [str(name) for name in names] if isinstance(names, list) else None
