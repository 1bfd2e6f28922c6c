"""S-SMKE: its shared block against plain formulas, its variants, what its losses see, and where gradients go."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.architectures.shared_block import SharedBlock
from mmkd_cli.core.contracts import Position, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.methods.cls_regression import ClsRegression, ClsRegressionConfig
from mmkd_cli.students.s_smke import SSmke, SSmkeConfig
from mmkd_cli.training.config import TrainConfig
from tests.pairs_in_memory import pairs
from tests.students import small_students

WIDTH, HEADS = small_students.WIDTH, small_students.HEADS


def config(folder: Path, **keys: Any) -> SSmkeConfig:
    image, *_ = small_students.d2v2_files(folder)
    text = small_students.bert_folder(folder / "bert")
    sizes = {"width": WIDTH, "heads": HEADS, "image_size": 32, "depth": 2, "max_tokens": 16}
    return SSmkeConfig(image_weights=str(image), text_weights=str(text), **{**sizes, **keys})


def built(student: SSmkeConfig, **method: Any) -> ClsRegression:
    keys = {"contrastive_weight": 1.0, "wd_rule": "embeddings", **method}
    stage = SimpleNamespace(method=ClsRegressionConfig(**keys), student=student, train=TrainConfig())
    return ClsRegression.build(stage, [pairs(width=WIDTH)], "cpu")


def batch(trainable: ClsRegression) -> dict[str, Any]:
    return trainable.feeds[0].load(np.array([0, 9, 3, 17]), Position(0, 0, 0))


@pytest.mark.parametrize("layer_scale", [0.0, 0.2])
def test_the_shared_block_is_beits(layer_scale: float) -> None:
    from timm.models.beit import Block

    torch.manual_seed(0)
    ours = SharedBlock(WIDTH, HEADS, layer_scale)
    theirs = Block(WIDTH, HEADS, qkv_bias=True, init_values=layer_scale or None,
                   norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))  # fmt: skip
    for parameter in ours.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    names = {"qkv.": "attn.qkv.", "proj.": "attn.proj.", "q_bias": "attn.q_bias", "v_bias": "attn.v_bias",
             "fc1.": "mlp.fc1.", "fc2.": "mlp.fc2.", "layer_scale": "gamma_", "norm": "norm"}  # fmt: skip
    state = {}
    for name, value in ours.state_dict().items():
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        state[names[prefix] + name.removeprefix(prefix)] = value
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    x = torch.randn(3, 5, WIDTH)
    output, hidden = ours.eval()(x)
    torch.testing.assert_close(output, theirs.eval()(x), atol=1e-5, rtol=1e-5)
    assert hidden.shape == (3, 5, 4 * WIDTH)
    attend = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    masked, _ = ours(x, attend)
    for row, length in enumerate((5, 3, 1)):
        torch.testing.assert_close(masked[row, :length], ours(x[row : row + 1, :length])[0][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("taps", ["both", "output"])
def test_its_losses_are_those_of_the_thesis(tmp_path: Path, taps: str) -> None:
    trainable = built(config(tmp_path, taps=taps))
    trainable.model.eval()
    said = batch(trainable)
    outputs = trainable.forward(said)
    joint = trainable.joint_losses(outputs.gathered)
    model, found = trainable.model, {}
    for modality in ("image", "text"):
        stages = model.stages(modality, said)
        z = model.head[1](F.layer_norm(stages["output"], (WIDTH,), model.head[0].weight, model.head[0].bias, 1e-6))
        expected = ((z - said["image_cls"]) ** 2).mean(dim=1)
        torch.testing.assert_close(outputs.row_losses[f"regression_{modality}"], expected, atol=1e-5, rtol=1e-5)
        found[modality] = stages

    def contrast(stage: str) -> Tensor:
        a, b = (F.normalize(found[modality][stage], dim=1) for modality in ("image", "text"))
        logits = a @ b.T / 0.07
        return (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2

    torch.testing.assert_close(joint["contrastive"], contrast("output"), atol=1e-4, rtol=1e-4)
    assert ("contrastive_hidden" in joint) == (taps == "both")
    if taps == "both":
        torch.testing.assert_close(joint["contrastive_hidden"], contrast("hidden"), atol=1e-4, rtol=1e-4)
    assert trainable.weights["contrastive"] == (0.5 if taps == "both" else 1.0)
    assert trainable.weights["regression_text"] == 0.5


def test_shre_shares_an_mlp_with_three_taps(tmp_path: Path) -> None:
    keys = {"shared": "mlp", "taps": "all", "token_types": "none"}
    trainable = built(config(tmp_path, **keys), target_loss="kl")
    model, said = trainable.model.eval(), batch(trainable)
    outputs = trainable.forward(said)
    joint = trainable.joint_losses(outputs.gathered)
    layers: dict[str, list[Tensor]] = {"hidden": [], "output": [], "head": []}
    for modality in ("image", "text"):
        first = model.stages(modality, said)["encoder"]
        hidden = F.linear(first, model.shared.fc1.weight, model.shared.fc1.bias)
        inner = F.layer_norm(F.gelu(hidden), (4 * WIDTH,), model.shared.norm.weight, model.shared.norm.bias, 1e-6)
        output = F.linear(inner, model.shared.fc2.weight, model.shared.fc2.bias)
        logits = model.head[1](F.layer_norm(output, (WIDTH,), model.head[0].weight, model.head[0].bias, 1e-6))
        for stage, value in (("hidden", hidden), ("output", output), ("head", logits)):
            layers[stage].append(F.normalize(value, dim=1))
        p, q = said["image_cls"].softmax(dim=1), logits.softmax(dim=1)
        torch.testing.assert_close(
            outputs.row_losses[f"kl_{modality}"], (p * (p / q).log()).sum(dim=1), atol=1e-4, rtol=1e-4
        )
    for stage, (a, b) in layers.items():
        scores = a @ b.T / 0.07
        expected = (F.cross_entropy(scores, torch.arange(4)) + F.cross_entropy(scores.T, torch.arange(4))) / 2
        name = "contrastive" if stage == "output" else f"contrastive_{stage}"
        torch.testing.assert_close(joint[name], expected, atol=1e-4, rtol=1e-4)
        assert trainable.weights[name] == pytest.approx(1 / 3)
    assert model.layers[-1] == "head" and trainable.weights["kl_text"] == 0.5
    torch.stack([*(rows.mean() for rows in outputs.row_losses.values()), *joint.values()]).sum().backward()
    small_students.gradients_reach_exactly_the_trainable(model)


def d2v2_config(folder: Path, **keys: Any) -> SSmkeConfig:
    """Both encoders data2vec 2.0's, as before the thesis."""
    image, text, *_ = small_students.d2v2_files(folder)
    sizes = {"width": WIDTH, "heads": HEADS, "image_size": 32, "depth": 2, "max_tokens": 16, "token_types": "none",
             "text": "d2v2", "vocabulary": small_students.BPE_TOKENS}  # fmt: skip
    return SSmkeConfig(image_weights=str(image), text_weights=str(text), **{**sizes, **keys})


def itc(image: Tensor, text: Tensor) -> Tensor:
    a, b = (F.normalize(one, dim=1) for one in (image, text))
    scores = a @ b.T / 0.07
    return (F.cross_entropy(scores, torch.arange(4)) + F.cross_entropy(scores.T, torch.arange(4))) / 2


def all_gradients(trainable: ClsRegression, outputs: Any, joint: Any) -> None:
    torch.stack([*(rows.mean() for rows in outputs.row_losses.values()), *joint.values()]).sum().backward()
    small_students.gradients_reach_exactly_the_trainable(trainable.model)


def test_the_first_shre_is_an_mlp_of_two_layers_with_contrast_of_classes(tmp_path: Path) -> None:
    """O: [C] Mlp of timm with a norm before its second layer, KL and contrast of what that gives."""
    from timm.layers import Mlp

    trainable = built(d2v2_config(tmp_path, shared="mlp-2", taps="head"), target_loss="kl", wd_rule="notes")
    model, said = trainable.model.eval(), batch(trainable)
    mlp = Mlp(WIDTH, 4 * WIDTH, WIDTH, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    named = {"fc1": model.shared.fc1, "norm": model.shared.norm, "fc2": model.head[1]}
    for name, module in named.items():
        getattr(mlp, name).load_state_dict(module.state_dict())
    outputs = trainable.forward(said)
    joint = trainable.joint_losses(outputs.gathered)
    first = {modality: model.stages(modality, said)["encoder"] for modality in ("image", "text")}
    p = said["image_cls"].softmax(dim=1)
    for modality, x in first.items():
        q = mlp(x).softmax(dim=1)
        expected = (p * (p / q).log()).sum(dim=1)
        torch.testing.assert_close(outputs.row_losses[f"kl_{modality}"], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(joint["contrastive_head"], itc(mlp(first["image"]), mlp(first["text"])), atol=1e-4,
                               rtol=1e-4)  # fmt: skip
    assert joint.keys() == {"contrastive_head"} and trainable.weights["contrastive_head"] == 1.0
    assert model.layers == ("encoder", "shared", "head")
    all_gradients(trainable, outputs, joint)


@pytest.mark.parametrize("mapped", [False, True])
def test_without_a_head_what_is_shared_meets_the_cls(tmp_path: Path, mapped: bool) -> None:
    """P's Sx3HRe, and with a map before each contrast."""
    trainable = built(d2v2_config(tmp_path, regression_head=False, tap_maps=mapped), wd_rule="notes")
    model, said = trainable.model.eval(), batch(trainable)
    outputs = trainable.forward(said)
    joint = trainable.joint_losses(outputs.gathered)
    found = {modality: model.stages(modality, said) for modality in ("image", "text")}
    for modality, stages in found.items():
        expected = ((stages["output"] - said["image_cls"]) ** 2).mean(dim=1)
        torch.testing.assert_close(outputs.row_losses[f"regression_{modality}"], expected, atol=1e-5, rtol=1e-5)
    for stage, name in (("output", "contrastive"), ("hidden", "contrastive_hidden")):
        seen = [found[modality][stage] @ model.projections.maps[f"{modality}_{stage}"].weight.T if mapped
                else found[modality][stage] for modality in ("image", "text")]  # fmt: skip
        torch.testing.assert_close(joint[name], itc(*seen), atol=1e-4, rtol=1e-4)
        if mapped and stage == "output":
            torch.testing.assert_close(model.embed_texts(said), seen[1])
    assert model.head is None and model.layers == ("encoder", "shared", *(("projection",) if mapped else ()))
    all_gradients(trainable, outputs, joint)
    (tmp_path / "run" / "model").mkdir(parents=True)
    model.save(tmp_path / "run")
    again = SSmke.load(tmp_path / "run", {"student": model.config.model_dump(mode="json")})
    torch.testing.assert_close(again.embed_images(said), model.embed_images(said))
    torch.testing.assert_close(
        again.embed_texts(again.tokenize(["a dog"])), model.embed_texts(model.tokenize(["a dog"]))
    )
    assert ClsRegression.count(
        SimpleNamespace(method=trainable.config, student=model.config), TeacherSizes()
    ).total == sum(p.numel() for p in model.parameters())


class TeacherSizes:
    """As counting asks for it."""

    def signals(self) -> dict[str, SignalSpec]:
        return {"image_cls": SignalSpec("image_cls", "images", (WIDTH,))}

    def parameters_count(self) -> int:
        return 0


def test_what_is_shared_must_be_as_wide_as_what_it_meets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is 128 wide, the teacher's signal 32: set student\.regression_head"):
        built(d2v2_config(tmp_path, shared="mlp-2", regression_head=False))
    with pytest.raises(UserError, match=r"student\.taps=head is of the head, and there is none"):
        built(d2v2_config(tmp_path, taps="head", regression_head=False))


class Patches:
    """image_tokens of a split's pictures: random numbers, the class token first."""

    n_views = 0
    specs: ClassVar[Any] = {"image_tokens": SignalSpec("image_tokens", "images", (5, WIDTH))}
    values = torch.randn((8, 5, WIDTH), generator=torch.Generator().manual_seed(5))

    def gather(self, signals: Any, rows: np.ndarray, views: Any = None) -> dict[str, Tensor]:
        return {"image_tokens": self.values[torch.as_tensor(rows)]}


def test_words_and_patches_learn_the_teachers_patches(tmp_path: Path) -> None:
    stage = SimpleNamespace(
        method=ClsRegressionConfig(contrastive_weight=1.0, target_loss="target-cmli", signal="image_tokens"),
        student=config(tmp_path), train=TrainConfig(),
    )  # fmt: skip
    trainable = ClsRegression.build(stage, [replace(pairs(), targets=lambda split: Patches())], "cpu")
    model, said = trainable.model.eval(), batch(trainable)
    outputs = trainable.forward(said)
    tokens = {modality: model.head(model.tokens(modality, said)[0]["output"]) for modality in ("image", "text")}
    token_map = trainable.memory.token_map
    assert token_map.weight.shape == (32, WIDTH)
    for row, length in enumerate(said["attention_mask"].sum(dim=1).tolist()):
        patches = said["image_tokens"][row, 1:]
        expected = F.mse_loss(tokens["image"][row, 1:], patches)
        torch.testing.assert_close(outputs.row_losses["target_cmli_image"][row], expected, atol=1e-5, rtol=1e-4)
        words, seen = token_map(tokens["text"][row, 1 : length - 1]), token_map(patches)
        best = [max(range(4), key=lambda k: F.cosine_similarity(word, seen[k], dim=0).item()) for word in words]
        torch.testing.assert_close(
            outputs.row_losses["target_cmli_text"][row], F.mse_loss(words, seen[best]), atol=1e-5, rtol=1e-4
        )
    assert trainable.weights["target_cmli_text"] == 0.5
    joint = trainable.joint_losses(outputs.gathered)
    torch.stack([*(rows.mean() for rows in outputs.row_losses.values()), *joint.values()]).sum().backward()
    small_students.gradients_reach_exactly_the_trainable(model)
    grouped = [p for group in trainable.parameter_groups(1e-3, 0.01) for p in group["params"]]
    assert any(p is token_map.weight for p in grouped)
    with pytest.raises(UserError, match="needs a student that gives all its tokens"):
        stage.student = config(tmp_path, shared="mlp")
        ClsRegression.build(stage, [replace(pairs(), targets=lambda split: Patches())], "cpu")


def test_without_a_teacher_there_is_no_head(tmp_path: Path) -> None:
    student = config(tmp_path)
    stage = SimpleNamespace(
        method=ClsRegressionConfig(regression_weight=0.0, contrastive_weight=1.0), student=student, train=TrainConfig()
    )
    assert ClsRegression.signals(stage, {"images", "texts"}) == ()
    trainable = ClsRegression.build(stage, [replace(pairs(), targets=lambda split: None)], "cpu")
    outputs = trainable.forward(batch(trainable))
    assert trainable.model.head is None and outputs.row_losses == {}
    assert "head" not in trainable.model.layers
    sizes = [p.numel() for p in trainable.model.parameters()]
    assert ClsRegression.count(stage, None).total == sum(sizes)
    with pytest.raises(UserError, match=r"student\.taps=all is of the head"):
        built(config(tmp_path, taps="all"), regression_weight=0.0)


@pytest.mark.parametrize("token_types", ["none", "before", "after"])
def test_gradients_reach_everything_but_the_fixed_positions(tmp_path: Path, token_types: str) -> None:
    trainable = built(config(tmp_path, token_types=token_types))
    outputs = trainable.forward(batch(trainable))
    joint = trainable.joint_losses(outputs.gathered)
    torch.stack([*(rows.mean() for rows in outputs.row_losses.values()), *joint.values()]).sum().backward()
    small_students.gradients_reach_exactly_the_trainable(trainable.model)
    frozen = [name for name, value in trainable.model.named_parameters() if not value.requires_grad]
    assert frozen == ["image.embed.positions"]
    decayed, spared = trainable.parameter_groups(1e-3, 0.01)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    tables = {id(p) for p in trainable.model.parts_without_decay()["embeddings"]}
    assert len(tables) == 3 and tables <= {id(p) for p in spared["params"]}
    assert all(p.ndim > 1 for p in decayed["params"])


def test_where_its_token_types_and_blocks_come_in(tmp_path: Path) -> None:
    none, before, after = (
        built(config(tmp_path, token_types=token_types)).model.eval() for token_types in ("none", "before", "after")
    )  # fmt: skip
    texts = none.tokenize(["a dog runs", "a"])
    for model in (before, after):
        model.load_state_dict({**model.state_dict(), **none.state_dict()})
        for vector in model.types.values():
            vector.data.zero_()
    plain = none.stages("text", texts)
    for model in (before, after):
        torch.testing.assert_close(model.stages("text", texts)["output"], plain["output"])
        model.types["text"].data.copy_(torch.linspace(-1, 1, WIDTH))
        assert not torch.allclose(model.stages("text", texts)["output"], plain["output"], atol=1e-3)
    torch.testing.assert_close(after.stages("text", texts)["encoder"], plain["encoder"])
    assert not torch.allclose(before.stages("text", texts)["encoder"], plain["encoder"], atol=1e-3)
    assert [*none.layers] == ["encoder", "head", "shared"]
    torch.testing.assert_close(none.embed_texts(texts), plain["output"])


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"student\.text_weights is needed"):
        built(config(tmp_path).model_copy(update={"text_weights": None}))
    with pytest.raises(UserError, match=r"student\.image_weights is needed"):
        built(config(tmp_path).model_copy(update={"image_weights": None}))
    random = built(config(tmp_path, init="random").model_copy(update={"image_weights": None})).model
    assert isinstance(random, SSmke)
