"""Fine-tuning for retrieval: its loss by cross-entropy, what is compared and trained, the pictures that it sees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmkd_cli.core.contracts import Position
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import decode
from mmkd_cli.data.views import ViewSpec, view
from mmkd_cli.students.mm_beit2 import MmBeit2
from mmkd_cli.students.mm_d2v2 import MmD2v2, MmD2v2Config
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.s_smke import SSmke, SSmkeConfig
from mmkd_cli.tasks.retrieval import Retrieval, RetrievalConfig
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.pairs_in_memory import pairs, picture
from tests.students import small_students, test_mm_beit2

AT = Position(0, 0, 0)
SIZES = {"width": small_students.WIDTH, "heads": small_students.HEADS, "image_size": 32, "depth": 2, "max_tokens": 16}


def s_smke(folder: Path, heads: Heads, **keys: Any) -> SSmke:
    text = small_students.bert_folder(folder / "bert")
    torch.manual_seed(0)
    found = SSmkeConfig(text_weights=str(text), init="random", **{**SIZES, **keys})
    return SSmke.build(found, heads, "image_cls", 12, lambda: ())


def mm_d2v2(folder: Path, heads: Heads, **keys: Any) -> MmD2v2:
    image, text, *_ = small_students.d2v2_files(folder)
    files = {"image_weights": str(image), "text_weights": str(text), "vocabulary": small_students.BPE_TOKENS}
    return MmD2v2.build(MmD2v2Config(**files, **{**SIZES, **keys}), heads, "image_cls", 12, lambda: ())


def mm_beit2(folder: Path, heads: Heads, **keys: Any) -> MmBeit2:
    return MmBeit2.build(test_mm_beit2.config(folder, **keys), heads, "image_cls", 12, lambda: ())


def tuned(model: Any, **keys: Any) -> Retrieval:
    """Pictures and texts in memory."""
    from mmkd_cli.tasks.captioned_views import captioned_views

    config = RetrievalConfig(**keys)
    feeds, validation = (
        [captioned_views(pairs(), split, model, 0, config.view if split == "train" else None, 0)]
        for split in ("train", "val")
    )
    return Retrieval(model, config, feeds, validation)


@pytest.mark.parametrize("dedup", [False, True])
def test_the_loss_is_cross_entropy_over_the_batch(tmp_path: Path, dedup: bool) -> None:
    trainable = tuned(s_smke(tmp_path, Heads(True, "clip", None)), dedup=dedup)
    model = trainable.model.eval()
    batch = trainable.feeds[0].load(np.array([0, 3, 8, 5]), AT)  # two captions of picture 0
    assert batch["picture"].tolist() == [0, 3, 0, 5]
    a, b = (F.normalize(embed(batch), dim=1) for embed in (model.embed_images, model.embed_texts))
    logits = a @ b.T * model.projections.logit_scales["output"].exp()
    if dedup:
        logits[0, 2] = logits[2, 0] = -torch.inf
    wanted = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2
    outputs = trainable.forward(batch)
    torch.testing.assert_close(trainable.joint_losses(outputs.gathered)["contrastive"], wanted, atol=1e-5, rtol=1e-5)
    assert outputs.row_losses == {}
    torch.testing.assert_close(outputs.report["positive_cosine"], (a * b).sum(1))


@pytest.mark.parametrize(
    ("made", "heads", "keys", "unused"),
    [
        (s_smke, Heads(True, "clip", None), {}, ("head.", "projections.logit_scales.hidden")),
        (s_smke, Heads(True, None, None), {"token_types": "before"}, ("head.",)),
        (s_smke, Heads(True, "clip", None), {"shared": "mlp", "taps": "all"},
         ("projections.logit_scales.hidden", "projections.logit_scales.output")),
        (mm_d2v2, Heads(True, None, None), {"embeddings": "trained"}, ("head.",)),
        (mm_beit2, Heads(True, "clip", 8), {}, ("head.",)),
        (mm_d2v2, Heads(True, "vlmo", 8), {"embeddings": "trained"},
         ("head.", "projections.maps.image_encoder", "projections.maps.text_encoder",
          "projections.logit_scales.encoder")),
    ],
)  # fmt: skip
def test_gradients_reach_what_is_compared(tmp_path: Path, made: Any, heads: Heads, keys: Any, unused: Any) -> None:
    trainable = tuned(made(tmp_path, heads, **keys))
    frozen = {n for n, p in trainable.model.named_parameters() if not p.requires_grad}
    assert {n for n in frozen if not n.endswith("positions")} == {
        n for n, _ in trainable.model.named_parameters() if n.startswith(unused)
    }
    outputs = trainable.forward(trainable.feeds[0].load(np.arange(6), AT))
    trainable.joint_losses(outputs.gathered)["contrastive"].backward()
    reached = {n for n, p in trainable.model.named_parameters() if p.grad is not None}
    assert reached == {n for n, p in trainable.model.named_parameters() if p.requires_grad}
    if heads.layout is None:
        assert "contrast_scale" in reached
        trainable.save(tmp_path)
        assert "contrast_scale" not in (tmp_path / "heads.safetensors").read_bytes().decode("latin1")


def test_every_caption_and_epoch_has_its_own_view(tmp_path: Path) -> None:
    trainable = tuned(s_smke(tmp_path, Heads(False, "clip", None)), view=ViewSpec(scale_min=0.5, flip=1.0))
    feed, transform = trainable.feeds[0], trainable.model.picture_transform
    assert feed.rows == 24  # three captions of eight pictures; a text without one is left out
    for epoch in (0, 3):
        seen = feed.load(np.array([1, 9]), Position(epoch, 7, 0))["pixels"]
        for pixels, row in zip(seen, (1, 9), strict=True):
            drawn = view(ViewSpec(scale_min=0.5, flip=1.0), 0, "train", row, epoch)
            assert drawn.width * drawn.height >= 0.5 and torch.equal(pixels, transform(decode(picture(1)), drawn))
        assert not torch.equal(seen[0], seen[1])
    plain = trainable.validation[0].load(np.array([1]), Position(3, 7, 0))["pixels"]
    assert torch.equal(plain[0], transform(decode(picture(1))))


def test_a_batch_cut_in_pieces_has_the_losses_of_the_whole(tmp_path: Path) -> None:
    losses = []
    for micro in (None, 3):
        trainable = tuned(s_smke(tmp_path, Heads(True, "clip", None)))
        config = TrainConfig(batch_size=8, micro_batch_size=micro, max_steps=4, peak_lr=1e-3, seed=1)
        place = tmp_path / str(micro)
        place.mkdir()
        losses.append(train(trainable, config, place, device=torch.device("cpu")).last["contrastive"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_every_table_of_embeddings_is_spared(tmp_path: Path) -> None:
    trainable = tuned(s_smke(tmp_path, Heads(True, "clip", None)))
    groups = trainable.parameter_groups(1e-3, 0.1)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {n for n, p in trainable.model.named_parameters() if id(p) in decayed}
    assert names and not any("embeddings" in n or "cls_token" in n or n.endswith("bias") for n in names)
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in trainable.model.parameters())


def test_data_without_pairs_are_named(tmp_path: Path) -> None:
    data = pairs(splits=("train",))
    stage = SimpleNamespace(task=RetrievalConfig(), train=TrainConfig(), student=SSmkeConfig(
        text_weights=str(small_students.bert_folder(tmp_path / "bert")), init="random", **SIZES))  # fmt: skip
    bare = {name: data.tables("train")[name] for name in ("texts",)}
    with pytest.raises(UserError, match="has no table 'images' in 'train'"):
        Retrieval.build(stage, [type(data)("x", 1.0, ("train",), lambda s: bare, data.targets, data.rejected)], None,
                        "cpu")  # fmt: skip
