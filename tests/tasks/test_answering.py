"""Fine-tuning to choose an answer from a grid: soft targets, padding, networks against slow references, the chain."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmkd_cli.architectures.mcan import Attention, Mcan
from mmkd_cli.architectures.pythia import Pythia
from mmkd_cli.core import registry
from mmkd_cli.core.contracts import Position, Ragged
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.answers import common_answers, read_answers_file, soft_scores
from mmkd_cli.metrics.vqa import vqa_accuracy
from mmkd_cli.students.cells import grid_batch
from mmkd_cli.students.grid_answerers import McanConfig, PythiaConfig, Vocabulary
from mmkd_cli.students.vlp import VlpStudentConfig
from mmkd_cli.students.words import Words, word_vectors
from mmkd_cli.training.config import TrainConfig
from tests.architectures.tiny_language_models import tiny_bert
from tests.contracts.tiny_teachers import timm_file
from tests.tasks.grids_in_memory import CHANNELS, asked_grids, pairs_of_grids
from tests.teachers.test_precomputed import regions_line

SMALL = {
    "mcan": McanConfig(width=16, layers=2, heads=2, fused_width=24, word_width=8, dropout=0.0),
    "pythia": PythiaConfig(text_width=16, width=32, answer_width=8, word_width=8),
}
AT = Position(0, 0, 0)


def built(student: str, task: str = "vqa", data: Any = None, folder: Path | None = None, **keys: Any) -> Any:
    """folder: of a BERT, where the student is `vlp`."""
    chosen = registry.load("finetune_tasks", task)
    if student == "vlp":
        keys_of = VlpStudentConfig(weights=str(folder))
        config = SimpleNamespace(task=chosen.Config(**{"least": 1, **keys}), train=TrainConfig(), student=keys_of)
        return chosen.build(config, [data or asked_grids()], None, "cpu")
    config = SimpleNamespace(task=chosen.Config(**{"least": 1, **keys}), train=TrainConfig(), student=SMALL[student])
    return chosen.build(config, [data or asked_grids()], None, "cpu")


# ------------------------------------------------------------------------------------------------ answers and words
@pytest.mark.parametrize(
    "people", [["red"] * 4 + ["blue"] * 3 + ["dark red"] * 2 + ["a  car"], ["Two"] * 5 + ["2"] * 5, ["x"] * 9 + ["y"]]
)
def test_an_answer_is_worth_its_official_accuracy(people: list[str]) -> None:
    for answer, worth in soft_scores(people).items():
        assert worth == pytest.approx(vqa_accuracy(answer, people))
    assert soft_scores(["A dog"]) == {"dog": 1.0} and soft_scores([]) == {}
    assert soft_scores(["garbage_bin", "t-shirt"], normalize=False).keys() == {"garbage_bin", "t-shirt"}


def test_common_answers_are_normalised_and_in_order(tmp_path: Path) -> None:
    people = [["Two", "2", "red"], ["red", "red", "a cat"], ["the cat", "", "red"]]
    assert common_answers(people, 2) == ["red", "2", "cat"] and common_answers(people, 1) == ["red", "2", "cat"]
    assert common_answers([["Two", "t-shirt"], ["t-shirt"]], 1, normalize=False) == ["t-shirt", "Two"]
    (tmp_path / "a.json").write_text('["yes", "no"]')
    (tmp_path / "a.txt").write_text("yes\nno\nyes\n")
    assert read_answers_file(tmp_path / "a.json") == ["yes", "no"]
    with pytest.raises(UserError, match="'yes' stands there more than once"):
        read_answers_file(tmp_path / "a.txt")


def test_words_and_their_vectors(tmp_path: Path) -> None:
    words = Words.of(["Is the red-hot dog's hat red?", "a hat"], 4)
    assert words.words[:2] == ["hat", "red"] and "dogs" in words.words and "hot" in words.words
    said = words(["red zebra", "", "hat hat hat hat hat"])
    assert said["input_ids"].tolist() == [[3, 1, 0, 0], [1, 0, 0, 0], [2, 2, 2, 2]]
    assert said["attention_mask"].sum(1).tolist() == [2, 1, 4]
    (tmp_path / "glove.txt").write_text("red 1 2 3\nunheard 0 0 0\nhat 4 5 6\n")
    table, known = word_vectors(words.words, 3, tmp_path / "glove.txt")
    assert known == 2 and table.weight[3].tolist() == [1, 2, 3] and table.weight[0].tolist() == [0, 0, 0]
    with pytest.raises(UserError, match=r"line 1: 3 numbers, 5 are needed"):
        word_vectors(words.words, 5, tmp_path / "glove.txt")


# ------------------------------------------------------------------------------------------------ networks
def test_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3, 0.0), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, to, mask = torch.randn(2, 4, 12), torch.randn(2, 5, 12), torch.tensor([[1] * 5, [1, 1, 0, 0, 0]]).bool()
    torch.testing.assert_close(ours(x, to, mask), theirs(x, to, to, key_padding_mask=~mask, need_weights=False)[0])


def test_pythia_is_its_formula() -> None:
    torch.manual_seed(0)
    net = Pythia(torch.nn.Embedding(9, 6), 5, 4, text=8, wide=7, small=3).eval()
    ids, grid = torch.tensor([[3, 4, 2]]), torch.randn(1, 6, 5)
    with torch.no_grad():
        states = net.lstm(net.words(ids))[0][0]
        glimpses = [F.softmax(net.glimpses(states)[:, g], 0) @ states for g in range(2)]
        text = torch.cat(glimpses)
        scores = torch.stack([net.look(net.look_image(cell) * net.look_text(text)) for cell in grid[0]])[:, 0]
        seen = sum(share * cell for share, cell in zip(F.softmax(scores, 0), grid[0], strict=True))
        joint = net.fuse_image(seen) * net.fuse_text(text)
        everywhere = torch.ones(1, 6, dtype=torch.bool)
        said = net(ids, torch.ones(1, 3), grid, everywhere)[0]
        torch.testing.assert_close(said, net.by_text(joint) + net.by_image(joint))
        torch.testing.assert_close(net.attention(ids, torch.ones(1, 3), grid, everywhere)[0], F.softmax(scores, 0))


@pytest.mark.parametrize("student", SMALL)
def test_what_is_padding_changes_nothing(student: str) -> None:
    torch.manual_seed(0)
    model = registry.load("students", student)(SMALL[student], Vocabulary(["red", "hat"], ["yes", "no", "2"]), 5).eval()
    questions = model.tokenize(["is the hat red", "red"])
    grid, mask = torch.randn(2, 6, 5), torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.no_grad():
        said = model.logits({**questions, "grid": grid, "grid_mask": mask})
        longer = {"grid": torch.cat([grid, torch.randn(2, 3, 5)], 1), "grid_mask": F.pad(mask, (0, 3))}
        torch.testing.assert_close(model.logits({**questions, **longer}), said)
        words = {name: F.pad(value, (0, 2)) for name, value in questions.items()}
        torch.testing.assert_close(model.logits({**words, "grid": grid, "grid_mask": mask}), said)
        heat = model.net.attention(questions["input_ids"], questions["attention_mask"], grid, mask)
    torch.testing.assert_close(heat.sum(1), torch.ones(2))
    assert (heat[1, 4:] == 0).all()


def test_grids_of_several_sizes_are_padded_with_a_mask() -> None:
    ragged = Ragged(torch.arange(10.0).view(5, 2), torch.tensor([0, 2, 5]))
    said = grid_batch({"grid": ragged}, 4, True)
    assert said["grid_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]] and said["grid"].shape == (2, 4, 2)
    assert said["grid"][1, :3].tolist() == [[4, 5], [6, 7], [8, 9]]
    with pytest.raises(UserError, match="a picture has 3 cells, more than 2"):
        grid_batch({"grid": ragged}, 2, True)
    padded = {"grid": torch.zeros(1, 3, 2), "grid_mask": torch.tensor([[1, 1, 0]])}
    assert grid_batch(padded, 3, True)["grid_mask"].tolist() == [[1, 1, 0]]
    assert grid_batch(padded, 3, False)["grid_mask"].all()


def test_regions_lie_where_their_centres_do() -> None:
    corners = torch.tensor([[0, 0, 0.1, 0.1], [0.5, 0.2, 0.7, 0.4], [0.9, 0.9, 1.05, 1.1]])
    boxes = Ragged(corners, torch.tensor([0, 1, 3]))
    said = grid_batch({"grid": Ragged(torch.ones(3, 2), boxes.offsets), "grid_boxes": boxes}, 4, True)
    assert said["grid_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert said["cell_column"].tolist() == [[1, 0, 0, 0], [12, 19, 0, 0]]  # of 20 columns
    assert said["cell_row"].tolist() == [[1, 0, 0, 0], [6, 19, 0, 0]]
    dense = grid_batch({"grid": torch.ones(1, 2, 2), "grid_boxes": boxes.values[None, :2]}, 3, True)
    assert dense["cell_column"].tolist() == [[1, 12, 0]] and dense["cell_row"].tolist() == [[1, 6, 0]]


# ------------------------------------------------------------------------------------------------ the task
def test_rows_have_their_questions_pictures_and_worths() -> None:
    made = built("mcan")
    (feed,) = made.feeds
    answers = list(feed.answers)
    batch = feed.load(np.array([0, 1]), AT)
    assert batch["grid"].shape == (2, 4, CHANNELS) and batch["grid"][0, 0, 0] == 3  # the picture's row
    worth = {answers[place]: round(float(value), 2) for place, value in enumerate(batch["worth"][0]) if value}
    assert worth == {"red": 1.0, "dark red": 0.6, "no": 0.3}
    assert made.content["answers"] == len(answers)


def test_losses_are_their_formulas() -> None:
    made = built("mcan")
    batch = made.feeds[0].load(np.array([0, 1]), AT)
    with torch.no_grad():
        logits, said = made.model.logits(batch), made.forward(batch)
    p, w = logits.sigmoid(), batch["worth"]
    torch.testing.assert_close(said.row_losses["bce"], -(w * p.log() + (1 - w) * (1 - p).log()).sum(1))
    torch.testing.assert_close(said.report["accuracy"], w[torch.arange(2), logits.argmax(1)])
    single = built("pythia", "snli-ve")
    with torch.no_grad():
        logits, said = single.model.logits(batch), single.forward(batch)
    torch.testing.assert_close(said.row_losses["ce"], -logits.log_softmax(1)[torch.arange(2), w.argmax(1)])


@pytest.mark.parametrize("student", SMALL)
def test_it_learns_its_answers(student: str) -> None:
    made = built(student, data=asked_grids(rows=40))
    (feed,) = made.feeds
    batch = feed.load(np.arange(feed.rows), AT)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        made.forward(batch).row_losses["bce"].mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(made.forward(batch).report["accuracy"], batch["worth"].max(1).values)


def test_questions_without_a_known_answer_are_left_out(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "answers.txt").write_text("red\nblue\n")
    made = built("mcan", answers=str(tmp_path / "answers.txt"))
    assert made.feeds[0].rows == 1 and "have no answer of the 2: left out" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"make task\.least smaller"):
        built("mcan", least=100)


def test_full_sizes_are_counted_without_weights() -> None:
    """[T] counted by hand from the layers: of MCAN attention 4 D^2, feed-forward 8 D^2 a layer."""
    chosen, d, c, a, v = registry.load("finetune_tasks", "vqa"), 512, 2048, 3129, 20_002

    class Sizes:
        def signals(self) -> dict[str, Any]:
            return {"grid": SimpleNamespace(shape=(558, c))}

        def parameters_count(self) -> int:
            return 7

    config = SimpleNamespace(task=chosen.Config(), student=McanConfig())
    linear = lambda i, o: i * o + o  # noqa: E731
    lstm, layer = 4 * (300 * d + d * d + 2 * d), 4 * linear(d, d) + linear(d, 4 * d) + linear(4 * d, d)
    text, image = 6 * (layer + 4 * d), 6 * (layer + 4 * linear(d, d) + 6 * d)
    pools = 2 * (linear(d, d) + linear(d, 1) + linear(d, 1024))
    total = v * 300 + lstm + linear(c, d) + text + image + pools + 2 * 1024 + linear(1024, a)
    assert chosen.count(config, Sizes()) == (total, total, 7, {})


def test_a_mask_of_words_alone_is_enough_for_mcan() -> None:
    net = Mcan(torch.nn.Embedding(4, 6), 5, 3, width=8, layers=1, heads=2, fused=6).eval()
    with torch.no_grad():
        one = net(torch.tensor([[2, 0]]), torch.tensor([[1, 0]]), torch.ones(1, 1, 5), torch.ones(1, 1).bool())
    assert one.isfinite().all()


# ------------------------------------------------------------------------------------------------ released regions
def test_heads_train_on_released_regions(mmkd: Any, tmp_path: Path) -> None:
    """Bottom-up attention's TSV, 3 to 6 regions a picture, by image_id in another order than the table's."""
    mmkd("prepare-data", "--source", "scenes", "--name", "asked", "--set", "source.train=12", "--set", "source.val=4",
         "--set", "source.test=0")  # fmt: skip
    random, lines = np.random.default_rng(0), []
    for name in [f"{split}-{row:06d}" for split, rows in (("val", 4), ("train", 12)) for row in range(rows)]:
        n = int(random.integers(3, 7))
        boxes = np.sort(random.uniform(size=(n, 2, 2)), axis=1).reshape(n, 4) * [640, 480, 640, 480]
        lines.append(regions_line(name, random.standard_normal((n, 8)), boxes))
    (tmp_path / "regions.tsv").write_text("".join(lines))
    mmkd("cache-teacher", "--teacher", "precomputed", "--set", "teacher.features=regions.tsv", "--signals", "grid",
         "--data", "asked", "--name", "regions")  # fmt: skip
    bert, few = tiny_bert(tmp_path / "bert"), ["--set", "train.max_steps=3", "--set", "train.batch_size=8"]
    sizes = [f"--set=student.{key}={value}" for key, value in
             {"width": 16, "layers": 1, "heads": 2, "fused_width": 16, "word_width": 8}.items()]  # fmt: skip
    for student, keys in (("mcan", sizes), ("vlp", [f"--set=student.weights={bert}"])):
        mmkd("finetune", "--task", "vqa", "--student", student, "--data", "asked", "--cache", "regions",
             "--name", student, "--set", "task.least=1", *keys, *few)  # fmt: skip
        written = json.loads(mmkd("generate", "--task", "vqa", "--model", student, "--split", "val", "--json").stdout)
        page = (Path(written["predictions"]).parent / "report.html").read_text()
        assert written["rows"] == 20 and page.count("data:image/jpeg") == 40 and "the model looked at" in page
    mmkd("distill", "--method", "vlp", "--student", "vlp", f"--set=student.weights={bert}", "--data", "asked",
         "--cache", "regions", "--name", "streamed", *few)  # fmt: skip


# ------------------------------------------------------------------------------------------------ two pictures
def test_statements_about_two_pictures_have_both() -> None:
    made = built("mcan", "nlvr2", pairs_of_grids(6))
    (feed,) = made.feeds
    assert feed.rows == 5 and made.model.vocabulary.pictures == 2  # of one statement a picture is gone
    table = feed.table[feed.table_rows.tolist()]
    batch = feed.load(np.arange(5), AT)
    assert batch["grid"].shape == (5, 2, 4, CHANNELS) and batch["grid_mask"].shape == (5, 2, 4)
    for side, column in enumerate(("image_row", "second_image_row")):
        assert batch["grid"][:, side, 0, 0].tolist() == table.column(column).to_pylist()
    assert batch["worth"].sum(1).tolist() == [1] * 5


@pytest.mark.parametrize("student", [*SMALL, "vlp"])
def test_each_picture_is_seen_with_the_statement_and_both_vectors_are_classified(student: str, tmp_path: Path) -> None:
    """LXMERT, nlvr2_model.py: of (picture, sentence) and (other picture, sentence) the pooled vectors, side by side."""
    made = built(student, "nlvr2", pairs_of_grids(6), tiny_bert(tmp_path) if student == "vlp" else None)
    model, batch = made.model.eval(), made.feeds[0].load(np.arange(5), AT)
    cells = ("grid", "grid_mask", "cell_row", "cell_column")
    with torch.no_grad():
        sides = []
        for side in range(2):
            one = {name: value[:, side] if name in cells else value for name, value in batch.items()}
            ids, mask = one["input_ids"], one["attention_mask"]
            sides.append(model(one).pooled if student == "vlp" else model.net.joint(ids, mask, one["grid"],
                                                                                    one["grid_mask"]))  # fmt: skip
        head = model.answers if student == "vlp" else model.net.answer
        torch.testing.assert_close(model.logits(batch), head(torch.cat(sides, 1)).float())
        swapped = {name: value.flip(1) if name in cells else value for name, value in batch.items()}
        assert not torch.allclose(model.logits(swapped), model.logits(batch))  # left and right are not the same
    made.save(tmp_path)
    again = registry.load("students", student).load(tmp_path, {"student": made.model.config.model_dump(mode="json")})
    with torch.no_grad():
        torch.testing.assert_close(again.logits(batch), model.logits(batch))


@pytest.mark.parametrize("student", SMALL)
def test_it_learns_what_one_picture_does_not_tell(student: str) -> None:
    torch.manual_seed(0)
    made = built(student, "nlvr2", pairs_of_grids(60))
    batch = made.feeds[0].load(np.arange(59), AT)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        made.forward(batch).row_losses["ce"].mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert made.forward(batch).report["accuracy"].mean() > 0.95
        first = {**batch, "grid": batch["grid"][:, :1].expand(-1, 2, -1, -1)}
        assert made.forward(first).report["accuracy"].mean() < 0.8


def test_the_chain_of_statements_about_two_pictures(mmkd: Any, tmp_path: Path) -> None:
    """NLVR2's own layout: training and development files of JSON lines, a folder of pictures, a CSV of answers."""
    random, folder = np.random.default_rng(0), tmp_path / "nlvr2"
    (folder / "images").mkdir(parents=True)
    for split, sets in (("train", 6), ("dev", 3)):
        lines = []
        for number in range(sets):
            for pair in range(2):
                for side in range(2):
                    pixels = random.integers(256, size=(40, 60, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / "images" / f"{split}-{number}-{pair}-img{side}.png")
                lines.append({"identifier": f"{split}-{number}-{pair}-0", "sentence": f"There are {number}, left.",
                              "label": str(pair == 0)})  # fmt: skip
        (folder / f"{split}.json").write_text("\n".join(map(json.dumps, lines)))
    mmkd("prepare-data", "--source", "nlvr2", "--annotations", folder, "--images", folder / "images", "--name", "two")
    file = timm_file("test_resnet", tmp_path, 0)
    mmkd("cache-teacher", "--teacher", "timm", "--arch", "test_resnet", "--weights", file, "--signals", "grid",
         "--data", "two", "--name", "grids")  # fmt: skip
    sizes = [f"--set=student.{key}={value}" for key, value in
             {"width": 16, "layers": 1, "heads": 2, "fused_width": 16, "word_width": 8}.items()]  # fmt: skip
    mmkd("finetune", "--task", "nlvr2", "--data", "two", "--cache", "grids", "--name", "judge", *sizes,
         "--set", "train.max_steps=5", "--set", "train.batch_size=8")  # fmt: skip
    written = json.loads(mmkd("generate", "--task", "nlvr2", "--model", "judge", "--split", "val", "--json").stdout)
    lines = Path(written["predictions"]).read_text().splitlines()
    assert len(lines) == 6 and all(line.endswith((",True", ",False")) for line in lines)
    assert lines[0].startswith("dev-0-0-0,")
    bench = ["evaluate", "--bench", "nlvr2", "--predictions"]
    document = json.loads(mmkd(*bench, written["name"], "--json").stdout)
    own = ["--annotations", folder / "dev.json"]
    official = json.loads(mmkd(*bench, written["predictions"], *own, "--json").stdout)
    assert document["metrics"] == official["metrics"] and document["counts"]["items"] == 6
    page = (Path(written["predictions"]).parent / "report.html").read_text()
    assert page.count("data:image/jpeg") == 12 and "There are 0, left." in page  # both pictures, and heat on both
    assert "it serves --task nlvr2" in mmkd("generate", "--task", "vqa", "--model", "judge", code=2).stderr
    single = mmkd("generate", "--task", "nlvr2", "--model", "judge", "--question", "two dogs?", code=2).stderr
    assert "takes prepared data alone" in single


# ------------------------------------------------------------------------------------------------ the chain
def test_the_chain_from_questions_to_a_score(mmkd: Any, tmp_path: Path) -> None:
    mmkd("prepare-data", "--source", "scenes", "--name", "asked", "--set", "source.train=24", "--set", "source.val=8",
         "--set", "source.test=0")  # fmt: skip
    file = timm_file("test_resnet", tmp_path, 0)
    mmkd("cache-teacher", "--teacher", "timm", "--arch", "test_resnet", "--weights", file, "--signals", "grid",
         "--data", "asked", "--name", "grids", "--set", "teacher.grid.resize=warp", "--set", "teacher.grid.height=64",
         "--set", "teacher.grid.width=96", "--verify", "4")  # fmt: skip
    sizes = [f"--set=student.{key}={value}" for key, value in
             {"width": 16, "layers": 1, "heads": 2, "fused_width": 16, "word_width": 8}.items()]  # fmt: skip
    words = ["finetune", "--task", "vqa", "--data", "asked", "--cache", "grids", "--name", "answers", *sizes,
             "--set", "train.max_steps=20", "--set", "train.batch_size=16", "--set", "task.least=1"]  # fmt: skip
    mmkd(*words)
    assert "already done" in mmkd(*words).stderr
    written = json.loads(mmkd("generate", "--task", "vqa", "--model", "answers", "--split", "val", "--json").stdout)
    assert written["rows"] == 40
    official = json.loads(Path(written["predictions"]).read_text())
    assert set(official[0]) == {"question_id", "answer"}
    said = mmkd("evaluate", "--bench", "vqav2", "--predictions", written["name"], "--json").stdout
    document = json.loads(said)
    assert document["counts"]["items"] == 40 and 0 <= document["metrics"]["overall"] <= 100
    scored = next((tmp_path / "work" / "results").glob("vqav2-*")) / "report.html"
    for page, items in ((Path(written["predictions"]).parent / "report.html", 24), (scored, None)):
        text = page.read_text()
        shown = text.count("data:image/jpeg")
        assert "what the model looked at" in text and shown == (2 * items if items else shown) and shown % 2 == 0
        assert page.stat().st_size < 20_000 + 8_000 * shown and "http:" not in text and "https:" not in text
    picture = tmp_path / "one.png"
    Image.new("RGB", (80, 50), "red").save(picture)
    one = json.loads(mmkd("generate", "--task", "vqa", "--model", "answers", "--image", picture, "--question",
                          "how many?", "--json").stdout)  # fmt: skip
    assert one["text"]
    assert "it serves --task vqa" in mmkd("generate", "--task", "caption", "--model", "answers", code=2).stderr
    mmkd("show", "answers", "--check")
