"""MM-D2V2: sizes of the published variants, forward against plain formulas, what is trained, what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmkd_cli.core.errors import UserError
from mmkd_cli.students.mm_d2v2 import MmD2v2, MmD2v2Config
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.two_modalities import IMAGENET_MEAN, IMAGENET_STD
from mmkd_cli.training.loop import _checkpoint_activations
from tests.architectures import official_d2v2
from tests.students import small_students
from tests.students.small_students import HEADS, TEXTS, WIDTH

REGRESSION = Heads(regression=True, layout=None, dim=None)


def build(folder: Path, heads: Heads = REGRESSION, target_width: int = WIDTH, **keys: Any) -> MmD2v2:
    image, text, *_ = small_students.d2v2_files(folder)
    config = MmD2v2Config(
        image_weights=str(image), text_weights=str(text), width=WIDTH, heads=HEADS, image_size=32, max_tokens=32,
        vocabulary=small_students.BPE_TOKENS, **{"depth": 3, "shared": 1, **keys},
    )  # fmt: skip
    torch.manual_seed(0)
    return MmD2v2.build(config, heads, "image_cls", target_width, lambda: ()).eval()


def batch_of(student: MmD2v2, target_width: int = WIDTH) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (len(TEXTS), 3, 32, 32), generator=generator, dtype=torch.uint8)
    target = torch.randn(len(TEXTS), target_width, generator=generator)
    return {**student.tokenize(TEXTS), "pixels": pixels, "image_cls": target}


def plain_states(student: MmD2v2) -> dict[str, Tensor]:
    """The shared blocks under the names of the reference, counted from 0."""
    return {f"blocks.{name}": value for name, value in student.shared.state_dict().items()}


@pytest.mark.parametrize(("depth", "shared"), [(3, 1), (4, 2), (3, 0)])
def test_forward_equals_plain_formulas(tmp_path: Path, depth: int, shared: int) -> None:
    student = build(tmp_path, depth=depth, shared=shared)
    image, text = small_students.d2v2_files(tmp_path)[2:]
    own, shared_state = depth - shared, plain_states(student)
    batch = batch_of(student)
    with torch.no_grad():
        said = student(batch)
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    for row in range(len(TEXTS)):
        pixels = (batch["pixels"][row] / 255 - mean) / std
        x = official_d2v2.image_forward(pixels, image, own, HEADS)
        x = official_d2v2._run_blocks(x, shared_state, shared, HEADS, 1e-6)
        torch.testing.assert_close(said.regressed["image"][row], x[0], atol=2e-5, rtol=1e-4)
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
        x = official_d2v2.text_forward(ids, text, own, HEADS)
        x = official_d2v2._run_blocks(x, shared_state, shared, HEADS, 1e-6)
        torch.testing.assert_close(said.regressed["text"][row], x[0], atol=2e-5, rtol=1e-4)


def test_shared_attention_is_the_image_models(tmp_path: Path) -> None:
    student = build(tmp_path, attention="shared")
    image, text = small_students.d2v2_files(tmp_path)[2:]
    mixed = dict(text)
    for i in range(2):
        mixed |= {name: image[name] for name in image if name.startswith(f"blocks.{i}.attn.")}
    batch = batch_of(student)
    with torch.no_grad():
        said = student.embed_texts(batch, "encoder")
    for row in range(len(TEXTS)):
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
        expected = official_d2v2.text_forward(ids, mixed, 2, HEADS)[0]
        torch.testing.assert_close(said[row], expected, atol=2e-5, rtol=1e-4)


def test_shared_blocks_may_start_as_the_text_models_last(tmp_path: Path) -> None:
    student = build(tmp_path, shared=2, shared_init="text")
    text = small_students.d2v2_files(tmp_path)[3]
    for index in range(2):
        assert torch.equal(student.shared[index].mlp.fc1.weight, text[f"blocks.{2 + index}.mlp.fc1.weight"])
    random = build(tmp_path, shared=2)
    assert abs(random.shared[0].attn.qkv.weight.std().item() - 0.02) < 0.002


@pytest.mark.parametrize(
    ("keys", "layout"),
    [
        ({}, None),
        ({"embeddings": "trained", "token_types": True}, None),
        ({"mm_projections": True, "attention": "shared"}, "flava"),
        ({}, "vlmo"),
        ({}, "shared"),
    ],
)
def test_gradients_reach_exactly_what_is_trained(tmp_path: Path, keys: dict[str, Any], layout: Any) -> None:
    student = build(tmp_path, Heads(True, layout, 24 if layout else None), target_width=40, **keys).train()
    batch = batch_of(student, target_width=40)
    batch["image_cls"].requires_grad_(True)
    said = student(batch)
    vectors = [*said.regressed.values(), *(v for pair in said.contrasted.values() for v in pair)]
    sum(v.pow(3).sum() for v in vectors).backward()
    logit_scales = {f"projections.logit_scales.{s}" for s in ("encoder", "output")}
    for name, parameter in student.named_parameters():
        if name not in logit_scales:  # used by the loss alone
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert reached == parameter.requires_grad, name
    frozen = [name for name, p in student.named_parameters() if not p.requires_grad]
    if keys.get("embeddings") == "trained":
        assert frozen == ["embed.image.positions"]
    else:
        assert all(name.startswith("embed.") for name in frozen) and len(frozen) == 10
    assert (student.head is not None) and said.regressed["text"].shape == (len(TEXTS), 40)


@pytest.mark.parametrize(
    ("heads", "keys", "layers"),
    [
        (REGRESSION, {}, ("encoder", "shared")),
        (REGRESSION, {"mm_projections": True}, ("encoder", "projection", "shared")),
        (Heads(True, "shared", 16), {}, ("encoder", "shared", "projection")),
    ],
)
def test_a_saved_student_embeds_the_same(
    tmp_path: Path, heads: Heads, keys: dict[str, Any], layers: tuple[str, ...]
) -> None:
    student = build(tmp_path / "weights", heads, **keys)
    (tmp_path / "run").mkdir()
    student.save(tmp_path / "run")
    loaded = MmD2v2.load(tmp_path / "run", {"student": student.config.model_dump(mode="json")})
    batch = batch_of(student)
    assert loaded.layers == student.layers == layers
    for layer in layers:
        assert torch.equal(loaded.embed_images(batch, layer), student.embed_images(batch, layer))
        assert torch.equal(loaded.embed_texts(batch, layer), student.embed_texts(batch, layer))
    assert torch.equal(loaded.embed_texts(batch), loaded.embed_texts(batch, layers[-1]))
    assert loaded.tokenize(TEXTS)["input_ids"].equal(batch["input_ids"])
    assert len(loaded.identity()["model"]) == 64


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"student\.width is 64"):
        image, text, *_ = small_students.d2v2_files(tmp_path)
        keys = MmD2v2Config(image_weights=str(image), text_weights=str(text), width=64, heads=2, image_size=32,
                            vocabulary=small_students.BPE_TOKENS)  # fmt: skip
        MmD2v2.build(keys, REGRESSION, "image_cls", 64, lambda: ())
    with pytest.raises(UserError, match="too few blocks"):
        build(tmp_path, depth=7)
    with pytest.raises(UserError, match=r"student\.shared 4 is more"):
        build(tmp_path, shared=4)
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        student = build(tmp_path)
        student.embed_texts(batch_of(student), "encodr")


@pytest.mark.parametrize("attention", ["separate", "shared"])
def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path, attention: str) -> None:
    student = build(tmp_path, attention=attention, dropout=0.1).train()
    batch, found = batch_of(student), []
    for recompute in (False, True):
        if recompute:
            _checkpoint_activations(student)
        torch.manual_seed(4)
        student.zero_grad()
        said = student(batch)
        sum((said.target - vector).square().sum() for vector in said.regressed.values()).backward()
        found.append({name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None})
    assert all(block.text.recompute and block.image.recompute for block in student.specific)
    assert found[0].keys() == found[1].keys() and any(name.startswith("specific.0.image.attn") for name in found[0])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)
