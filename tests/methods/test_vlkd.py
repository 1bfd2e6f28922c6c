"""VLKD: the student's wiring, its losses on a batch, what is masked, and what a saved run is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, BartForConditionalGeneration

from mmkd_cli.core import config as configs
from mmkd_cli.core import paths
from mmkd_cli.core.contracts import Outputs, Position
from mmkd_cli.core.errors import UserError
from mmkd_cli.methods.vlkd import Vlkd
from mmkd_cli.methods.vlkd_config import VlkdConfig
from mmkd_cli.methods.vlkd_feed import Masking
from mmkd_cli.stages import distill
from mmkd_cli.students.bart import Bart, BartStudentConfig, Maps
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from tests.architectures.tiny_bart import MASK, WIDTH, tiny_bart
from tests.pairs_in_memory import pairs

DIM, AT = 12, Position(0, 0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bart(tmp_path_factory.mktemp("bart"), dropout=0.0)


def built(folder: Path, **keys: Any) -> Vlkd:
    config = SimpleNamespace(
        method=VlkdConfig(**keys), train=TrainConfig(), teacher=None, live=False,
        student=BartStudentConfig(weights=str(folder), max_tokens=48),
    )  # fmt: skip
    return Vlkd.build(config, [pairs(pictures=8, joint=DIM)], "cpu")


def batch_of(trainable: Vlkd, rows: int = 6, at: Position = AT) -> dict[str, Any]:
    return trainable.feeds[0].load(np.arange(rows), at)


def losses(trainable: Vlkd, batch: Any) -> dict[str, Tensor]:
    said: Outputs = trainable.forward(batch)
    return {**{name: value.mean() for name, value in said.row_losses.items()}, **trainable.joint_losses(said.gathered)}


# ------------------------------------------------------------------------------------------------ the losses, slowly
@pytest.mark.parametrize("keys", [{}, {"share_pass": True, "pool": "bos"}, {"pool": "mean", "map_bias": True}])
def test_losses_are_those_of_a_caption_at_a_time(folder: Path, keys: dict[str, Any]) -> None:
    """By transformers' own BART on single captions without padding, with the memory built by hand."""
    trainable = built(folder, temperature=0.1, image_scale=3.0, **keys)
    batch = batch_of(trainable)
    bart = BartForConditionalGeneration.from_pretrained(folder).eval()
    trainable.model.eval()
    text_map, image_map = trainable.model.text_map, trainable.model.image_map
    e, v, t, icti = [], [], [], []
    with torch.no_grad():
        for row in range(6):
            ids = batch["input_ids"][row : row + 1, : int(batch["attention_mask"][row].sum())]
            noisy = batch["noisy_ids"][row : row + 1, : int(batch["noisy_mask"][row].sum())]
            states = bart.model.encoder(input_ids=noisy if keys.get("share_pass") else ids).last_hidden_state[0]
            pooled = {"eos": states[-1], "bos": states[0], "mean": states.mean(0)}[keys.get("pool", "eos")]
            vector = text_map.weight @ pooled + (text_map.bias if keys.get("map_bias") else 0)
            e.append(vector / vector.norm())
            image = batch["image_embedding"][row]
            v.append(image / image.norm())
            t.append(batch["text_embedding"][row] / batch["text_embedding"][row].norm())
            seen = image_map.weight @ (3.0 * v[-1]) + (image_map.bias if keys.get("map_bias") else 0)
            memory = torch.cat([seen[None, None], bart.model.encoder(input_ids=noisy).last_hidden_state], dim=1)
            logits = bart(encoder_outputs=(memory,), labels=ids).logits[0].log_softmax(-1)
            icti.append(-sum(float(logits[place, token]) for place, token in enumerate(ids[0])) / ids.shape[1])
        ttdm = sum(float((a - b).square().sum()) for a, b in zip(e, t, strict=True)) / 6
        s = torch.stack(v) @ torch.stack(e).T / 0.1
        own = torch.arange(6)
        itcl = (F.cross_entropy(s, own) + F.cross_entropy(s.T, own)) / 2
        found = losses(trainable, batch)
    slow = {"ttdm": ttdm, "itcl": float(itcl), "icti": sum(icti) / 6}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(slow, rel=2e-4)


def test_a_picture_that_is_masked_leaves_transformers_bart(folder: Path) -> None:
    trainable = built(folder)
    student, batch = trainable.model.eval(), batch_of(trainable)
    bart = BartForConditionalGeneration.from_pretrained(folder).eval()
    ids, mask, decoded = batch["noisy_ids"], batch["noisy_mask"], batch["input_ids"]
    with torch.no_grad():
        states, seen = student.memory(student.encode(ids, mask), mask, batch["image_embedding"])
        blind = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, 1:]], dim=1)
        own = bart(input_ids=ids, attention_mask=mask, decoder_input_ids=decoded).logits
        torch.testing.assert_close(student.decode(states, blind, decoded), own, rtol=1e-5, atol=1e-5)
        assert (student.decode(states, seen, decoded) - own).abs().max() > 0.01


def test_parts_without_weight_are_not_computed(folder: Path) -> None:
    batch = batch_of(built(folder))
    for names in (("ttdm",), ("itcl",), ("icti",), ("ttdm", "icti")):
        off = {f"{name}_weight": 0.0 for name in ("ttdm", "itcl", "icti") if name not in names}
        trainable = built(folder, **off)
        assert losses(trainable, batch).keys() == {*names}
        wanted = ("image_embedding", "text_embedding") if "ttdm" in names else ("image_embedding",)
        assert Vlkd.signals(SimpleNamespace(method=trainable.config), ()) == wanted
    with pytest.raises(ValueError, match="nothing would be learnt"):
        VlkdConfig(ttdm_weight=0, itcl_weight=0, icti_weight=0)


def test_a_learnt_temperature_starts_where_the_fixed_one_is(folder: Path) -> None:
    fixed, learnt = built(folder, temperature=0.07), built(folder, temperature=0.07, train_temperature=True)
    batch = batch_of(fixed)
    found = [losses(one, batch)["itcl"] for one in (fixed, learnt)]
    assert found[0].item() == pytest.approx(found[1].item(), rel=1e-5)
    found[1].backward()
    assert learnt.model.log_scale is not None and learnt.model.log_scale.grad is not None
    assert fixed.model.log_scale is None


def test_learning_rates(folder: Path) -> None:
    trainable = built(folder, map_lr_scale=5.0)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in trainable.parameter_groups(0.1, 0.01) for p in g["params"]}
    assert rates[id(trainable.model.text_map.weight)] == (0.5, 0.01)
    encoder = trainable.model.bart.model.encoder
    assert rates[id(encoder.layers[0].fc1.weight)] == (0.1, 0.01)
    for table in (trainable.model.bart.model.shared, encoder.embed_positions):
        assert rates[id(table.weight)] == (0.1, 0.0)
    assert rates[id(trainable.model.bart.model.encoder.layers[0].fc1.bias)] == (0.1, 0.0)


# ------------------------------------------------------------------------------------------------ what is masked
def test_masks_are_a_function_of_seed_epoch_and_row(folder: Path) -> None:
    trainable = built(folder)
    feed = trainable.feeds[0]
    whole = feed.load(np.arange(8), Position(1, 5, 0))["noisy_ids"]
    alone = torch.cat([feed.load(np.array([row]), Position(1, 9, row))["noisy_ids"] for row in range(8)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole, feed.load(np.arange(8), Position(2, 5, 0))["noisy_ids"])


def test_captions_masked_wholly_and_by_a_range_of_shares(folder: Path) -> None:
    trainable = built(folder, mask_whole=0.5, mask_ratio=(0.2, 0.9))
    masking: Masking = trainable.feeds[0].masking
    texts = [masking([*range(10, 30)], MASK, epoch, row) for epoch in range(40) for row in range(40)]
    alone = [text == [MASK] for text in texts]
    assert np.mean(alone) == pytest.approx(0.5, abs=0.04)
    shares = [1 - sum(t != MASK for t in text) / 20 for text, one in zip(texts, alone, strict=True) if not one]
    assert min(shares) >= 0.15 and max(shares) <= 0.95 and np.mean(shares) == pytest.approx(0.55, abs=0.03)
    with pytest.raises(ValueError, match="smaller one first"):
        VlkdConfig(mask_ratio=(0.5, 0.2))


def test_noisy_rows_keep_their_ends_and_their_length(folder: Path) -> None:
    feed = built(folder, mask_ratio=(1.0, 1.0), span_length=0.5).feeds[0]  # more masks than tokens
    batch = feed.load(np.arange(12), AT)
    for ids, mask in zip(batch["noisy_ids"], batch["noisy_mask"], strict=True):
        line = ids[: int(mask.sum())].tolist()
        assert line[0] == 0 and line[-1] == 2 and set(line[1:-1]) == {MASK} and set(ids[len(line) :].tolist()) <= {1}


# ------------------------------------------------------------------------------------------------ runs
def test_a_batch_in_pieces_has_the_same_losses_and_gradients(folder: Path, tmp_path: Path) -> None:
    lines = []
    for name, piece in (("whole", None), ("pieces", 3)):
        (tmp_path / name).mkdir()
        keys = TrainConfig(batch_size=8, micro_batch_size=piece, max_steps=4, peak_lr=1e-3, warmup_steps=0)
        train(built(folder), keys, tmp_path / name, device=torch.device("cpu"))
        lines.append([json.loads(one) for one in (tmp_path / name / "metrics.jsonl").read_text().splitlines()])
    for one, other in zip(*lines, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("share_pass", [False, True])
def test_a_pass_without_gradients_embeds_what_the_one_with_them_does(tmp_path: Path, share_pass: bool) -> None:
    """With dropout, from one seed: else a batch in pieces would have the gradient of other embeddings."""
    trainable = built(tiny_bart(tmp_path, dropout=0.2), share_pass=share_pass)
    trainable.model.train()
    batch = batch_of(trainable)
    torch.manual_seed(3)
    whole = trainable.forward(batch).gathered["text"]
    torch.manual_seed(3)
    with torch.no_grad():
        alone = trainable.forward(batch).gathered["text"]
    assert torch.equal(whole, alone)
    torch.manual_seed(4)
    assert not torch.equal(whole, trainable.forward(batch).gathered["text"])


def test_no_dropout_means_none(tmp_path: Path) -> None:
    config = BartStudentConfig(weights=str(tiny_bart(tmp_path, dropout=0.2)), max_tokens=48, dropout=0.0)
    paths.write_json(tmp_path / "config.json", {**paths.read_json(tmp_path / "config.json"), "activation_dropout": 0.1})
    student = Bart.build(config, Maps(DIM, "image_embedding")).train()
    batch = batch_of(built(tmp_path))
    one, other = student(batch), student(batch)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.text, other.text)


def test_the_decoder_learns_to_look(folder: Path, tmp_path: Path) -> None:
    """Captions masked wholly: what the picture says is all that the decoder has; shuffled, it misleads."""
    trainable = built(folder, ttdm_weight=0.0, itcl_weight=0.0, mask_whole=1.0, map_lr_scale=1.0)
    keys = TrainConfig(batch_size=24, max_steps=120, peak_lr=1e-2, warmup_steps=10, validation=False)
    train(trainable, keys, tmp_path, device=torch.device("cpu"))
    trainable.model.eval()
    batch = batch_of(trainable, 24)
    shuffled = {**batch, "image_embedding": batch["image_embedding"].roll(1, dims=0)}
    with torch.no_grad():
        real, other = (losses(trainable, one)["icti"].item() for one in (batch, shuffled))
    assert real < other - 0.1


def test_a_saved_run_is_transformers_bart_with_maps(folder: Path, tmp_path: Path) -> None:
    trainable = built(folder, train_temperature=True, map_bias=True)
    with torch.no_grad():
        for parameter in trainable.model.parameters():
            parameter.add_(0.01)
    trainable.save(tmp_path)
    student = trainable.model.eval()
    own, report = BartForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokens = AutoTokenizer.from_pretrained(tmp_path / "model")(["a red dog"], return_tensors="pt")
    with torch.no_grad():
        said = own.eval()(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], labels=None)
        states = student.encode(tokens["input_ids"], tokens["attention_mask"])
        assert torch.equal(said.encoder_last_hidden_state, states)
    loaded = Bart.load(tmp_path, {"student": {"name": "bart", "weights": "gone", "max_tokens": 48}})
    assert loaded.maps == student.maps and loaded.maps.log_scale is not None
    for name, value in student.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


@pytest.mark.parametrize(("arch", "total"), [("ViT-B-16", 407_340_032), ("ViT-L-14", 407_864_320)])
def test_published_sizes(tmp_path: Path, arch: str, total: int, mmkd: Any) -> None:
    """`mmkd show FILE --json`: 406,291,456 of BART-large and two maps of 1,024 x 512 (768); with neither file."""
    preset = Path(distill.__file__).parents[1] / "assets" / "presets" / "distill" / "vlkd" / "paper.toml"
    file = tmp_path / "paper.toml"
    file.write_text(f'{preset.read_text()}\n[teacher]\nname = "clip"\narch = "{arch}-quickgelu"\nweights = "openai"\n')
    said = json.loads(mmkd("show", str(file), "--json").stdout)
    assert said["parameters"] == {"total": total, "trainable": total}
    assert said["parts"]["bart"]["total"] == 406_291_456
    assert said["teacher_parameters"] == {"ViT-B-16": 149_620_737, "ViT-L-14": 427_616_513}[arch]


def test_sizes_of_base() -> None:
    bart = Bart.empty(BartStudentConfig(size="base"), Maps(512, "image_embedding"))
    assert sum(p.numel() for p in bart.bart.parameters()) == 139_420_416


def test_the_paper_preset_resolves() -> None:
    preset = Path(distill.__file__).parents[1] / "assets" / "presets" / "distill" / "vlkd" / "paper.toml"
    values = configs.read_toml(preset)
    assert values.pop("stage") == "distill"
    config = configs.resolve(distill.Config, [configs.Layer("paper", values)]).config
    assert config.train.batch_size == 1024 and config.train.warmup_steps == 2000 and config.train.clip_norm == 1.0


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="48 is more than the 40 positions"):
        long = replace_positions(folder, tmp_path / "short", 40)
        built(long)
    config = SimpleNamespace(method=VlkdConfig(), student=SimpleNamespace(name="clip"))
    with pytest.raises(UserError, match="vlkd teaches a BART, not the student 'clip'"):
        Vlkd.files(config)
    data = replace(pairs(pictures=4, joint=DIM), targets=lambda split: None)
    config = SimpleNamespace(method=VlkdConfig(), train=TrainConfig(),
                             student=BartStudentConfig(weights=str(folder), max_tokens=48))  # fmt: skip
    with pytest.raises(UserError, match="comes without a teacher"):
        Vlkd.build(config, [data], "cpu")
    left = tiny_bart(tmp_path / "left")
    words = json.loads((left / "tokenizer_config.json").read_text())
    (left / "tokenizer_config.json").write_text(json.dumps({**words, "padding_side": "left"}))
    with pytest.raises(UserError, match="the tokenizer is not BART's, <s> text </s> with padding behind"):
        built(left)
    other = tmp_path / "gpt"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="is a 'gpt2', not a BART"):
        built(other)


def replace_positions(folder: Path, to: Path, positions: int) -> Path:
    to.mkdir()
    config = json.loads((folder / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    return to


def test_widths_of_two_teachers_are_refused(folder: Path) -> None:
    config = SimpleNamespace(method=VlkdConfig(), train=TrainConfig(),
                             student=BartStudentConfig(weights=str(folder), max_tokens=48))  # fmt: skip
    with pytest.raises(UserError, match="several widths"):
        Vlkd.build(config, [pairs(pictures=4, joint=8, name="a"), pairs(pictures=4, joint=WIDTH, name="b")], "cpu")
