"""How models of cells see pictures: by grids that a cache holds, or by the teacher's image tower, trained with them.

B rows, K cells of C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmkd_cli.architectures.grids import GridTower
from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Targets, Teacher, TrainingData
from mmkd_cli.core.errors import Refused, UserError, nearest
from mmkd_cli.data.signals import GRID, GRID_MASK, dense, signal_width
from mmkd_cli.data.viewed import pixels_of
from mmkd_cli.students.cells import gathered_grids, grid_batch, grid_spec
from mmkd_cli.training.optim import decay_groups

Look = Callable[[np.ndarray], Batch]
"""Rows of the images table, [B] or of P pictures each [B, P] -> `grid_batch`'s tensors, or `pixels`. Picklable."""

TOWER_FILE = "tower.safetensors"
"""In a run's model/: the trained tower, by its library's names."""


class TowerConfig(Config):
    """Keys of the image tower, `[student.tower]`."""

    mode: Literal["cached", "trained"] = key(
        "cached", "grids come from a cache, or the teacher's tower is a part of the student and is trained with it",
        source="[P] CLIP-ViL: frozen in VQA and captions, trained in pre-training",
    )  # fmt: skip
    lr: float = key(3e-3, "of the tower's SGD", source="[C] CLIP-ViL Pretrain: 3e-3, fine-tuning 1e-3", gt=0)
    weight_decay: float = key(4e-4, "of the tower's SGD", source="[C] CLIP-ViL Pretrain", ge=0)
    momentum: float = key(0.0, "of the tower's SGD", source="[C] CLIP-ViL Pretrain", ge=0, lt=1)
    drops: tuple[float, ...] = key(
        (0.6, 0.85), "shares of all steps at which its rate is multiplied by drop_factor",
        source="[C] CLIP-ViL Pretrain: epochs 12 and 17 of 20",
    )  # fmt: skip
    drop_factor: float = key(0.1, "of the tower's rate", source="[C] CLIP-ViL Pretrain", gt=0)
    batch_norm: Literal["train", "frozen"] = key(
        "train", "of its batch norms: statistics of each batch, or the file's", source="[C] CLIP-ViL Pretrain: train"
    )

    @property
    def trained(self) -> bool:
        return self.mode == "trained"


@dataclass
class CachedCells:
    """`Look` of a cache's grids, each padded to so many cells."""

    targets: Targets
    cells: int
    mask_padding: bool

    def __call__(self, rows: np.ndarray) -> Batch:
        return gathered_grids(self.targets, rows, self.cells, self.mask_padding)


@dataclass
class CachedVectors:
    """`Look` of one vector of each picture [B, D], by the signal's name."""

    targets: Targets
    signal: str

    def __call__(self, rows: np.ndarray) -> Batch:
        return {self.signal: dense(self.targets.gather([self.signal], rows)[self.signal]).float()}


@dataclass
class Pictures:
    """`Look` of the pictures themselves: `pixels`, a list of uint8 [3, H, W], or of P of them. images: Arrow format."""

    images: Any
    transform: Any

    @classmethod
    def of(cls, images: Any, transform: Any) -> Pictures:
        """images: the table."""
        return cls(images.select_columns("image").with_format("arrow"), transform)

    def __call__(self, rows: np.ndarray) -> Batch:
        pixels = pixels_of(self.images, rows.reshape(-1), self.transform)
        many = rows.shape[1] if rows.ndim == 2 else 0
        return {"pixels": [pixels[at : at + many] for at in range(0, len(pixels), many)] if many else pixels}


@dataclass
class Sight:
    """What the data of a run show. channels: of a cell. cells: the most that a picture has. tower: to be trained, with
    its file's weights; teacher: whose it is. vector: the signal that takes the cells' place (of no cells). transform:
    of pictures that the student reads itself, by the tower or by an encoder of its own."""

    channels: int = 0
    cells: int = 0
    mask_padding: bool = False
    tower: GridTower | None = None
    teacher: Any = None
    vector: str = ""
    transform: Any = None

    def __post_init__(self) -> None:
        if self.tower is not None:
            self.transform = self.tower.transform

    def trains_on(self, data: TrainingData, split: str) -> bool:
        """Whether a feed is made of a split: always of `train`; of others where they are there, with their grids."""
        there = split in data.splits and (self.transform is not None or data.targets(split) is not None)
        return split == "train" or there

    def of(self, data: TrainingData, split: str) -> Look:
        if self.transform is not None:
            return Pictures.of(data.tables(split)["images"], self.transform)
        targets = data.targets(split)
        assert targets is not None
        if self.vector:
            return CachedVectors(targets, self.vector)
        return CachedCells(targets, self.cells, self.mask_padding)


def open_sight(config: Any, data: Sequence[TrainingData], start: Path | None = None) -> Sight:
    """config: the stage's. start: the run that training starts from; its tower, if it has one. UserError names what
    does not fit."""
    student, signal = config.student, getattr(config.student, "signal", GRID)
    if signal != GRID:
        if student.tower.trained:
            raise UserError("student.arch=two-tower sees cached vectors: leave student.tower.mode out")
        widths = {signal_width(one, signal) for one in data}
        if len(widths) > 1:
            wide = " and ".join(map(str, sorted(widths)))
            raise UserError(f"the data's {signal!r} are {wide} wide: cache one teacher's")
        return Sight(widths.pop(), vector=signal)
    if not student.tower.trained:
        if start is not None and (start / "model" / TOWER_FILE).exists():
            raise UserError(f"{start.name} trained its tower: no cache holds its grids: set student.tower.mode=trained")
        specs = [grid_spec(one) for one in data]
        channels = {spec.shape[-1] for spec in specs}
        if len(channels) > 1:
            raise UserError(
                f"the data's grids are {' and '.join(map(str, sorted(channels)))} wide: cache one teacher's"
            )
        return Sight(channels.pop(), max(spec.shape[0] for spec in specs), student.mask_padding)
    teacher = registry.load("teachers", config.teacher.name)(config.teacher)
    own = start is not None and (start / "model" / TOWER_FILE).exists()
    tower = _tower(teacher, student.tower, weights=not own)
    if own:
        assert start is not None
        load_tower(tower, start)
    cells, width = teacher.signals()[GRID].shape
    return Sight(width, cells, student.mask_padding, tower, teacher)


def counted_channels(student: Any, teacher: Teacher | None) -> tuple[int, int]:
    """Channels of a cell, or of the picture's vector, and parameters of the tower where it is trained."""
    if teacher is None:
        raise UserError("the cells' width comes from the teacher: name one ([teacher] name=..., or a cache)")
    offered, signal = teacher.signals(), getattr(student, "signal", GRID)
    if signal not in offered:
        raise UserError(f"teacher gives no signal {signal!r}{nearest(signal, offered)}")
    trained = 0
    if student.tower.trained:
        with torch.device("meta"):
            trained = sum(p.numel() for p in _tower(teacher, student.tower, weights=False).parameters()
                          if p.requires_grad)  # fmt: skip
    return offered[signal].shape[-1], trained


def _tower(teacher: Any, config: TowerConfig, *, weights: bool) -> GridTower:
    if not hasattr(teacher, "tower"):
        raise UserError("student.tower.mode=trained: this teacher has no tower of ours: name clip-grid or timm")
    made: GridTower = teacher.tower(config.batch_norm, weights)
    return made


def seen(model: Any, batch: Batch) -> Batch:
    """A batch of pictures as one of their cells, by the model's tower; one of cells, or of no tower, as it is."""
    if "pixels" not in batch or model.tower is None:
        return batch
    pixels = batch["pixels"]
    nested = isinstance(pixels[0], list)
    said = model.tower([one for row in pixels for one in row] if nested else pixels)
    cells = grid_batch(said, said[GRID].shape[1], model.config.mask_padding)
    if nested:
        cells = {name: value.unflatten(0, (len(pixels), -1)) for name, value in cells.items()}
    return {**{name: value for name, value in batch.items() if name != "pixels"}, **cells}


def own_transform(model: Any) -> Any:
    """Of a model that reads pictures itself, by its tower or its own encoder; None of one that sees a cache's cells."""
    return model.tower.transform if model.tower is not None else getattr(model, "picture_transform", None)


def kept_cells(cells: Batch, keys: Tensor, most: int) -> Batch:
    """At most so many of each picture's cells that are there: those with the largest keys [B, K], in their order."""
    there = cells[GRID_MASK]
    if not most or most >= there.shape[1]:
        return cells
    ranked = keys[:, : there.shape[1]].masked_fill(~there, -torch.inf)
    places = ranked.topk(most, dim=1).indices.sort(dim=1).values
    picked = {name: cells[name].gather(1, places) for name in (GRID_MASK, "cell_row", "cell_column") if name in cells}
    grid = cells[GRID].gather(1, places[:, :, None].expand(-1, -1, cells[GRID].shape[2]))
    return {**cells, **picked, GRID: grid}


def groups_of(model: Any, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Optimiser groups: matrices; tables, norms and biases without decay; the tower by its own SGD."""
    config, tower = model.config.tower, getattr(model, "tower", None)
    own = {id(p): p for p in tower.parameters() if p.requires_grad} if tower is not None else {}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    groups = decay_groups(model, rest, peak_lr, weight_decay)
    if not own:
        return groups
    train = {"optimizer": "sgd", "momentum": config.momentum, "schedule": "steps", "drops": config.drops,
             "drop_factor": config.drop_factor, "warmup_steps": 0}  # fmt: skip
    return [*groups, {"params": [*own.values()], "lr": config.lr, "weight_decay": config.weight_decay, "train": train}]


def save_tower(model: Any, folder: Path) -> None:
    """Write the trained tower, if there is one, into a run's model/."""
    if (tower := getattr(model, "tower", None)) is not None:
        state = {name: value.detach().cpu().contiguous() for name, value in tower.visual.state_dict().items()}
        save_file(state, folder / "model" / TOWER_FILE, metadata={"format": "pt"})


def attach_tower(model: Any, tower: GridTower | None) -> None:
    """Make the tower a part of the model, which then sees pictures and no cache's grids."""
    model.tower = tower
    if tower is not None:
        model.image_signal = None


def open_tower(folder: Path, config: TowerConfig, teacher: Any) -> GridTower | None:
    """The trained tower of a run's folder, None where it was not trained. teacher: the run's."""
    if not config.trained:
        return None
    if teacher is None:
        raise Refused(f"{folder} does not say of which teacher its tower is: train it again")
    tower = _tower(teacher, config, weights=False)
    load_tower(tower, folder)
    return tower


def load_tower(tower: GridTower, folder: Path) -> None:
    """Refused where the file is another tower's."""
    try:
        tower.visual.load_state_dict(load_file(folder / "model" / TOWER_FILE))
    except FileNotFoundError:
        raise Refused(f"{folder} trained no tower: set student.tower.mode=cached") from None
    except RuntimeError as error:
        raise Refused(f"{folder}/model/{TOWER_FILE} is not of the run's teacher: {error}") from None
