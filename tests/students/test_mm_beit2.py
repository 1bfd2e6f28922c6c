"""MM-D2V2 on BEiT-2's blocks: pictures as BEiT-2 sees them, texts by plain formulas, what is trained and kept."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmkd_cli.architectures.relative_blocks import RelativePositions
from mmkd_cli.core.contracts import Position
from mmkd_cli.core.errors import UserError
from mmkd_cli.methods.cls_regression import ClsRegression, ClsRegressionConfig
from mmkd_cli.students.mm_beit2 import MmBeit2, MmBeit2Config
from mmkd_cli.students.projections import Heads
from mmkd_cli.training.config import TrainConfig
from tests.architectures.official_beit2 import beit2_forward, beit2_state
from tests.pairs_in_memory import pairs
from tests.students import small_students

WIDTH, HEADS = small_students.WIDTH, small_students.HEADS


def beit2_file(path: Path) -> Path:
    """A self-supervised BEiT-2 of random weights and two blocks, of 32 px."""
    torch.save({"model": beit2_state(2, WIDTH, HEADS, grid=2, patch=16)}, path)
    return path


def config(folder: Path, **keys: Any) -> MmBeit2Config:
    _, text, *_ = small_students.d2v2_files(folder)
    sizes = {"width": WIDTH, "heads": HEADS, "image_size": 32, "depth": 3, "max_tokens": 16}
    return MmBeit2Config(image_weights=str(beit2_file(folder / "beit2.pth")), text_weights=str(text),
                         vocabulary=small_students.BPE_TOKENS, **{**sizes, **keys})  # fmt: skip


def student(folder: Path, **keys: Any) -> MmBeit2:
    torch.manual_seed(0)
    return MmBeit2.build(config(folder, **keys), Heads(True, None, None), "image_cls", WIDTH, lambda: ()).eval()


def test_specific_blocks_see_pictures_as_beit2_does(tmp_path: Path) -> None:
    model = student(tmp_path)
    model.types["image"].data.zero_()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    state = beit2_state(2, WIDTH, HEADS, grid=2, patch=16)
    with torch.no_grad():
        said = model.tokens("image", {"pixels": pixels})[0]["encoder"]
        for row, picture in enumerate(model.picture_transform.normalize(pixels, torch.float32)):
            torch.testing.assert_close(said[row], beit2_forward(picture, state), atol=1e-4, rtol=1e-4)


def test_texts_are_seen_by_their_distances(tmp_path: Path) -> None:
    """Scalar loops over a text alone; padding beside it changes nothing."""
    lengths = (5, 3)
    model = student(tmp_path, depth=2)
    torch.nn.init.normal_(model.positions.text, std=2.0)
    most, (block,) = 16, model.specific
    ids = torch.randint(4, 200, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        said = model.tokens("text", {"input_ids": ids, "attention_mask": mask})[0]["encoder"]
    model.requires_grad_(False)
    bias = torch.cat([block.q_bias, torch.zeros(WIDTH), block.v_bias])
    for row, length in enumerate(lengths):
        x = model.words.weight[ids[row, :length]] + model.types["text"]
        normed = F.layer_norm(x, (WIDTH,), block.norm.weight, block.norm.bias, 1e-6)
        q, k, v = (normed @ block.qkv.weight.T + bias).view(length, 3, HEADS, WIDTH // HEADS).unbind(1)
        mixed = torch.zeros(length, HEADS, WIDTH // HEADS)
        for head in range(HEADS):
            for i in range(length):
                scores = []
                for j in range(length):
                    place = i - j + most - 2
                    if i == 0 or j == 0:
                        place = 2 * most - 1 if i == j else 2 * most - 3 if i == 0 else 2 * most - 2
                    scaled = float(q[i, head] @ k[j, head]) / math.sqrt(WIDTH // HEADS)
                    scores.append(scaled + float(model.positions.text[place, head]))
                mixed[i, head] = torch.tensor(scores).softmax(0) @ v[:, head]
        x = x + block.layer_scale * block.proj(mixed.view(length, WIDTH))
        expert = block.experts["text"]
        inner = F.layer_norm(x, (WIDTH,), expert.norm.weight, expert.norm.bias, 1e-6)
        x = x + expert.layer_scale * expert.fc2(F.gelu(expert.fc1(inner)))
        torch.testing.assert_close(said[row, :length], x, atol=1e-4, rtol=1e-4)


def test_distances_of_texts_have_a_place_each() -> None:
    index = RelativePositions(2, 6, 1).text_index
    assert index[1:, 1:].unique().numel() == 2 * 5 - 1 and index.max() == 11 and index.min() == 0
    assert len({int(index[0, 0]), int(index[0, 3]), int(index[3, 0])}) == 3


def test_texts_begin_with_data2vecs_feed_forward_parts(tmp_path: Path) -> None:
    model = student(tmp_path)
    _, _, _, state = small_students.d2v2_files(tmp_path)
    given = beit2_state(2, WIDTH, HEADS, grid=2, patch=16)
    assert torch.equal(model.words.weight, state["modality_encoders.TEXT.local_encoder.embed_tokens.weight"])
    for number, block in enumerate(model.specific):
        expert, scale = block.experts["text"], given[f"blocks.{number}.gamma_2"]
        assert torch.equal(expert.fc1.weight, state[f"blocks.{number}.mlp.fc1.weight"])
        assert torch.equal(expert.norm.bias, state[f"blocks.{number}.norm2.bias"])
        assert torch.equal(expert.layer_scale, scale)


def test_gradients_reach_everything(tmp_path: Path) -> None:
    keys = ClsRegressionConfig(wd_rule="embeddings")
    stage = SimpleNamespace(method=keys, student=config(tmp_path), train=TrainConfig())
    trainable = ClsRegression.build(stage, [pairs(width=WIDTH)], "cpu")
    outputs = trainable.forward(trainable.feeds[0].load(np.array([0, 9, 3, 17]), Position(0, 0, 0)))
    torch.stack([rows.mean() for rows in outputs.row_losses.values()]).sum().backward()
    small_students.gradients_reach_exactly_the_trainable(trainable.model)
    assert all(p.requires_grad for p in trainable.model.parameters())
    assert {id(p) for p in trainable.model.positions.parameters()} <= {
        id(p) for p in trainable.parameter_groups(1e-3, 0.01)[1]["params"]
    }


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not fit the student \(32 wide, 2 heads, 32 px"):
        student(tmp_path, image_size=48)
    with pytest.raises(UserError, match=r"too few blocks for student\.depth 5"):
        student(tmp_path, depth=5)
    with pytest.raises(UserError, match="begins with no run"):
        student(tmp_path, init_text="b-prime")
