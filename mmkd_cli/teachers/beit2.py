"""BEiT-2 (Peng et al. 2022) as a teacher: the CLS that its bottleneck made global, after or before the last norm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from timm.data import resolve_data_config
from timm.models.beit import Beit
from torch import Tensor

from mmkd_cli.architectures.beit2 import (
    Beit2Sizes,
    beit2_sizes,
    beit2_weights,
    build_beit2,
    has_class_norm,
    load_beit2,
)
from mmkd_cli.architectures.state_dicts import read_state_dict
from mmkd_cli.architectures.timm_source import TimmSource
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.pictures import Transform


class Beit2Config(Config):
    """The authors' self-supervised or fine-tuned checkpoint, or timm's fine-tuned tags."""

    name: str = key("beit2", "the teacher")
    arch: str = key(
        "beitv2_base_patch16_224", "timm's name, with a tag for timm's weights; a file of weights says its own sizes",
        source="[C] TimCares/MasterThesis", identity=False,
    )  # fmt: skip
    weights: str | None = key(
        None, "file: beitv2_base_patch16_224_pt1k.pth (timm has fine-tuned weights alone)", identity=False
    )
    cls: Literal["post_norm", "pre_norm"] = key(
        "post_norm", "the CLS after or before the last norm",
        source="[C] TimCares/MasterThesis: after it in MM-D2V2, before it in the last S-SMKE",
    )  # fmt: skip


class Beit2:
    """`image_cls`, `image_tokens`; of fine-tuned weights `logits`, and `image_cls` only before the norm.

    A fine-tuned model's only norm is over the mean of its patches: of its CLS no norm was trained.
    """

    Config: ClassVar[type] = Beit2Config

    def __init__(self, config: Beit2Config) -> None:
        self.config = config
        self._model: Beit | None = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _source(self) -> TimmSource:
        named = self.config.weights
        if named and not Path(named).is_file() and "/" not in named and "." not in named:  # a tag of timm's
            return TimmSource.of(self.config.arch, named)
        return TimmSource.of(self.config.arch, None)

    @cached_property
    def _file(self) -> Path | None:
        """The weights on this machine, None where they would have to be fetched or are not there."""
        return Path(self.config.weights) if self.config.weights and Path(self.config.weights).is_file() else None

    def _weights_file(self) -> Path:
        if self._file is not None:
            return self._file
        if "." in self._source.name:
            return self._source.weights_file()
        missing = f"weights {self.config.weights} are not there" if self.config.weights else "it has no default weights"
        raise UserError(
            f"teacher beit2: {missing}: get beitv2_base_patch16_224_pt1k.pth, and name it by --weights FILE, "
            "or name one of timm's fine-tuned tags by --arch beitv2_base_patch16_224.TAG"
        )

    @cached_property
    def _layout(self) -> tuple[Beit2Sizes, bool]:
        """Sizes, and whether there is a norm of the CLS: by the file where it is on this machine."""
        if self._file is not None:
            shapes = beit2_weights(_read(self._file, "meta"))
            return beit2_sizes(shapes, self._file), has_class_norm(shapes)
        if "." not in self._source.name:
            return Beit2Sizes(), True
        with torch.device("meta"):
            shapes = beit2_weights(self._source.build().state_dict())
        return beit2_sizes(shapes, Path(self._source.name)), has_class_norm(shapes)

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Sizes, SHA-256 of the weights, transform, which CLS."""
        return {
            "library": "beit2",
            "sizes": self._layout[0].to_json(),
            "weights_sha256": sha256_file(self._weights_file(), memory),
            "transform": self.picture_transform.identity(),
            "cls": self.config.cls,
        }

    def signals(self) -> dict[str, SignalSpec]:
        sizes, class_norm = self._layout
        tokens = 1 + (sizes.image_size // sizes.patch_size) ** 2
        specs = []
        if class_norm or self.config.cls == "pre_norm":
            specs = [
                SignalSpec("image_cls", "images", (sizes.width,)),
                SignalSpec("image_tokens", "images", (tokens, sizes.width), default=False),
                SignalSpec("image_mean", "images", (sizes.width,), default=False),
            ]
        if sizes.classes:
            specs.append(SignalSpec("logits", "images", (sizes.classes,)))
        return {spec.name: spec for spec in specs}

    @cached_property
    def picture_transform(self) -> Transform:
        size = self._layout[0].image_size
        return Transform.from_timm(
            resolve_data_config(pretrained_cfg={**self._source.pretrained_cfg, "input_size": (3, size, size)})
        )

    @property
    def tokenize(self) -> None:
        return None

    def parameters_count(self) -> int:
        sizes, class_norm = self._layout
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build_beit2(sizes, class_norm=class_norm).parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        file = self._weights_file()
        self._device, self._dtype = device, getattr(torch, dtype)
        model = load_beit2(beit2_weights(_read(file)), file)
        self._model = model.eval().requires_grad_(False).to(device, self._dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        pixels = self.picture_transform.normalize(batch["pixels"].to(self._device), self._dtype)
        before, after = _around_norm(self._model, pixels)
        said = before if self.config.cls == "pre_norm" else after
        values = {"image_cls": said[:, 0], "image_tokens": said, "image_mean": said.mean(dim=1)}
        if "logits" in signals:
            values["logits"] = self._model.forward_head(after)
        return {name: values[name] for name in signals}


def _around_norm(model: Beit, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B, 1 + patches, d] before and after the last norm (the same where the model has none)."""
    kept: list[Tensor] = []
    handle = model.norm.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    try:
        after = model.forward_features(pixels)
    finally:
        handle.remove()
    return kept[0], after


def _read(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    return read_state_dict(file, stand_ins=True, device=device)
