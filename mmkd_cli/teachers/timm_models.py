"""timm's vision models as teachers: pooled feature or CLS, logits, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from mmkd_cli.architectures.grids import GridTower, grid_signals
from mmkd_cli.architectures.state_dicts import read_state_dict
from mmkd_cli.architectures.timm_source import TimmSource, load_timm
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.grid_transform import GridTransform
from mmkd_cli.data.pictures import Transform
from mmkd_cli.data.signals import GRID
from mmkd_cli.teachers.grids import GridInput, grid_specs


class TimmConfig(Config):
    """Any timm model."""

    name: str = key("timm", "the teacher")
    arch: str = key(
        description="timm's name (`resnet50`, `resnet50.a1_in1k`), `local-dir:FOLDER` or `hf-hub:ID`", identity=False
    )
    weights: str | None = key(None, "file of weights, or timm's tag (default: the name's own tag)", identity=False)
    pool: Literal["model", "cls", "pooled"] = key(
        "model",
        "image_cls: what the model's classifier sees, the class token after the last norm, or the mean over space",
        source="[U] what its authors trained to be linear in the classes",
    )
    grid: GridInput = key(GridInput(), "how pictures are resized, for a grid of another size than the model's own")


class Timm:
    """A timm model: `image_cls`, `image_tokens` where it keeps tokens, `logits` where its weights hold a classifier.

    `grid` and what belongs to it (`teachers.grids`), where the model's features have a place in the picture.
    """

    Config: ClassVar[type] = TimmConfig
    default_signals: ClassVar[tuple[str, ...]] = ("image_cls",)

    def __init__(self, config: TimmConfig) -> None:
        self.config = config
        self._model: nn.Module | None = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _source(self) -> TimmSource:
        return TimmSource.of(self.config.arch, self.config.weights)

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Architecture, its arguments, SHA-256 of the weights, transform, pooling."""
        return {
            "library": "timm",
            **self._source.identity,
            "weights_sha256": sha256_file(self._source.weights_file(), memory),
            "transform": self.picture_transform.identity(),
            "pool": self.config.pool,
        }

    def _cells(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> [B, C, h, w]."""
        features = model.forward_features(pixels)
        if features.ndim == 3:
            tokens = features[:, getattr(model, "num_prefix_tokens", 0) :]
            return tokens.transpose(1, 2).unflatten(2, model.patch_embed.grid_size)
        return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", None) == "NHWC" else features

    @cached_property
    def _skeleton(self) -> nn.Module:
        """The model on the meta device: shapes and counts, no memory."""
        with torch.device("meta"):
            return self._source.build().eval()

    def signals(self) -> dict[str, SignalSpec]:
        with torch.device("meta"), torch.no_grad():
            said = self._say(self._skeleton, torch.empty(1, *self._data_config["input_size"]))
        specs = {
            name: SignalSpec(name, "images", tuple(value.shape[1:]), default=name in self.default_signals)
            for name, value in said.items()
        }
        return {**specs, **grid_specs(lambda pixels: self._cells(self._skeleton, pixels), self.picture_transform,
                                      default=False)}  # fmt: skip

    @cached_property
    def _data_config(self) -> dict[str, Any]:
        return resolve_data_config(pretrained_cfg=self._source.pretrained_cfg)

    @cached_property
    def picture_transform(self) -> Transform | GridTransform:
        own = self.config.grid.transform(self._data_config["mean"], self._data_config["std"])
        return own or Transform.from_timm(self._data_config)

    @property
    def tokenize(self) -> None:
        return None

    def parameters_count(self) -> int:
        return sum(parameter.numel() for parameter in self._skeleton.parameters())

    def tower(self, batch_norm: Literal["train", "frozen"], weights: bool = True) -> GridTower:
        """The model without its classifier, to be trained, float32; without weights to be filled by a checkpoint's."""
        model: Any = self._loaded() if weights else self._source.build()
        model.reset_classifier(0)
        return GridTower(model, self._cells, self.picture_transform, batch_norm)

    def _loaded(self) -> nn.Module:
        file, model = self._source.weights_file(), self._source.build()
        load_timm(model, read_state_dict(file, stand_ins=True), f"timm's {self._source.name}", file)
        return model

    def load(self, device: str, dtype: str = "float32") -> None:
        model = self._loaded()
        self._device, self._dtype = device, getattr(torch, dtype)
        model = model.eval().requires_grad_(False).to(device, self._dtype)
        self._model = model.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        said: dict[str, Any] = {}
        if any(name.startswith(GRID) for name in signals):
            said |= grid_signals(batch["pixels"], lambda pixels: self._cells(self._model, pixels),
                                 self.picture_transform, self._device, self._dtype)  # fmt: skip
        if rest := [name for name in signals if name not in said]:
            pixels = batch["pixels"]
            if not isinstance(pixels, Tensor):
                raise UserError(f"teacher.grid.resize={self.config.grid.resize} gives pictures of several sizes, of "
                                f"which {rest[0]} is not said: cache it apart, or use warp")  # fmt: skip
            pixels = self.picture_transform.normalize(pixels.to(self._device), self._dtype)
            said |= self._say(self._model, pixels.contiguous(memory_format=torch.channels_last), rest)
        return {name: said[name] for name in signals}

    def _say(self, model: Any, pixels: Tensor, signals: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Signals of normalised pixels [B, 3, H, W]; of all that the model has where none are named."""
        features = model.forward_features(pixels)
        said = {"image_cls": self._pool(model, features)}
        if features.ndim == 3:
            said["image_tokens"] = features
        if model.num_classes and (signals is None or "logits" in signals):
            said["logits"] = model.forward_head(features)
        return said

    def _pool(self, model: Any, features: Tensor) -> Tensor:
        """[B, d] of forward_features: tokens [B, n, d], or a map [B, d, h, w] (in some models [B, h, w, d])."""
        if self.config.pool == "model":
            return model.forward_head(features, pre_logits=True)
        if self.config.pool == "cls":
            if features.ndim != 3 or getattr(model, "cls_token", None) is None:
                raise UserError(
                    f"teacher.pool=cls: {self._source.name} has no class token: use pool=model or pool=pooled"
                )
            return features[:, 0]
        if features.ndim == 3:
            return features[:, getattr(model, "num_prefix_tokens", 0) :].mean(1)
        return features.mean((1, 2) if getattr(model, "output_fmt", None) == "NHWC" else (2, 3))


class DinoConfig(TimmConfig):
    """DINO's ViT: no classifier; its CLS after the final norm."""

    name: str = key("dino", "the teacher")
    arch: str = key("vit_base_patch16_224.dino", "timm's name", source="[C] TimCares/MasterThesis", identity=False)


class Dino(Timm):
    """DINO by timm (papers: Caron et al. 2021)."""

    Config: ClassVar[type] = DinoConfig


class ResNet50Config(TimmConfig):
    """Supervised ResNet-50."""

    name: str = key("resnet50", "the teacher")
    arch: str = key("resnet50.a1_in1k", "timm's name", source="[C] TimCares/MasterThesis", identity=False)


class ResNet50(Timm):
    """ResNet-50 by timm: 1,000 logits."""

    Config: ClassVar[type] = ResNet50Config
    default_signals: ClassVar[tuple[str, ...]] = ("image_cls", "logits")
