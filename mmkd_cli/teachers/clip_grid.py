"""CLIP's grid as a teacher: the cells of its image tower before pooling, at any size (papers: CLIP-ViL)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmkd_cli.architectures.clip_grids import PosEmbed, clip_cells, grid_part
from mmkd_cli.architectures.grids import GridTower, grid_signals
from mmkd_cli.architectures.open_clip_models import OpenClipModel
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.teachers.grids import RESIZE, GridInput, Resize, grid_specs


class ClipGridInput(GridInput):
    """Warped where nothing else is said, whatever else of it is."""

    resize: Resize = key("warp", RESIZE, source="[C] CLIP-ViL: 600 x 1000 (VQA), 448 x 448 (captions), pad 384 x 640")


class ClipGridConfig(Config):
    """An architecture of open_clip; the paper's are RN50, RN101, RN50x4 and ViT-B-32, each `-quickgelu`."""

    name: str = key("clip-grid", "the teacher")
    arch: str | None = key(
        None, "open_clip's name (`RN50-quickgelu` for OpenAI's weights), or `local-dir:FOLDER`", identity=False
    )
    weights: str | None = key(None, "its file or tag", identity=False)
    grid: ClipGridInput = key(ClipGridInput(), "how pictures are resized")
    blocks: int | None = key(
        None, "of a ViT, how many blocks run (None: all)", source="[C] captions: all; Pythia: all but the last", ge=1
    )
    pos_embed: PosEmbed = key(
        "interp", "of a ViT: its positions are interpolated, or zeros, which repeat the paper's ViT rows",
        source="[C] CLIP-ViL issues 13, 14, 20",
    )  # fmt: skip


class ClipGrid:
    """`grid`, `grid_size`, of padded pictures `grid_mask` (`teachers.grids`)."""

    Config: ClassVar[type] = ClipGridConfig

    def __init__(self, config: ClipGridConfig) -> None:
        self.config = config
        self._visual: Any = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _clip(self) -> OpenClipModel:
        if self.config.arch is None:
            raise UserError("teacher clip-grid: name open_clip's architecture and weights by --arch and --weights")
        return OpenClipModel(self.config.arch, self.config.weights)

    @cached_property
    def picture_transform(self) -> Any:
        own = self._clip.picture_transform
        return self.config.grid.transform(own.mean, own.std) or own

    @property
    def tokenize(self) -> None:
        return None

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Of the CLIP, with the grid's transform; the tokenizer has no say."""
        said = {name: value for name, value in self._clip.identity(memory).items() if name != "tokenizer"}
        return {**said, "transform": self.picture_transform.identity(), "blocks": self.config.blocks,
                "pos_embed": self.config.pos_embed}  # fmt: skip

    def signals(self) -> dict[str, SignalSpec]:
        return grid_specs(lambda pixels: self._cells(self._skeleton, pixels), self.picture_transform, default=True)

    @cached_property
    def _skeleton(self) -> Any:
        """The image tower on the meta device."""
        with torch.device("meta"):
            return self._clip.build().eval().visual

    def parameters_count(self) -> int:
        """Of the image tower."""
        return sum(parameter.numel() for parameter in self._skeleton.parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        self._device, self._dtype = device, getattr(torch, dtype)
        model: Any = self._clip.load().eval().requires_grad_(False)
        self._visual = model.visual.to(device, self._dtype)

    def tower(self, batch_norm: Literal["train", "frozen"], weights: bool = True) -> GridTower:
        """The image tower to be trained, in float32; without weights to be filled by a checkpoint's."""
        model: Any = self._clip.load() if weights else self._clip.build()
        return GridTower(grid_part(model.visual, self.config.blocks), self._cells, self.picture_transform, batch_norm)

    def _cells(self, visual: Any, pixels: Tensor) -> Tensor:
        return clip_cells(visual, pixels, self.config.blocks, self.config.pos_embed)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Any]:
        if self._visual is None:
            raise RuntimeError("Teacher.load comes before the first call")
        said = grid_signals(batch["pixels"], lambda pixels: self._cells(self._visual, pixels), self.picture_transform,
                            self._device, self._dtype)  # fmt: skip
        return {name: said[name] for name in signals}
