"""CLIP-ViL_p: what the stream computes, which words and cells are drawn, losses against references, and fine-tuning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForPreTraining

from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Position
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.losses.masked_words import IGNORED, masked
from mmkd_cli.methods.vlp import VlpConfig, VlpMethod
from mmkd_cli.students.grid_answerers import Vocabulary
from mmkd_cli.students.vlp import Vlp, VlpStudentConfig
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from mmkd_cli.training.randomness import generator
from tests.architectures.tiny_language_models import tiny_bert
from tests.tasks.grids_in_memory import CELLS, CHANNELS, asked_grids

AT = Position(0, 0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def built(folder: Path, rows: int = 40, **keys: Any) -> VlpMethod:
    config = SimpleNamespace(
        method=VlpConfig(**{"least": 1, **keys}), train=TrainConfig(), student=VlpStudentConfig(weights=str(folder))
    )
    return VlpMethod.build(config, [asked_grids(rows)], "cpu")


# ------------------------------------------------------------------------------------------------ the stream
def test_without_cells_the_stream_is_bert(folder: Path) -> None:
    model = built(folder).model.eval()
    given = model.tokenize(["a dog", "two dogs run"])
    batch = {**given, "grid": torch.randn(2, 3, CHANNELS), "grid_mask": torch.zeros(2, 3, dtype=torch.bool),
             "cell_row": torch.zeros(2, 3).long(), "cell_column": torch.zeros(2, 3).long()}  # fmt: skip
    with torch.no_grad():
        said, own = model(batch), model.bert.bert(**given)
        words = given["attention_mask"].bool()
        torch.testing.assert_close(said.tokens[words], own.last_hidden_state[words])
        torch.testing.assert_close(said.pooled.tanh(), own.pooler_output)  # ours is without it
        torch.testing.assert_close(model.word_logits(said.tokens)[words],
                                   model.bert(**given).prediction_logits[words])  # fmt: skip


def test_a_cell_is_known_by_its_row_and_column(folder: Path) -> None:
    model = built(folder).model.eval()
    given = model.tokenize(["a dog"])
    cells = {"grid": torch.randn(1, 4, CHANNELS), "grid_mask": torch.ones(1, 4, dtype=torch.bool)}
    places = {"cell_row": torch.tensor([[0, 0, 1, 1]]), "cell_column": torch.tensor([[0, 1, 0, 1]])}
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for name, value in model.named_parameters():  # as far from even as trained ones
            if "norm" not in name.lower() and value.ndim > 1:
                value.mul_(20)
        one = model({**given, **cells, **places}).pooled
        moved = {name: value[:, order] for name, value in {**cells, **places}.items()}
        torch.testing.assert_close(model({**given, **moved}).pooled, one)  # a set of cells with their places
        elsewhere = model({**given, **cells, **{name: value[:, order] for name, value in places.items()}}).pooled
    assert (elsewhere - one).abs().max() > 1e-4


def test_cells_are_embedded_before_they_are_projected(folder: Path) -> None:
    model = built(folder).model.eval()
    row, column, cell = model.rows.weight[1], model.columns.weight[2], torch.randn(CHANNELS)
    by_hand = F.layer_norm(model.project.weight @ (cell + row + column) + model.project.bias, (32,), model.norm.weight,
                           model.norm.bias, 1e-12)  # fmt: skip
    seen: list[torch.Tensor] = []
    hook = model.norm.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        model({**model.tokenize(["a"]), "grid": cell.view(1, 1, -1), "grid_mask": torch.ones(1, 1).bool(),
               "cell_row": torch.tensor([[1]]), "cell_column": torch.tensor([[2]])})  # fmt: skip
    hook.remove()
    torch.testing.assert_close(seen[0][0, 0], by_hand)


def test_heat_is_the_share_of_each_cell_in_what_cls_sees(folder: Path) -> None:
    """The last layer's own probabilities, head by head, of the cells alone; and they give that layer's own output."""
    model = built(folder).model.eval()
    with torch.no_grad():
        for name, value in model.named_parameters():  # as far from even as trained ones
            if "norm" not in name.lower() and value.ndim > 1:
                value.mul_(10)
    cells = {"grid": torch.randn(2, 4, CHANNELS), "grid_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool(),
             "cell_row": torch.tensor([[0, 0, 1, 1]] * 2), "cell_column": torch.tensor([[0, 1, 0, 1]] * 2)}  # fmt: skip
    questions = ["a dog", "two dogs run"]
    last, seen = model.bert.bert.encoder.layer[-1].attention.self, []
    hook = last.register_forward_hook(lambda module, given, out: seen.append((given[0], out[0])))
    heat = model.attention(questions, cells)
    hook.remove()
    (states, context), given = seen[0], model.tokenize(questions)
    mask = torch.cat([given["attention_mask"].bool(), cells["grid_mask"]], 1)
    width, words = 32 // 2, given["input_ids"].shape[1]
    for row in range(2):
        shares = torch.zeros(4)
        for head in range(2):
            own = slice(head * width, (head + 1) * width)
            q, k, v = (part(states[row])[:, own] for part in (last.query, last.key, last.value))
            scores = torch.stack([(q[0] @ k[n]) / width**0.5 if mask[row, n] else torch.tensor(-torch.inf)
                                  for n in range(len(k))])  # fmt: skip
            p = scores.softmax(0)
            torch.testing.assert_close(p @ v, context[row, 0].flatten()[own])
            shares += p[words:] / p[words:].sum() / 2
        torch.testing.assert_close(heat[row], shares.detach())
    assert heat[1, 2:].tolist() == [0, 0] and heat.max() > 0.3


def test_grids_of_more_columns_than_there_are_tables_are_refused(folder: Path) -> None:
    made = built(folder)
    batch = made.feeds[0].load(np.arange(2), AT)
    made.model({**batch, "cell_column": batch["cell_column"] + 23})
    with pytest.raises(UserError, match=r"has 31 rows or columns of cells, and student\.positions is 25"):
        made.model({**batch, "cell_column": batch["cell_column"] * 30})


# ------------------------------------------------------------------------------------------------ two towers
def two_towers(folder: Path, rows: int = 40, **keys: Any) -> VlpMethod:
    config = SimpleNamespace(
        method=VlpConfig(**{"least": 1, **keys}), train=TrainConfig(),
        student=VlpStudentConfig(weights=str(folder), arch="two-tower"),
    )  # fmt: skip
    assert VlpMethod.signals(config, ()) == ("image_embedding",)
    return VlpMethod.build(config, [asked_grids(rows)], "cpu")


def test_two_towers_meet_in_the_matching_head_alone(folder: Path, tmp_path: Path) -> None:
    """[S] BERT's [CLS] and the picture's pooled vector side by side; words are told from the text alone."""
    made = two_towers(folder, qa_weight=1.0)
    model, batch = made.model.eval(), made.feeds[0].load(np.arange(20), AT)
    assert "grid" not in batch and batch["image_embedding"].shape == (20, CHANNELS)
    assert 0 < batch["matched"].sum() < 20  # real negatives
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        said, outputs = model(batch), made.forward(batch)
        tokens = model.bert.bert(**given).last_hidden_state
        torch.testing.assert_close(said.pooled, torch.cat([tokens[:, 0], batch["image_embedding"]], 1))
        matches = model.matches(said.pooled).log_softmax(-1)
        torch.testing.assert_close(outputs.row_losses["itm"], -matches[torch.arange(20), batch["matched"]])
        other = made.forward({**batch, "image_embedding": batch["image_embedding"].flip(0)})
    torch.testing.assert_close(other.row_losses["mlm"], outputs.row_losses["mlm"])
    assert not torch.allclose(other.row_losses["itm"], outputs.row_losses["itm"]) and "qa" in outputs.row_losses
    made.save(tmp_path)
    opened = Vlp.load(tmp_path, {"student": model.config.model_dump(mode="json")})
    with torch.no_grad():
        torch.testing.assert_close(opened(batch).pooled, said.pooled)
    task = registry.load("finetune_tasks", "vqa")
    config = SimpleNamespace(task=task.Config(least=1), train=TrainConfig(), student=opened.config)
    with pytest.raises(UserError, match="two-tower is pre-trained and answers nothing"):
        task.build(config, [asked_grids()], tmp_path, "cpu")


def test_two_towers_learn_which_text_is_of_which_picture(folder: Path) -> None:
    """Each of five questions is of a picture of its own: neither alone tells whether they belong together."""
    torch.manual_seed(0)
    made = two_towers(folder, mask_ratio=0.01)
    optimizer = torch.optim.AdamW([p for p in made.model.parameters() if p.requires_grad], lr=3e-3)
    for epoch in range(160):
        optimizer.zero_grad()
        made.forward(made.feeds[0].load(np.arange(40), Position(epoch, 0, 0))).row_losses["itm"].mean().backward()
        optimizer.step()
    batch = made.feeds[0].load(np.arange(40), Position(999, 0, 0))
    with torch.no_grad():
        assert made.forward(batch).report["itm_accuracy"].mean() > 0.9
        alone = {**batch, "image_embedding": torch.zeros_like(batch["image_embedding"])}
        assert made.forward(alone).report["itm_accuracy"].mean() < 0.8


# ------------------------------------------------------------------------------------------------ what is drawn
def test_masked_words_are_fifteen_percent_and_eighty_ten_ten() -> None:
    ids, free = np.arange(100, 40_100), np.ones(40_000, dtype=bool)
    free[:20_000] = False
    hidden, labels = masked(ids, free, np.random.default_rng(0), ratio=0.15, mask=7, vocabulary=50)
    asked = labels != IGNORED
    assert not asked[:20_000].any() and (labels[asked] == ids[asked]).all() and (hidden[~asked] == ids[~asked]).all()
    assert abs(asked[20_000:].mean() - 0.15) < 0.01
    share = [(hidden[asked] == 7).mean(), (hidden[asked] < 50).mean(), (hidden[asked] == ids[asked]).mean()]
    assert abs(share[0] - 0.8) < 0.03 and abs(share[2] - 0.1) < 0.02
    assert abs(share[1] - 0.9) < 0.03  # the mask's id is below 50, too


def test_half_of_the_texts_are_of_other_pictures_and_ask_nothing(folder: Path) -> None:
    made = built(folder, rows=200, qa_weight=1.0)
    (feed,) = made.feeds
    batch = feed.load(np.arange(200), AT)
    assert 0.4 < float(batch["matched"].float().mean()) < 0.6
    assert (batch["answer"][batch["matched"] == 0] == IGNORED).all()
    asked = batch["answer"][batch["matched"] == 1]
    assert (asked == IGNORED).any() and (asked != IGNORED).any()  # one question of five has no answers
    for row in np.flatnonzero(batch["matched"].numpy() == 0)[:10].tolist():
        text = feed._text_of(row, generator(feed.seed, "vlp", feed.part, 0, row))
        assert feed.image_rows[text] != feed.image_rows[row]
    again = feed.load(np.arange(200), AT)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    other = feed.load(np.arange(200), Position(1, 0, 0))
    assert not torch.equal(batch["labels"], other["labels"]) and not torch.equal(batch["matched"], other["matched"])


def test_cells_are_drawn_anew_for_each_picture(folder: Path) -> None:
    (feed,) = built(folder, cells=2).feeds
    batch = feed.load(np.arange(12), AT)
    assert batch["grid"].shape == (12, 2, CHANNELS) and batch["grid_mask"].all()
    places = batch["cell_row"] * 2 + batch["cell_column"]
    assert (places[:, 0] < places[:, 1]).all() and len({tuple(row) for row in places.tolist()}) > 2
    grids = feed.look.targets.gather(["grid"], feed.image_rows[np.arange(12)])["grid"]
    for row in range(12):
        assert torch.equal(batch["grid"][row], grids[row, places[row]])
    (small,) = built(folder, cells=100).feeds  # more than there are
    assert small.load(np.arange(3), AT)["grid"].shape == (3, CELLS, CHANNELS)


def test_losses_are_their_formulas(folder: Path) -> None:
    made = built(folder, qa_weight=1.0, mask_ratio=0.5)
    batch = made.feeds[0].load(np.arange(20), AT)
    made.model.eval()
    with torch.no_grad():
        said, outputs = made.model(batch), made.forward(batch)
        words = made.model.word_logits(said.tokens).log_softmax(-1)
        matches, answers = made.model.matches(said.pooled).log_softmax(-1), made.model.answers(said.pooled)
    asked = [(row, place) for row in range(20) for place in range(20) if batch["labels"][row, place] != IGNORED]
    by_hand = torch.stack([-words[row, place, batch["labels"][row, place]] for row, place in asked])
    torch.testing.assert_close(outputs.row_losses["mlm"], by_hand)
    torch.testing.assert_close(outputs.row_losses["itm"], -matches[torch.arange(20), batch["matched"]])
    known = batch["answer"] >= 0
    torch.testing.assert_close(
        outputs.row_losses["qa"], -answers.log_softmax(-1)[known].gather(1, batch["answer"][known, None])[:, 0]
    )
    assert made.counts(batch) == {"mlm": len(asked), "qa": int(known.sum())}


# ------------------------------------------------------------------------------------------------ training
def test_it_learns_and_a_fine_tuned_model_starts_from_it(folder: Path, tmp_path: Path) -> None:
    made = built(folder)

    def mlm() -> float:
        with torch.no_grad():
            return float(made.forward(made.feeds[0].load(np.arange(40), AT)).row_losses["mlm"].mean())

    keys, before_training = {"max_steps": 30, "batch_size": 16, "peak_lr": 3e-3, "warmup_steps": 0}, mlm()
    train(made, TrainConfig(**keys, validation=False), tmp_path / "run", device=torch.device("cpu"))
    assert mlm() < 0.8 * before_training
    made.save(tmp_path / "run")
    task = registry.load("finetune_tasks", "vqa")
    student = VlpStudentConfig()
    config = SimpleNamespace(task=task.Config(least=1), train=TrainConfig(), student=student)
    tuned = task.build(config, [asked_grids()], tmp_path / "run", "cpu")
    state, before = tuned.model.state_dict(), made.model.state_dict()
    assert all(torch.equal(state[name], before[name]) for name in before if not name.startswith("answers."))
    batch = tuned.feeds[0].load(np.array([0, 1]), AT)
    assert tuned.model.logits(batch).shape == (2, len(tuned.model.vocabulary.answers))
    (tmp_path / "tuned").mkdir()
    tuned.save(tmp_path / "tuned")
    opened = Vlp.load(tmp_path / "tuned", {"student": student.model_dump(mode="json")})
    tuned.model.eval()
    cells = {name: value for name, value in batch.items() if name.startswith(("grid", "cell"))}
    assert opened.answer(["what colour?", "how many?"], cells) == tuned.model.answer(
        ["what colour?", "how many?"], cells
    )
    with pytest.raises(UserError, match="knows no answers"):
        Vlp.load(tmp_path / "run", {"student": student.model_dump(mode="json")}).answer(["?"], cells)


def test_full_size_counts() -> None:
    """[T] BertForPreTraining of bert-base has 110,106,428; RN50's cells are 2,048 wide."""
    with torch.device("meta"):
        bert = BertForPreTraining(BertConfig())
        model = Vlp(VlpStudentConfig(), bert, None, 2048)
    assert sum(p.numel() for p in bert.parameters()) == 110_106_428
    ours = 2 * 25 * 2048 + 2048 * 768 + 768 + 2 * 768 + 2 * 768 + 2
    assert sum(p.numel() for p in model.parameters()) == 110_106_428 + ours


def test_a_cache_without_sizes_is_refused(folder: Path) -> None:
    data = asked_grids(8)
    grids = data.targets("train")
    kept = {"grid": grids.specs["grid"]}
    grids.specs = kept  # type: ignore[misc]
    with pytest.raises(UserError, match="has no grid_size"):
        VlpMethod.build(SimpleNamespace(method=VlpConfig(), train=TrainConfig(),
                                        student=VlpStudentConfig(weights=str(folder))), [data], "cpu")  # fmt: skip


def test_known_answers_are_taken_over(folder: Path, tmp_path: Path) -> None:
    student = VlpStudentConfig(weights=str(folder))
    torch.manual_seed(0)
    first = Vlp.build(student, CHANNELS, Vocabulary((), ["red", "blue", "two"]))
    first.save(tmp_path)
    own = VlpStudentConfig()
    second = Vlp.build(own, CHANNELS, Vocabulary((), ["two", "green", "red"]), tmp_path)
    before, after = (dict(one.answers.named_parameters()) for one in (first, second))
    for name in before:
        if name.startswith("3."):
            torch.testing.assert_close(after[name][0], before[name][2])
            torch.testing.assert_close(after[name][2], before[name][0])
            assert not after[name][1].any()
        else:
            torch.testing.assert_close(after[name], before[name])
    backbone = Vlp.build(
        own.model_copy(update={"answer_head": False}), CHANNELS, Vocabulary((), ["two", "red"]), tmp_path
    )
    assert backbone.answers[3].weight[1].any() and not torch.equal(backbone.answers[0].weight, first.answers[0].weight)
    with pytest.raises(Refused, match=r"heads.safetensors does not fit: (rows|columns).weight is"):
        Vlp.build(own.model_copy(update={"positions": 30}), CHANNELS, None, tmp_path)
