"""Grids of cells: shapes and values against plain forwards of the towers, and pictures of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.grid_transform import GridTransform
from mmkd_cli.teachers.clip_grid import ClipGrid, ClipGridConfig, ClipGridInput
from mmkd_cli.teachers.grids import GridInput
from mmkd_cli.teachers.timm_models import Timm, TimmConfig
from tests.contracts.tiny_teachers import timm_file


def clip_file(arch: str, folder: Path) -> tuple[Any, str]:
    """An open_clip model with random weights, positions that are not small, and its file."""
    torch.manual_seed(0)
    model = open_clip.create_model(arch).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
    file = folder / f"{arch}.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return model, str(file)


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Noise, of (width, height)."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def said(teacher: Any, images: list[Image.Image]) -> dict[str, Any]:
    pixels = [teacher.picture_transform(image) for image in images]
    same = len({picture.shape for picture in pixels}) == 1
    given = {"pixels": torch.stack(pixels) if same else pixels}
    return teacher(given, list(teacher.signals()))


def plain_resnet(visual: Any, x: torch.Tensor) -> torch.Tensor:
    """Layer by layer, as the released model reads; no attention pool."""
    for n in (1, 2, 3):
        x = getattr(visual, f"act{n}")(getattr(visual, f"bn{n}")(getattr(visual, f"conv{n}")(x)))
    x = visual.avgpool(x)
    for n in (1, 2, 3, 4):
        x = getattr(visual, f"layer{n}")(x)
    return x


def test_a_resnet_at_the_papers_size(tmp_path: Path) -> None:
    model, file = clip_file("RN50", tmp_path)
    teacher = ClipGrid(ClipGridConfig(arch="RN50", weights=file))
    spec = teacher.signals()["grid"]
    assert spec.shape == (18 * 31, 2048) and spec.along == ("grid_size",)
    teacher.load("cpu")
    (image,) = pictures((500, 375))
    found = said(teacher, [image])
    assert found["grid_size"].tolist() == [[18, 31]]
    warped = torch.from_numpy(np.array(image.resize((1000, 600), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        true = plain_resnet(model.visual, ((warped.float() / 255 - mean) / std)[None])
    assert true.shape == (1, 2048, 18, 31)
    torch.testing.assert_close(found["grid"], true.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)


def plain_vit(visual: Any, x: torch.Tensor, positions: torch.Tensor, blocks: int) -> torch.Tensor:
    """Patch tokens by the definition of a pre-norm transformer."""
    x = F.conv2d(x, visual.conv1.weight, stride=32).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], 1) + positions
    x = visual.ln_pre(x)
    for block in visual.transformer.resblocks[:blocks]:
        seen = block.ln_1(x)
        x = x + block.attn(seen, seen, seen, need_weights=False)[0]
        x = x + block.mlp(block.ln_2(x))
    return x[:, 1:]


@pytest.mark.parametrize(("pos_embed", "blocks"), [("interp", None), ("zeros", 11)])
def test_a_vit_with_positions_of_a_rectangle_or_none(tmp_path: Path, pos_embed: Any, blocks: int | None) -> None:
    model, file = clip_file("ViT-B-32", tmp_path)
    teacher = ClipGrid(ClipGridConfig(arch="ViT-B-32", weights=file, pos_embed=pos_embed, blocks=blocks))
    assert teacher.signals()["grid"].shape == (558, 768)
    teacher.load("cpu")
    (image,) = pictures((640, 480))
    found = said(teacher, [image])
    pixels = teacher.picture_transform.normalize(teacher.picture_transform(image)[None], torch.float32)
    own = model.visual.positional_embedding
    positions = torch.zeros(1 + 558, 768)
    if pos_embed == "interp":
        square = own[1:].reshape(7, 7, 768).permute(2, 0, 1)[None]
        wide = F.interpolate(square, size=(18, 31), mode="bicubic", align_corners=False)[0]
        positions = torch.cat([own[:1], wide.permute(1, 2, 0).reshape(-1, 768)])
    with torch.no_grad():
        true = plain_vit(model.visual, pixels, positions, blocks or 12)
    torch.testing.assert_close(found["grid"], true, atol=1e-4, rtol=1e-4)


def test_at_its_own_size_a_vit_has_its_own_positions(tmp_path: Path) -> None:
    model, file = clip_file("ViT-B-32", tmp_path)
    teacher = ClipGrid(ClipGridConfig(arch="ViT-B-32", weights=file, grid=ClipGridInput(resize="model")))
    teacher.load("cpu")
    (image,) = pictures((300, 224))
    found = said(teacher, [image])
    pixels = teacher.picture_transform.normalize(teacher.picture_transform(image)[None], torch.float32)
    with torch.no_grad():
        layers = model.visual.forward_intermediates(pixels, indices=1, intermediates_only=True, output_fmt="NLC")
    torch.testing.assert_close(found["grid"], layers["image_intermediates"][-1], atol=1e-5, rtol=1e-5)
    assert found["grid_size"].tolist() == [[7, 7]]


@pytest.fixture
def convnet(tmp_path: Path) -> Any:
    def open_convnet(**grid: Any) -> Timm:
        file = timm_file("test_resnet", tmp_path, 0)
        teacher = Timm(TimmConfig(arch="test_resnet", weights=str(file), grid=GridInput(**grid)))
        teacher.load("cpu")
        return teacher

    return open_convnet


def map_of(teacher: Timm, pixels: torch.Tensor) -> torch.Tensor:
    """timm's own features of uint8 pixels, as cells."""
    with torch.no_grad():
        features = teacher._model.forward_features(teacher.picture_transform.normalize(pixels[None], torch.float32))
    return features.flatten(2).transpose(1, 2)[0]


def test_pictures_of_their_own_aspect_have_grids_of_their_own_size(convnet: Any) -> None:
    teacher = convnet(resize="short", height=64, width=128)
    specs = teacher.signals()
    assert specs["grid"].ragged and specs["grid"].shape[0] == 2 * 4 and not specs["grid"].default
    images = pictures((100, 100), (200, 100), (90, 300), (200, 100), (500, 100))
    transformed = [teacher.picture_transform(image) for image in images]
    assert [tuple(one.shape[1:]) for one in transformed] == [(64, 64), (64, 128), (128, 38), (64, 128), (26, 128)]
    found = teacher({"pixels": transformed}, ["grid", "grid_size"])
    assert found["grid_size"].tolist() == [[2, 2], [2, 4], [4, 2], [2, 4], [1, 4]]
    for grid, pixels in zip(found["grid"], transformed, strict=True):
        torch.testing.assert_close(grid, map_of(teacher, pixels), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="several sizes"):
        teacher({"pixels": transformed}, ["image_cls"])


def test_padded_pictures_say_which_cells_hold_some_of_them(convnet: Any) -> None:
    teacher = convnet(resize="pad", height=64, width=128)
    assert teacher.signals()["grid_mask"].shape == (8,)
    images = pictures((100, 100), (100, 60), (300, 90))
    pixels = [teacher.picture_transform(one) for one in images]
    found = teacher({"pixels": pixels}, ["grid", "grid_size", "grid_mask"])
    assert found["grid_size"].tolist() == [[4, 2], [2, 4], [2, 4]]
    assert found["grid_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 0, 0], [1] * 8, [1] * 8]  # a square counts as upright
    canvas, inside = teacher.picture_transform.on_canvas(pixels[1])
    assert canvas.shape == (3, 64, 128) and inside.sum() == 64 * 107 and canvas[:, ~inside].sum() == 0
    torch.testing.assert_close(found["grid"][1], map_of(teacher, canvas), atol=1e-5, rtol=1e-5)


def test_cells_outside_of_a_narrow_picture_are_marked(convnet: Any) -> None:
    teacher = convnet(resize="pad", height=128, width=256)
    (image,) = pictures((100, 400))  # becomes 64 x 256 in the middle of 128 x 256
    found = teacher({"pixels": [teacher.picture_transform(image)]}, ["grid_size", "grid_mask"])
    assert found["grid_size"].tolist() == [[8, 4]]
    assert found["grid_mask"].view(8, 4).tolist() == [[0, 1, 1, 0]] * 8


def test_tokens_of_a_timm_vit_have_their_places(tmp_path: Path) -> None:
    file = timm_file("test_vit", tmp_path, 0)
    teacher = Timm(TimmConfig(arch="test_vit", weights=str(file)))
    teacher.load("cpu")
    images = pictures((160, 160))
    found = teacher({"pixels": torch.stack([teacher.picture_transform(one) for one in images])},
                    ["grid", "image_tokens", "grid_size"])  # fmt: skip
    model = timm.create_model("test_vit")
    assert found["grid_size"].tolist() == [list(model.patch_embed.grid_size)]
    torch.testing.assert_close(found["grid"], found["image_tokens"][:, model.num_prefix_tokens :])


def test_clips_pictures_are_warped_whatever_else_is_said_of_them() -> None:
    said = ClipGridConfig.model_validate({"grid": {"height": 448, "width": 448}}).grid
    assert (said.resize, said.height, said.width) == ("warp", 448, 448)
    assert ClipGridConfig().grid.resize == "warp" and TimmConfig(arch="resnet50").grid.resize == "model"


def test_views_are_refused() -> None:
    from mmkd_cli.core.contracts import View

    transform = GridTransform("warp", 64, 96, "bilinear", (0.5,) * 3, (0.5,) * 3)
    (image,) = pictures((30, 30))
    assert transform(image).shape == (3, 64, 96)
    with pytest.raises(UserError, match="leave --views out"):
        transform(image, View())
