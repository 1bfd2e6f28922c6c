"""CLS regression: losses in scalar loops, feeds, statistics, weight-decay rules, published sizes."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmkd_cli.core.contracts import Outputs, Position
from mmkd_cli.core.errors import UserError
from mmkd_cli.methods.cls_regression import ClsRegression, ClsRegressionConfig
from mmkd_cli.methods.pairs import captions, pair_feed, signal_statistics
from mmkd_cli.students.mm_d2v2 import MmD2v2Config
from mmkd_cli.students.unimodal import UnimodalConfig
from mmkd_cli.training.config import TrainConfig
from tests.pairs_in_memory import pairs
from tests.students import small_students

AT = Position(0, 0, 0)


def scratch(**keys: Any) -> UnimodalConfig:
    return UnimodalConfig(text="scratch", depth=1, width=16, heads=2, vocabulary=64, max_tokens=10, **keys)


def stage(student: Any, **method: Any) -> Any:
    return SimpleNamespace(method=ClsRegressionConfig(**method), student=student, train=TrainConfig())


def mm_d2v2(folder: Path, **keys: Any) -> MmD2v2Config:
    image, text, *_ = small_students.d2v2_files(folder)
    return MmD2v2Config(
        image_weights=str(image), text_weights=str(text), width=small_students.WIDTH, heads=small_students.HEADS,
        image_size=32, max_tokens=32, vocabulary=small_students.BPE_TOKENS, depth=2, **keys,
    )  # fmt: skip


def slow_mse(student: Tensor, target: Tensor) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), target.tolist(), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)
    return total / len(student)


def slow_contrastive(image: Tensor, text: Tensor, scale: float, ids: list[int] | None) -> float:
    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in v))
        return [x / length for x in v]

    a, b = [unit(v) for v in image.tolist()], [unit(v) for v in text.tolist()]
    total = 0.0
    for i in range(len(a)):
        for left, right in ((a, b), (b, a)):
            scores = {
                j: scale * sum(x * y for x, y in zip(left[i], right[j], strict=True))
                for j in range(len(a))
                if ids is None or j == i or ids[j] != ids[i]
            }
            total += math.log(sum(math.exp(s) for s in scores.values())) - scores[i]
    return total / (2 * len(a))


def loss_of(trainable: ClsRegression, outputs: Outputs) -> Tensor:
    losses = {name: rows.mean() for name, rows in outputs.row_losses.items()}
    losses |= trainable.joint_losses(outputs.gathered)
    return torch.stack([trainable.weights.get(name, 1.0) * value for name, value in losses.items()]).sum()


@pytest.mark.parametrize("dedup", [False, True])
def test_unimodal_loss_is_the_sum_of_slow_formulas(dedup: bool) -> None:
    config = stage(scratch(standardize=True), contrastive_weight=2.0, projection_dim=8, dedup=dedup)
    trainable = ClsRegression.build(config, [pairs()], "cpu")
    trainable.model.eval()
    batch = trainable.feeds[0].load(np.array([0, 8, 3, 1, 9, 20]), AT)
    outputs = trainable.forward(batch)
    said = trainable.model(batch)
    ids = batch["picture"].tolist()
    assert len(set(ids)) < len(ids)
    image, text = said.contrasted["output"]
    expected = 0.5 * slow_mse(said.regressed["text"], said.target)
    expected += 2.0 * slow_contrastive(image, text, 1 / 0.07, ids if dedup else None)
    assert loss_of(trainable, outputs).item() == pytest.approx(expected, rel=1e-4)
    raw = trainable.feeds[0].targets.values[batch["picture"]]
    every = trainable.feeds[0].targets.values
    standard = (raw - every.mean(0)) / every.std(0, unbiased=False)
    torch.testing.assert_close(said.target, standard, atol=1e-5, rtol=1e-5)
    cosine = [(i @ t / i.norm() / t.norm()).item() for i, t in zip(image, text, strict=True)]
    assert outputs.report["positive_cosine"].tolist() == pytest.approx(cosine, rel=1e-4)


@pytest.mark.parametrize(("weight", "layout", "factor"), [(None, None, 1.0), (None, "shared", 0.5), (3.0, "vlmo", 3.0)])
def test_mm_d2v2_loss_is_the_sum_over_modalities(
    tmp_path: Path, weight: float | None, layout: Any, factor: float
) -> None:
    method = {"regression_weight": weight, "contrastive_weight": 1.0 if layout else 0.0, "layout": layout or "clip"}
    config = stage(mm_d2v2(tmp_path), **method)
    trainable = ClsRegression.build(config, [pairs(width=small_students.WIDTH)], "cpu")
    batch = trainable.feeds[0].load(np.array([0, 5, 9]), AT)
    said = trainable.model(batch)
    expected = factor * (slow_mse(said.regressed["image"], said.target) + slow_mse(said.regressed["text"], said.target))
    for image, text in said.contrasted.values():
        expected += slow_contrastive(image, text, 1 / 0.07, None) / len(said.contrasted)
    assert loss_of(trainable, trainable.forward(batch)).item() == pytest.approx(expected, rel=1e-4)
    assert len(said.contrasted) == {None: 0, "shared": 1, "vlmo": 2}[layout]


def test_gradients_reach_every_trainable_parameter_and_no_teacher(tmp_path: Path) -> None:
    for student in (scratch(), mm_d2v2(tmp_path)):
        config = stage(student, contrastive_weight=1.0)
        trainable = ClsRegression.build(config, [pairs(width=small_students.WIDTH)], "cpu")
        batch = trainable.feeds[0].load(np.arange(12), AT)
        batch["image_cls"].requires_grad_(True)
        outputs = trainable.forward(batch)
        regression = torch.stack([rows.sum() for rows in outputs.row_losses.values()]).sum()
        assert torch.autograd.grad(regression, batch["image_cls"], retain_graph=True, allow_unused=True)[0] is None
        loss_of(trainable, outputs).backward()
        for name, parameter in trainable.model.named_parameters():
            unused = name.endswith("token_type_embeddings.weight") and parameter.grad is not None
            reached = parameter.grad is not None and (unused or bool(parameter.grad.abs().sum() > 0))
            assert (reached and parameter.requires_grad) or (parameter.grad is None and not parameter.requires_grad), (
                name
            )


def test_feed_gives_texts_with_their_pictures_signal() -> None:
    data = pairs(rejected={("train", "images"): [2], ("train", "texts"): [4]})
    trainable = ClsRegression.build(stage(scratch()), [data], "cpu")
    feed = trainable.feeds[0]
    texts = data.tables("train")["texts"]
    kept = [row for row, owner in enumerate(texts["image_row"]) if owner not in (-1, 2) and row != 4]
    assert feed.rows == len(kept) == 20
    batch = feed.load(np.array([3, 0, 19]), AT)
    for place, row in enumerate(np.array(kept)[[3, 0, 19]]):
        owner = texts["image_row"][int(row)]
        assert batch["picture"][place] == owner
        assert torch.equal(batch["image_cls"][place], data.targets("train").values[owner])
        assert batch["input_ids"][place].equal(feed.tokenize([texts["text"][int(row)]])["input_ids"][0])
    again = pickle.loads(pickle.dumps(feed)).load(np.array([3, 0, 19]), AT)
    assert all(torch.equal(again[name], batch[name]) for name in batch)
    assert [f.name for f in trainable.validation] == ["pairs"]


def test_equal_rows_of_two_data_sets_are_different_pictures() -> None:
    trainable = ClsRegression.build(stage(scratch()), [pairs(), pairs()], "cpu")
    first, second = (feed.load(np.arange(6), AT)["picture"] for feed in trainable.feeds)
    assert not set(first.tolist()) & set(second.tolist())
    assert torch.equal(first[:, None] == first, second[:, None] == second)


def test_student_and_teacher_see_the_same_view(tmp_path: Path) -> None:
    data = pairs(width=small_students.WIDTH, n_views=4)
    trainable = ClsRegression.build(stage(mm_d2v2(tmp_path)), [data], "cpu")
    for epoch in (0, 3, 5):
        batch = trainable.feeds[0].load(np.array([0, 2]), Position(epoch, 0, 0))
        view = epoch % 4
        assert torch.equal(batch["image_cls"], data.targets("train").values[[0, 2], view])
        for place, row in enumerate((0, 2)):  # each view is one of the picture's four columns, blurred at its edges
            assert batch["pixels"][place, :, :, 12:20].unique().tolist() == [view * 10 + row * 4]


def test_statistics_are_those_of_all_training_pictures_and_views() -> None:
    for n_views in (0, 3):
        data = [pairs(n_views=n_views), pairs(pictures=5, n_views=n_views, name="more")]
        feeds = [pair_feed(one, "train", "image_cls", len, None, 0) for one in data]
        every = torch.cat([feed.targets.values.reshape(-1, 12) for feed in feeds]).double()
        mean, std = signal_statistics(feeds)
        torch.testing.assert_close(mean, every.mean(0).float())
        torch.testing.assert_close(std, every.std(0, unbiased=False).float())
    feeds[0].targets.values[..., 0] = feeds[1].targets.values[..., 0] = 7.0
    mean, std = signal_statistics(feeds)
    assert mean[0] == 7 and std[0] == 1


@pytest.mark.parametrize("rule", ["all", "notes", "embeddings"])
def test_weight_decay_rules(tmp_path: Path, rule: str) -> None:
    student = mm_d2v2(tmp_path, embeddings="trained")
    config = stage(student, contrastive_weight=1.0, wd_rule=rule)
    trainable = ClsRegression.build(config, [pairs(width=small_students.WIDTH)], "cpu")
    decay = {id(p): g["weight_decay"] for g in trainable.parameter_groups(1e-3, 0.1) for p in g["params"]}
    named = {name: p for name, p in trainable.model.named_parameters() if p.requires_grad}
    assert decay.keys() == {id(p) for p in named.values()}
    for name, parameter in named.items():
        spared = parameter.ndim <= 1 or name in ("embed.image.cls_token", "embed.text.tokens.weight")
        spared |= rule == "embeddings" and name == "embed.text.positions.weight"
        assert decay[id(parameter)] == (0.1 if rule == "all" or not spared else 0.0), name


def test_logit_scale_is_bounded_only_where_told() -> None:
    for clamp in (False, True):
        config = stage(scratch(), contrastive_weight=1.0, clamp_logit_scale=clamp)
        trainable = ClsRegression.build(config, [pairs()], "cpu")
        scale = trainable.model.projections.logit_scales["output"]
        assert scale.item() == pytest.approx(math.log(1 / 0.07))
        with torch.no_grad():
            scale.fill_(9.0)
        trainable.after_step(0, {})
        assert scale.item() == pytest.approx(math.log(100) if clamp else 9.0)


def test_the_same_seed_makes_the_same_student() -> None:
    made = [ClsRegression.build(stage(scratch()), [pairs()], "cpu").model.state_dict() for _ in range(2)]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert list(captions(pairs(), "train"))[-1] == "no picture at all"


def test_twenty_steps_lower_the_loss(tmp_path: Path) -> None:
    for student in (scratch(), mm_d2v2(tmp_path)):
        config = stage(student, contrastive_weight=1.0)
        trainable = ClsRegression.build(config, [pairs(width=small_students.WIDTH)], "cpu")
        optimizer = torch.optim.AdamW(trainable.parameter_groups(3e-3, 0.01))
        batch = trainable.feeds[0].load(np.arange(16), AT)
        losses = []
        for _ in range(20):
            loss = loss_of(trainable, trainable.forward(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0]


def test_what_cannot_be_learnt_is_said() -> None:
    with pytest.raises(UserError, match="nothing would be learnt"):
        ClsRegression.build(stage(scratch(), regression_weight=0.0), [pairs()], "cpu")
    with pytest.raises(UserError, match="several widths"):
        ClsRegression.build(stage(scratch()), [pairs(), pairs(width=16, name="other")], "cpu")
    with pytest.raises(UserError, match="did you mean 'image_cls'"):
        ClsRegression.build(stage(scratch(), signal="image_csl"), [pairs()], "cpu")


def test_heads_may_learn_at_a_rate_of_their_own() -> None:
    keys = {"contrastive_weight": 1.0, "projection_dim": 8}
    plain = ClsRegression.build(stage(scratch(), **keys), [pairs()], "cpu")
    assert {group["lr"] for group in plain.parameter_groups(1e-3, 0.1)} == {1e-3}
    scaled = ClsRegression.build(stage(scratch(), head_lr_scale=10.0, **keys), [pairs()], "cpu")
    rates = {id(p): group["lr"] for group in scaled.parameter_groups(1e-3, 0.1) for p in group["params"]}
    for name, parameter in scaled.model.named_parameters():
        if parameter.requires_grad:
            head = name.startswith(("head.", "projections."))
            assert rates.pop(id(parameter)) == pytest.approx(1e-2 if head else 1e-3), name
    assert not rates
