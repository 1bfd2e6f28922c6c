"""An image tower that is trained: its grids are the teacher's, with gradient; batch norms; what a grid needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core.errors import UserError
from mmkd_cli.teachers.clip_grid import ClipGrid, ClipGridConfig
from mmkd_cli.teachers.grids import GridInput
from mmkd_cli.teachers.timm_models import Timm, TimmConfig
from tests.contracts.tiny_teachers import open_clip_folder, timm_file

PAD = {"resize": "pad", "height": 64, "width": 96}


def pictures() -> list[torch.Tensor]:
    """One that lies and one that stands, in their own aspect."""
    made = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), generator=made, dtype=torch.uint8) for size in ((64, 90), (96, 64))]


def teachers(tmp_path: Path) -> list[Any]:
    file = str(timm_file("test_resnet", tmp_path, 0))
    timm = TimmConfig.model_validate({"arch": "test_resnet", "weights": file, "grid": PAD})
    (tmp_path / "clip").mkdir()
    clip = ClipGridConfig.model_validate({"arch": open_clip_folder(tmp_path / "clip", 0)["arch"], "grid": PAD})
    return [Timm(timm), ClipGrid(clip)]


@pytest.mark.parametrize("number", [0, 1])
def test_its_grids_are_the_teachers_with_gradient(tmp_path: Path, number: int) -> None:
    teacher = teachers(tmp_path)[number]
    teacher.load("cpu")
    wanted = teacher({"pixels": pictures()}, ["grid", "grid_size", "grid_mask"])
    tower = teacher.tower("train").eval()
    said = tower(pictures())
    for name, value in wanted.items():
        torch.testing.assert_close(said[name], value, rtol=1e-4, atol=1e-5)
    said["grid"].square().sum().backward()
    parameters = dict(tower.named_parameters())
    assert parameters and all(p.grad is not None and p.grad.isfinite().all() for p in parameters.values())
    empty = teacher.tower("train", weights=False)
    assert {n: p.shape for n, p in empty.named_parameters()} == {n: p.shape for n, p in parameters.items()}


def test_frozen_batch_norms_stay(tmp_path: Path) -> None:
    teacher = teachers(tmp_path)[0]
    frozen, trained = (teacher.tower(kind).train() for kind in ("frozen", "train"))
    before = {name: value.clone() for name, value in frozen.visual.state_dict().items()}
    for tower in (frozen, trained):
        tower(pictures())
    assert all(torch.equal(value, before[name]) for name, value in frozen.visual.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in trained.visual.state_dict().items())


def test_many_sizes_are_refused(tmp_path: Path) -> None:
    keys = TimmConfig(arch="test_resnet", grid=GridInput(resize="short", height=64, width=96),
                      weights=str(timm_file("test_resnet", tmp_path, 0)))  # fmt: skip
    with pytest.raises(UserError, match="short gives grids of many sizes"):
        Timm(keys).tower("train")
