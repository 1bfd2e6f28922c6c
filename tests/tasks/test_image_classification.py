"""Fine-tuning for classes of pictures: heads, what is trained, layers' rates, and timm's augmentation drawn anew."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from timm.data import auto_augment
from timm.data.mixup import mixup_target
from timm.data.random_erasing import RandomErasing

from mmkd_cli.architectures.d2v2 import ImageEncoder, Sizes
from mmkd_cli.architectures.pooled_encoder import PooledEncoder
from mmkd_cli.core.contracts import Position, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.rand_augment import RandAugment
from mmkd_cli.data.views import ViewSpec, view
from mmkd_cli.students.image_classifier import ImageClassifier, ImageClassifierConfig
from mmkd_cli.tasks.image_classification import ImageClassification, ImageClassificationConfig
from mmkd_cli.tasks.picture_mixing import MixingConfig, PictureMixing
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.randomness import seed_all

NAMES = ["circle", "square", "star"]
PLAIN = {"rand_augment": "", "erase": 0.0, "mixup": 0.0, "cutmix": 0.0}
AT = Position(0, 0, 0)


def drawn(row: int, side: int = 40) -> Image.Image:
    """A picture of its own."""
    return Image.fromarray(np.random.default_rng(row).integers(0, 256, (side, side, 3), dtype=np.uint8))


def labelled_pictures(labels: Any = (2, 0, -1, 1, 0, 1), name: str = "pictures") -> TrainingData:
    """One opened data set, a third of which has no label."""

    def cell(row: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        drawn(row).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    columns = {"image_id": [str(row) for row in range(len(labels))], "image": [cell(r) for r in range(len(labels))],
               "label": [*labels]}  # fmt: skip
    features = {"image_id": datasets.Value("string"), "image": datasets.Image(),
                "label": datasets.ClassLabel(names=NAMES)}  # fmt: skip
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return TrainingData(name, 1.0, ("train", "val"), lambda split: {"images": table}, lambda split: None,
                        lambda split, table: np.array([5] if split == "val" else [], dtype=np.int64))  # fmt: skip


def stage(task: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **student: Any) -> Any:
    keys = {"arch": "test_vit", "init": "random", **student}
    return SimpleNamespace(
        task=ImageClassificationConfig(**(task or {})), student=ImageClassifierConfig(**keys),
        train=TrainConfig(**{"batch_size": 4, **(train or {})}), teacher=None,
    )  # fmt: skip


def built(task: dict[str, Any] | None = None, **student: Any) -> ImageClassification:
    return ImageClassification.build(stage(task, **student), [labelled_pictures()], None, "cpu")


def encoder(depth: int = 3) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(Sizes(width=32, depth=depth, heads=2, mlp_width=64, image_size=32))


def test_rows_are_pictures_with_labels() -> None:
    trainable = built(PLAIN)
    feed, seen = trainable.feeds[0], trainable.validation[0]
    assert (feed.rows, seen.rows) == (5, 4) and trainable.content == {"labels": NAMES}
    transform = trainable.model.picture_transform
    batch = feed.load(np.array([0, 2]), Position(3, 9, 0))
    assert batch["label"].tolist() == [2, 1] and batch["row"].tolist() == [0, 3]
    for pixels, row in zip(batch["pixels"], (0, 3), strict=True):
        assert torch.equal(pixels, transform(drawn(row), view(ViewSpec(), 0, "train", row, 3)))
    assert torch.equal(seen.load(np.array([1]), Position(3, 9, 0))["pixels"][0], transform(drawn(1)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_without_mixing_is_cross_entropy(smoothing: float) -> None:
    trainable = built({**PLAIN, "label_smoothing": smoothing})
    batch = trainable.feeds[0].load(np.arange(4), AT)
    pixels = trainable.model.picture_transform.normalize(batch["pixels"], torch.float32)
    trainable.model.train()
    said = trainable.forward(trainable.prepare(batch)).row_losses["cross_entropy"]
    logits = trainable.model.model(pixels)
    wanted = F.cross_entropy(logits, batch["label"], label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(said, wanted)
    trainable.model.eval()
    assert trainable.prepare(batch) is batch
    plain = trainable.forward(batch)
    torch.testing.assert_close(
        plain.row_losses["cross_entropy"], F.cross_entropy(trainable.model.model(pixels), batch["label"],
                                                           reduction="none"))  # fmt: skip
    assert plain.report["accuracy"].tolist() == (logits.argmax(1) == batch["label"]).float().tolist()


def test_a_pooled_encoder_classifies_the_mean_of_its_patches() -> None:
    model = PooledEncoder(encoder(), 3)
    pixels = torch.randn(2, 3, 32, 32)
    patches = model.encoder(pixels)[:, 1:]
    mean = sum(patches[:, i] for i in range(4)) / 4
    norm = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(model(pixels), norm @ model.head.weight.T + model.head.bias, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("made", ["blocks", "test_vit", "resnet10t"])
def test_a_probe_trains_the_head_alone(made: str) -> None:
    if made == "blocks":
        model = ImageClassifier.build(ImageClassifierConfig(), NAMES, encoder())
    else:
        model = ImageClassifier.build(ImageClassifierConfig(arch=made, init="random"), NAMES, None)
    model.probe()
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    heads = {"blocks": ("norm.weight", "norm.bias", "head.weight", "head.bias"), "resnet10t": ("fc.weight", "fc.bias"),
             "test_vit": ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")}[made]  # fmt: skip
    assert names == {f"model.{name}" for name in heads}
    before = {n: b.clone() for n, b in model.named_buffers()}
    model.train()
    model.classify_images({"pixels": torch.zeros((2, 3, 32, 32), dtype=torch.uint8)}).sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == names
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())  # batch norms do not move


def test_the_last_norm_of_a_class_token_goes_on_behind_the_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole: Any = timm.create_model("test_vit")
    torch.nn.init.normal_(whole.norm.weight)
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    config = ImageClassifierConfig(arch="test_vit", weights=str(tmp_path / "vit.safetensors"))
    model = ImageClassifier.build(config, NAMES, None)
    assert ImageClassifier.files(config) == {"student.weights": str(tmp_path / "vit.safetensors")}
    pixels = torch.randn(2, 3, 160, 160)
    x = whole.eval().patch_embed(pixels)
    x = whole._pos_embed(x)
    for block in whole.blocks:
        x = block(x)
    wanted = whole.norm(x[:, whole.num_prefix_tokens :].mean(1))
    theirs: Any = model.model.eval()
    torch.testing.assert_close(theirs(pixels), wanted @ theirs.head.weight.T + theirs.head.bias, atol=1e-5, rtol=1e-4)
    model.save(tmp_path)
    opened: Any = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    assert torch.equal(opened(pixels), theirs(pixels))
    again = ImageClassifier.load(tmp_path, {})
    assert again.labels == NAMES and torch.equal(again.model(pixels), theirs(pixels))
    again.new_labels(["a", "b"])
    assert again.model(pixels).shape == (2, 2)


def test_rates_fall_from_layer_to_layer() -> None:
    """As the thesis's code has them: decay ** (layers + 1 - layer), embeddings are layer 0, the head the last."""
    model = ImageClassifier.build(ImageClassifierConfig(), NAMES, encoder(depth=3))
    trainable = ImageClassification(model, ImageClassificationConfig(layer_decay=0.5), 0, [], [])
    rates, decays = {}, {}
    names = {id(p): n.removeprefix("model.") for n, p in model.named_parameters()}
    for group in trainable.parameter_groups(1.0, 0.1):
        for parameter in group["params"]:
            rates[names[id(parameter)]], decays[names[id(parameter)]] = group["lr"], group["weight_decay"]
    for name, rate in rates.items():
        layer = int(name.split("blocks.")[1][0]) + 1 if "blocks" in name else 0 if "embed" in name else 4
        assert rate == 0.5 ** (4 - layer), name
        vector = name.endswith(("bias", "cls_token")) or "norm" in name
        assert decays[name] == (0.0 if vector else 0.1), name
    assert "encoder.embed.positions" not in rates and len(rates) == len([*model.parameters()]) - 1


def test_rand_augment_is_timms() -> None:
    """The same operations by timm's own module, its global generator put where ours is."""
    how, mean = "rand-m9-mstd0.5-inc1", (0.485, 0.456, 0.406)
    ours = RandAugment(how, 32, mean, "bicubic", 7)
    hparams = {"translate_const": 14, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    theirs = auto_augment.rand_augment_transform(how, hparams)
    changed = 0
    for row in range(12):
        picture = drawn(row, 32)
        pixels = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())
        random.seed(f"(7,) {row} 2")
        chosen = np.random.Generator(np.random.Philox(key=random.getrandbits(128))).choice(len(theirs.ops), 2)
        for number in chosen:
            picture = theirs.ops[number](picture)
        state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        found = ours(pixels, row, 2)
        assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(picture))
        assert random.getstate() == state[0] and np.random.get_state()[1].tolist() == state[1]
        assert torch.equal(torch.get_rng_state(), state[2])  # what others draw is left alone
        assert torch.equal(pickle.loads(pickle.dumps(ours))(pixels, row, 2), found)
        changed += not torch.equal(found, ours(pixels, row, 3))
    assert changed > 4
    strongest = RandAugment("rand-m10-n15-p1-inc1", 32, mean, "bicubic", 7)  # among its draws is a picture of no bits
    assert all(strongest(pixels, row, 0).shape == (3, 32, 32) for row in range(20))
    with pytest.raises(UserError, match=r"task.rand_augment 'rand-q9' is not timm's"):
        RandAugment("rand-q9", 32, mean, "bicubic")


def mixed(inputs: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, step: int = 0, **keys: Any) -> Any:
    return PictureMixing(MixingConfig(**{**PLAIN, **keys}), 3, seed=1)(inputs.clone(), labels, rows, 0, step)


def test_erasing_is_timms_and_the_pictures_own() -> None:
    inputs, labels, rows = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), torch.tensor([5, 9, 2, 7])
    found, targets = mixed(inputs, labels, rows, erase=1.0)
    for place, row in enumerate(rows.tolist()):
        seed_all(1, "erase", 0, row)
        assert torch.equal(found[place], RandomErasing(1.0, mode="pixel", device="cpu")(inputs[place].clone()))
    assert torch.equal(targets, mixup_target(labels, 3, 1.0, 0.1))
    alone, _ = mixed(inputs[2:], labels[2:], rows[2:], erase=1.0)
    assert torch.equal(alone, found[2:])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_neighbours_are_mixed_and_nothing_depends_on_the_cut(kind: str) -> None:
    inputs, labels, rows = torch.randn(8, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 1, 2, 0]), torch.arange(8)
    shares = set()
    for step in range(6):
        found, targets = mixed(inputs, labels, rows, step, mixed=1.0, label_smoothing=0.0, **{kind: 1.0})
        share = float(targets[0, 0])  # of picture 0 in place 0, whose neighbour is of class 1
        shares.add(share)
        for place in range(8):
            own, other = labels[place], labels[place ^ 1]
            wanted = share * F.one_hot(own, 3) + (1 - share) * F.one_hot(other, 3)
            torch.testing.assert_close(targets[place], wanted)
            if kind == "mixup":
                wanted = share * inputs[place] + (1 - share) * inputs[place ^ 1]
                torch.testing.assert_close(found[place], wanted, atol=1e-5, rtol=1e-5)
            else:
                kept = (found[place] == inputs[place]).all(0)
                assert ((found[place] == inputs[place ^ 1]).all(0) | kept).all()
                assert float(kept.float().mean()) == pytest.approx(share)
        halves = [mixed(inputs[a : a + 4], labels[a : a + 4], rows[a : a + 4], step, mixed=1.0, label_smoothing=0.0,
                        **{kind: 1.0}) for a in (0, 4)]  # fmt: skip
        assert torch.equal(torch.cat([half[0] for half in halves]), found)
        assert torch.equal(torch.cat([half[1] for half in halves]), targets)
    assert len(shares) == 6


def test_what_can_not_be_trained_is_said() -> None:
    data = labelled_pictures()
    with pytest.raises(UserError, match=r"mixed two and two: make train.batch_size 3 a multiple of 2"):
        ImageClassification.build(stage(train={"batch_size": 3}), [data], None, "cpu")
    with pytest.raises(UserError, match="has no labelled pictures in 'train'"):
        ImageClassification.build(stage(PLAIN), [labelled_pictures((-1, -1))], None, "cpu")
    bare = TrainingData("bare", 1.0, ("train",), lambda s: {"images": data.tables(s)["images"].remove_columns("label")},
                        data.targets, data.rejected)  # fmt: skip
    with pytest.raises(UserError, match="has no column 'label' in 'train'"):
        ImageClassification.build(stage(PLAIN), [bare], None, "cpu")
    with pytest.raises(UserError, match="name what is trained: a run by --model RUN"):
        ImageClassification.build(stage(PLAIN, arch=None), [data], None, "cpu")
