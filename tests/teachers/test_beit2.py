"""BEiT-2: the authors' files load with nothing missing, and give what a plain forward of them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.architectures.beit2 import Beit2Sizes, beit2_sizes, beit2_weights, build_beit2
from mmkd_cli.architectures.state_dicts import misfit
from mmkd_cli.core.errors import UserError
from mmkd_cli.teachers.beit2 import Beit2, Beit2Config
from tests.architectures.official_beit2 import beit2_forward, beit2_state, last_norm


def teacher(path: Path, state: dict[str, torch.Tensor], top: str = "model", **keys: Any) -> Beit2:
    torch.save({top: state}, path)
    return Beit2(Beit2Config(weights=str(path), **keys))


def batch(count: int = 3, size: int = 24) -> dict[str, Any]:
    pixels = torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return {"pixels": pixels}


@pytest.mark.parametrize("cls", ["post_norm", "pre_norm"])
def test_self_supervised_weights_give_the_cls_around_the_last_norm(tmp_path: Path, cls: str) -> None:
    state = beit2_state()
    beit2 = teacher(tmp_path / "pt.pth", state, cls=cls)
    beit2.load("cpu")
    given = batch()
    said = beit2(given, ["image_cls", "image_tokens", "image_mean"])
    torch.testing.assert_close(said["image_mean"], said["image_tokens"].mean(dim=1))
    pixels = beit2.picture_transform.normalize(given["pixels"], torch.float32)
    for row in range(3):
        tokens = beit2_forward(pixels[row], state)
        expected = last_norm(tokens, state) if cls == "post_norm" else tokens
        torch.testing.assert_close(said["image_tokens"][row], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(said["image_cls"][row], expected[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("top", ["model", "module"])
def test_fine_tuned_weights_give_logits_of_the_mean_patch(tmp_path: Path, top: str) -> None:
    state = beit2_state(fine_tuned=7)
    beit2 = teacher(tmp_path / "ft.pth", state, top)
    assert set(beit2.signals()) == {"logits"}  # of its CLS no norm was trained
    beit2.load("cpu")
    given = batch()
    said = beit2(given, ["logits"])["logits"]
    pixels = beit2.picture_transform.normalize(given["pixels"], torch.float32)
    for row in range(3):
        mean = last_norm(beit2_forward(pixels[row], state)[1:].mean(0), state, "fc_norm")
        expected = mean @ state["head.weight"].T + state["head.bias"]
        torch.testing.assert_close(said[row], expected, atol=1e-4, rtol=1e-4)


def test_fine_tuned_weights_give_the_cls_before_the_norm_when_asked(tmp_path: Path) -> None:
    state = beit2_state(fine_tuned=7)
    beit2 = teacher(tmp_path / "ft.pth", state, cls="pre_norm")
    assert set(beit2.signals()) == {"image_cls", "image_tokens", "image_mean", "logits"}
    beit2.load("cpu")
    given = batch(1)
    pixels = beit2.picture_transform.normalize(given["pixels"], torch.float32)
    said = beit2(given, ["image_cls"])["image_cls"]
    torch.testing.assert_close(said[0], beit2_forward(pixels[0], state)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("classes", [0, 1000])
def test_full_size_layouts_fit(classes: int) -> None:
    state = beit2_state(12, 768, 12, 14, 16, fine_tuned=classes, device="meta")
    sizes = beit2_sizes(beit2_weights(state), Path("a file"))
    assert sizes == Beit2Sizes(classes=classes, shared_table=not classes)
    with torch.device("meta"):
        model = build_beit2(sizes, class_norm=not classes)
    assert misfit(model, beit2_weights(state)) is None
    if not classes:
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(85.67e6, rel=1e-4)


def test_without_weights_sizes_are_known_and_what_to_get_is_said() -> None:
    beit2 = Beit2(Beit2Config(weights="nowhere/beitv2_base_patch16_224_pt1k.pth"))
    assert beit2.signals()["image_cls"].shape == (768,)
    assert beit2.parameters_count() == pytest.approx(85.67e6, rel=1e-4)
    with pytest.raises(UserError, match=r"weights nowhere/.* are not there: get beitv2_base_patch16_224_pt1k.pth"):
        beit2.load("cpu")


def test_a_tag_of_timm_has_logits_and_names_its_file_when_it_is_not_here() -> None:
    beit2 = Beit2(Beit2Config(arch="beitv2_base_patch16_224.in1k_ft_in1k"))
    assert {name: spec.shape for name, spec in beit2.signals().items()} == {"logits": (1000,)}
    with pytest.raises(UserError, match=r"of timm/beitv2_base_patch16_224.in1k_ft_in1k is not on this machine"):
        beit2.load("cpu")


def test_the_cls_is_part_of_the_identity(tmp_path: Path) -> None:
    state = beit2_state()
    first = teacher(tmp_path / "pt.pth", state).identity()
    assert first != teacher(tmp_path / "pt.pth", state, cls="pre_norm").identity()


def test_other_files_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is not of BEiT-2's layout \('blocks.0.attn.relative_position_bias_table' is mis"
    ):
        teacher(tmp_path / "other.pth", {"weight": torch.zeros(3)}).load("cpu")
    state = beit2_state()
    del state["blocks.1.gamma_2"]
    with pytest.raises(UserError, match=r"does not fit BEiT-2: 1 of \d+ missing, the first 'blocks.1.gamma_2'"):
        teacher(tmp_path / "cut.pth", state).load("cpu")
