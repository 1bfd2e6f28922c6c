"""A text encoder beside the teacher: every kind of encoder, heads, statistics, saved folders that libraries open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from mmkd_cli.core.contracts import Batch
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.unimodal import Unimodal, UnimodalConfig
from tests.architectures import official_d2v2
from tests.students import small_students
from tests.students.small_students import HEADS, TEXTS, WIDTH

REGRESSION = Heads(regression=True, layout=None, dim=None)
BOTH = Heads(regression=True, layout="clip", dim=16)
CONTRASTIVE = Heads(regression=False, layout="clip", dim=16)


def scratch(**keys: Any) -> UnimodalConfig:
    return UnimodalConfig(
        **{"text": "scratch", "depth": 2, "width": WIDTH, "heads": HEADS, "vocabulary": 64, "max_tokens": 12, **keys}
    )


def build(config: UnimodalConfig, heads: Heads = REGRESSION, width: int = WIDTH) -> Unimodal:
    torch.manual_seed(0)
    return Unimodal.build(config, heads, "image_cls", width, lambda: TEXTS).eval()


def batch_of(student: Unimodal, width: int = WIDTH) -> dict[str, Tensor]:
    signal = torch.randn(len(TEXTS), width, generator=torch.Generator().manual_seed(3))
    return {**student.tokenize(TEXTS), "image_cls": signal}


def reload(student: Unimodal, config: UnimodalConfig, folder: Path, teacher: Any = None) -> Unimodal:
    folder.mkdir(parents=True, exist_ok=True)
    student.save(folder)
    return Unimodal.load(folder, {"student": config.model_dump(mode="json")}, teacher)


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_folder_of_half_precision_is_trained_in_float32(tmp_path: Path, init: str) -> None:
    folder = small_students.bert_folder(tmp_path / "bert")
    AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    config = UnimodalConfig(text="transformers", text_weights=str(folder), depth=2, max_tokens=12, init=init)
    student = build(config)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert {p.dtype for p in reload(student, config, tmp_path / "saved").parameters()} == {torch.float32}


@pytest.mark.parametrize("heads", [REGRESSION, BOTH, CONTRASTIVE])
@pytest.mark.parametrize("kind", ["scratch", "transformers", "random", "d2v2"])
def test_a_saved_student_embeds_the_same(tmp_path: Path, kind: str, heads: Heads) -> None:
    if kind == "scratch":
        config = scratch(pooling="mean", standardize=True)
    elif kind == "d2v2":
        text = small_students.d2v2_files(tmp_path / "d2v2")[1]
        config = UnimodalConfig(text_weights=str(text), depth=2, width=WIDTH, heads=HEADS, max_tokens=32)
    else:
        folder = small_students.bert_folder(tmp_path / "bert")
        init = "random" if kind == "random" else "pretrained"
        config = UnimodalConfig(text="transformers", text_weights=str(folder), depth=2, max_tokens=12, init=init)
    student = build(config, heads, width=40)
    student.set_statistics(torch.linspace(-1, 1, 40), torch.linspace(1, 2, 40))
    loaded = reload(student, config, tmp_path / "run")
    batch = batch_of(student, width=40)
    encoder = ("encoder",) if heads.regression else ()
    assert loaded.layers == student.layers == (encoder + (("projection",) if heads.layout else ()))
    for layer in student.layers:
        assert torch.equal(loaded.embed_texts(batch, layer), student.embed_texts(batch, layer))
        assert torch.equal(loaded.embed_images(batch, layer), student.embed_images(batch, layer))
        assert loaded.embed_texts(batch, layer).shape == loaded.embed_images(batch, layer).shape
    assert loaded.tokenize(TEXTS)["input_ids"].equal(batch["input_ids"])


@pytest.mark.parametrize("kind", ["scratch", "transformers"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "eos"])
def test_transformers_opens_the_saved_text_model(tmp_path: Path, kind: str, pooling: str) -> None:
    config = scratch(pooling=pooling)
    if kind == "transformers":
        folder = small_students.bert_folder(tmp_path / "bert")
        config = UnimodalConfig(text="transformers", text_weights=str(folder), depth=2, max_tokens=12, pooling=pooling)
    student = build(config)
    (tmp_path / "run").mkdir()
    student.save(tmp_path / "run")
    model, report = AutoModel.from_pretrained(tmp_path / "run" / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    model.eval()
    batch = batch_of(student)
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            hidden = model(**tokenizer(text, truncation=True, max_length=12, return_tensors="pt")).last_hidden_state[0]
        expected = {"cls": hidden[0], "mean": hidden.mean(0), "eos": hidden[-1]}[pooling]
        torch.testing.assert_close(student.embed_texts(batch)[row], expected, atol=1e-5, rtol=1e-4)


def test_the_first_layers_of_a_checkpoint_are_kept(tmp_path: Path) -> None:
    folder = small_students.bert_folder(tmp_path / "bert", layers=3)
    whole = AutoModel.from_pretrained(folder).eval()
    config = UnimodalConfig(text="transformers", text_weights=str(folder), depth=2, max_tokens=12)
    student = build(config)
    batch = batch_of(student)
    with torch.no_grad():
        hidden = whole(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(student.embed_texts(batch), hidden[:, 0], atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"student\.depth 4 is more than the 3 layers"):
        build(config.model_copy(update={"depth": 4}))
    random = build(config.model_copy(update={"init": "random"}))
    assert not torch.allclose(random.embed_texts(batch), student.embed_texts(batch), atol=0.1)


def test_data2vec_text_equals_plain_formulas(tmp_path: Path) -> None:
    _, path, _, state = small_students.d2v2_files(tmp_path)
    student = build(UnimodalConfig(text_weights=str(path), depth=3, width=WIDTH, heads=HEADS, max_tokens=32))
    batch = batch_of(student)
    assert batch["input_ids"][0, 0] == 0 and 2 not in batch["input_ids"]  # <s> in front, no </s>
    for row in range(len(TEXTS)):
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
        expected = official_d2v2.text_forward(ids, state, 3, HEADS)[0]
        torch.testing.assert_close(student.embed_texts(batch)[row], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("heads", "width"), [(REGRESSION, WIDTH), (REGRESSION, 40), (BOTH, 40), (CONTRASTIVE, 40)])
def test_gradients_reach_exactly_what_is_trained(tmp_path: Path, heads: Heads, width: int) -> None:
    folder = small_students.bert_folder(tmp_path / "bert")
    student = build(UnimodalConfig(text="transformers", text_weights=str(folder), depth=3, max_tokens=12), heads, width)
    said = student.train()(batch_of(student, width))
    assert set(said.regressed) == ({"text"} if heads.regression else set())
    vectors = [*said.regressed.values(), *(v for pair in said.contrasted.values() for v in pair)]
    sum(v.pow(3).sum() for v in vectors).backward()
    for name, parameter in student.named_parameters():
        if "logit_scales" not in name:  # used by the loss alone
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert reached == parameter.requires_grad, name
            assert parameter.requires_grad != (".embeddings." in name or ".pooler." in name), name
    assert (student.head is None) == (not heads.regression or width == WIDTH)


def test_signal_dropout_acts_in_training_on_the_projected_picture_alone() -> None:
    student = build(scratch(signal_dropout=0.5), BOTH)
    batch = batch_of(student)
    still = student(batch)
    student.train()
    torch.manual_seed(0)
    said = student(batch)
    assert torch.equal(said.target, batch["image_cls"]) and torch.equal(said.text, still.text)
    assert torch.equal(still.image, student.projections.maps["image_output"](batch["image_cls"]))
    torch.manual_seed(0)
    dropped = torch.nn.functional.dropout(batch["image_cls"], 0.5)
    assert torch.equal(said.image, student.projections.maps["image_output"](dropped))


def test_embeddings_are_frozen_only_where_a_checkpoint_gives_them() -> None:
    assert scratch().trains_embeddings
    assert not scratch(embeddings="frozen").trains_embeddings
    assert not UnimodalConfig().trains_embeddings
    assert UnimodalConfig(init="random").trains_embeddings
    assert UnimodalConfig(embeddings="trained").trains_embeddings


class OneLayerTeacher:
    """Gives the mean colour of each picture, weighted."""

    picture_transform = None
    loads = 0

    def load(self, device: str, dtype: str = "float32") -> None:
        self.loads += 1

    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        return {signals[0]: batch["pixels"].float().mean(dim=(2, 3)) @ torch.ones(3, WIDTH)}


def test_pictures_go_through_the_teacher_where_no_cache_serves_them(tmp_path: Path) -> None:
    config, teacher = scratch(standardize=True), OneLayerTeacher()
    student = build(config, BOTH)
    student.set_statistics(torch.full((WIDTH,), 3.0), torch.full((WIDTH,), 2.0))
    loaded = reload(student, config, tmp_path / "run", teacher)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    signal = teacher({"pixels": pixels}, ["image_cls"])["image_cls"]
    assert torch.equal(loaded.embed_images({"pixels": pixels}, "encoder"), (signal - 3) / 2)
    assert torch.equal(loaded.embed_images({"pixels": pixels}), loaded.embed_images({"image_cls": signal}))
    assert teacher.loads == 1
    with pytest.raises(UserError, match="need its teacher"):
        reload(student, config, tmp_path / "run").embed_images({"pixels": pixels})


def test_layouts_that_need_shared_blocks_or_one_width_are_refused() -> None:
    with pytest.raises(UserError, match=r"set method\.layout=clip"):
        build(scratch(), Heads(True, "flava", 16))
    with pytest.raises(UserError, match="needs one width"):
        build(scratch(), Heads(True, "shared", 16), width=40)
    shared = build(scratch(), Heads(True, "shared", 16))
    assert len(list(shared.projections.maps)) == 1


def test_what_decides_the_first_weights_is_named_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data2vec's text: weights and each file of the BPE, not what else lies there. A hub id: the copy of it."""
    _, weights, _, _ = small_students.d2v2_files(tmp_path / "d2v2")
    config = UnimodalConfig(text="d2v2", text_weights=str(weights), depth=2, width=WIDTH, heads=HEADS)
    found = Unimodal.files(config)
    assert {key: Path(file).name for key, file in found.items()} == {
        "student.text_weights": "text.pt",
        "student.tokenizer/vocab.json": "vocab.json",
        "student.tokenizer/merges.txt": "merges.txt",
    }
    with pytest.raises(UserError, match="holds neither"):
        Unimodal.files(config.model_copy(update={"tokenizer": str(tmp_path)}))

    snapshot = tmp_path / "hub/models--some--bert/snapshots/abc"
    small_students.bert_folder(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = UnimodalConfig(text="transformers", text_weights="some/bert", depth=2)
    assert Unimodal.files(hub) == {"student.text_weights": str(snapshot)}
