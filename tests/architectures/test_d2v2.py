"""data2vec 2.0: fairseq's layouts load with nothing missing, and give what its forward gives."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import pytest
import torch

from mmkd_cli.architectures.d2v2 import ImageEncoder, Sizes, TextEncoder, sine_positions
from mmkd_cli.architectures.d2v2_checkpoints import (
    IMAGE_NAMES,
    TEXT_NAMES,
    checkpoint_sizes,
    load_image_checkpoint,
    load_text_checkpoint,
    modality_of,
    own_names,
)
from mmkd_cli.architectures.state_dicts import misfit
from mmkd_cli.core.errors import UserError
from tests.architectures import official_d2v2


def write(path: Path, state: dict[str, torch.Tensor], cfg: object = None) -> Path:
    torch.save({"cfg": cfg, "model": state, "args": None, "optimizer_history": []}, path)
    return path


def test_image_checkpoint_gives_what_the_published_forward_gives(tmp_path: Path) -> None:
    state = official_d2v2.image_state()
    model = load_image_checkpoint(write(tmp_path / "image.pt", state)).eval()
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = model(pixels)
    for row in range(3):
        torch.testing.assert_close(said[row], official_d2v2.image_forward(pixels[row], state), atol=1e-5, rtol=1e-5)


def test_text_checkpoint_gives_what_the_published_forward_gives_whatever_the_padding(tmp_path: Path) -> None:
    state = official_d2v2.text_state()
    model = load_text_checkpoint(write(tmp_path / "text.pt", state)).eval()
    texts = [[0, 17, 220, 5], [0, 9], [0, 30, 31, 32, 33, 34]]
    ids = torch.tensor([text + [1] * (8 - len(text)) for text in texts])
    with torch.no_grad():
        said = model(ids, (ids != 1).long())
    for row, text in enumerate(texts):
        expected = official_d2v2.text_forward(text, state)
        torch.testing.assert_close(said[row, : len(text)], expected, atol=1e-5, rtol=1e-5)


def test_full_size_layouts_fit_the_base_models() -> None:
    image = official_d2v2.image_state(12, 768, 14, 16, device="meta")
    text = official_d2v2.text_state(12, 768, 50265, 514, device="meta")
    with torch.device("meta"):
        models = ImageEncoder(), TextEncoder()
    assert misfit(models[0], own_names(image, IMAGE_NAMES)) is None
    assert misfit(models[1], own_names(text, TEXT_NAMES)) is None
    assert sum(p.numel() for p in models[0].blocks[0].parameters()) == 7_087_872
    assert sum(p.numel() for p in models[0].embed.parameters()) == 592_896 + 150_528
    assert sum(p.numel() for p in models[1].embed.parameters()) == 38_999_808


def test_sizes_are_read_off_the_file_and_a_depth_keeps_the_first_blocks(tmp_path: Path) -> None:
    state = official_d2v2.image_state(depth=3)
    path = write(tmp_path / "image.pt", state)
    assert modality_of(path) == "image"
    assert checkpoint_sizes(path, "image") == Sizes(128, 3, 2, 512, image_size=32, patch_size=16)
    model = load_image_checkpoint(path, depth=1)
    assert len(model.blocks) == model.sizes.depth == 1
    assert torch.equal(model.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])
    with pytest.raises(UserError, match="has 3 blocks, 4 were asked for"):
        load_image_checkpoint(path, depth=4)


def test_heads_come_from_a_plain_configuration(tmp_path: Path) -> None:
    path = write(tmp_path / "image.pt", official_d2v2.image_state(), {"model": {"num_heads": 4}})
    assert load_image_checkpoint(path).sizes.heads == 4


def test_configuration_objects_are_read_as_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """omegaconf is not needed: its objects, made here by a module of that name, come back as nothing."""
    module = types.ModuleType("omegaconf.dictconfig")

    class DictConfig:
        def __init__(self) -> None:
            self._content = {"num_heads": 2, "element": str}
            self._metadata = argparse.Namespace(ref_type=object)

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    path = write(tmp_path / "image.pt", official_d2v2.image_state(), {"model": DictConfig()})
    monkeypatch.delitem(sys.modules, "omegaconf.dictconfig")
    monkeypatch.delitem(sys.modules, "omegaconf")
    assert load_image_checkpoint(path).sizes.depth == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("blocks.1.norm2.bias"), r"1 of \d+ missing, the first 'blocks.1.norm2.bias'"),
        (lambda s: s.update({"blocks.1.attn.extra": torch.zeros(1)}), "1 unexpected, the first 'blocks.1.attn.extra'"),
        (
            lambda s: s.update({"blocks.0.norm1.bias": torch.zeros(7)}),
            r"'blocks.0.norm1.bias' \[7\] in place of \[128\]",
        ),
        (lambda s: s.update({"blocks.0.norm1.bias": "words"}), "'blocks.0.norm1.bias' is a str"),
        (lambda s: s.pop("modality_encoders.IMAGE.local_encoder.proj.weight"), "'embed.proj.weight' is missing"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change, message: str) -> None:
    state = official_d2v2.image_state()
    change(state)
    with pytest.raises(UserError, match=message):
        load_image_checkpoint(write(tmp_path / "image.pt", state))


def test_sine_positions_are_those_of_mae() -> None:
    grid, width = 3, 8
    said = sine_positions(grid, width)[0]
    for row in range(grid):
        for column in range(grid):
            expected = []
            for place in (column, row):
                angles = [place / 10000 ** (i / (width / 4)) for i in range(width // 4)]
                expected += [torch.tensor(a).sin() for a in angles] + [torch.tensor(a).cos() for a in angles]
            torch.testing.assert_close(said[row * grid + column], torch.stack(expected), atol=1e-6, rtol=1e-6)


def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients_with_dropout() -> None:
    torch.manual_seed(0)
    model = TextEncoder(Sizes(32, 2, 2, 64, vocabulary=40), dropout=0.1).train()
    ids = torch.randint(4, 40, (3, 7))
    runs: list[int] = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *_: runs.append(1))
    found = []
    for recompute in (False, True):
        for block in model.blocks:
            block.set_grad_checkpointing(recompute)
        runs.clear()
        torch.manual_seed(1)
        model.zero_grad()
        model(ids, torch.ones_like(ids)).square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        assert len(runs) == (4 if recompute else 2)
    assert found[0].keys() == found[1].keys() and "blocks.0.attn.qkv.weight" in found[0]
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-6, atol=1e-7)
    torch.manual_seed(2)
    model.zero_grad()
    model(ids, torch.ones_like(ids)).square().sum().backward()  # other dropout, other gradients
    assert not torch.allclose(model.blocks[0].mlp.fc1.weight.grad, found[0]["blocks.0.mlp.fc1.weight"])
