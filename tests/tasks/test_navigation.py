"""An agent that walks: its losses and searches against slow references, what it learns, the chain from files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from mmkd_cli.core.contracts import Position, SignalSpec, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.envdrop import EnvDropConfig
from mmkd_cli.students.instructions import InstructionWords, pieces_of
from mmkd_cli.students.walking import draw, imitate, search
from mmkd_cli.tasks.navigation import R2rTuning, R2rTuningConfig
from mmkd_cli.training.config import TrainConfig
from tests.data.small_houses import CHANNELS, features, write_houses
from tests.data.sources.reading import rows, source
from tests.data.test_walks import Said

SMALL = EnvDropConfig(word_width=8, width=16, action_width=4, angle_width=8, dropout=0.0, max_words=12)
AT = Position(0, 0, 0)


class SaidViews(Said):
    """`core.contracts.Targets` of the small houses' views."""

    def __init__(self, viewpoints: datasets.Dataset) -> None:
        rooms = [int(name[1:]) for name in viewpoints["viewpoint"]]
        super().__init__(torch.from_numpy(np.stack([features(room) for room in rooms])))
        self.specs = {"views": SignalSpec("views", "viewpoints", (36, CHANNELS))}


def instructed(folder: Path, paths: int = 12) -> TrainingData:
    """The small houses as prepared data with a cache of their views."""
    files = source("r2r", **write_houses(folder, paths))
    splits = ("train", "val_seen", "val_unseen")
    tables = {
        split: {name: datasets.Dataset.from_list(rows(files, name, split)) for name in ("instructions", "viewpoints")}
        for split in splits
    }
    targets = {split: SaidViews(tables[split]["viewpoints"]) for split in splits}
    none: np.ndarray = np.array([], dtype=np.int64)
    return TrainingData("houses", 1.0, splits, lambda split: tables[split], lambda split: targets[split],  # type: ignore[arg-type, return-value]
                        lambda split, table: none)  # fmt: skip


def built(folder: Path, **keys: Any) -> R2rTuning:
    config = SimpleNamespace(task=R2rTuningConfig(**{"least": 1, **keys}), train=TrainConfig(), student=SMALL)
    return R2rTuning.build(config, [instructed(folder)], None, "cpu")


def plain(pictures: torch.Tensor) -> torch.Tensor:
    return pictures


# ------------------------------------------------------------------------------------------------ words
def test_words_and_marks_of_instructions() -> None:
    assert pieces_of("Go left, then stop!") == ["go", "left", ",", "then", "stop", "!"]
    assert pieces_of("में रुकें।") == ["में", "रुकें", "।"]  # vowel signs stay with their letters
    words = InstructionWords.of(["go left, go", "go right"], 1, 6)
    assert words.words[0] == "go"
    said = words(["go up", "", "go go go go go go go"])
    assert said["input_ids"][0].tolist()[:4] == [2, 4, 1, 3] and said["input_ids"][1].tolist() == [2, 3, 0, 0, 0, 0]
    assert said["input_ids"][2].tolist() == [2, 4, 4, 4, 4, 3] and said["attention_mask"].sum(1).tolist() == [4, 2, 6]
    assert words.text_of([2, 4, 1, 3, 4]) == "go"


# ------------------------------------------------------------------------------------------------ losses
def batch_of(made: R2rTuning, count: int = 4) -> dict[str, torch.Tensor]:
    return made.feeds[0].load(np.arange(count) * 5, AT)


def test_imitation_is_the_cross_entropy_of_the_shortest_way(tmp_path: Path) -> None:
    made = built(tmp_path)
    batch, model, steps = batch_of(made), made.model.eval(), made.steps
    read = model.reader(batch["input_ids"], batch["attention_mask"])
    found = imitate(model, read, steps, batch["route"], batch["view"], plain, 35)
    for row in range(4):
        route = [one for one in batch["route"][row].tolist() if one >= 0]
        ends = np.array(route[:1]), np.array(route[-1:])
        length = sum(steps.houses.distance(np.array([a]), np.array([b]))[0] for a, b in itertools.pairwise(route))
        assert length == pytest.approx(steps.houses.distance(*ends)[0])
        own = read.at(torch.tensor([row]))
        state, cells, view, total = own.state, own.cells, batch["view"][row : row + 1], torch.zeros(())
        for node, ahead in itertools.pairwise([*route, None]):
            seen = steps.observe(torch.tensor([node]), view, torch.device("cpu"))
            scores, state, cells, _ = model.step(own, state, cells, seen)
            choice = scores.shape[1] - 1 if ahead is None else seen.leads[0].tolist().index(ahead)
            total = total - scores[0].log_softmax(0)[choice]
            view = view if ahead is None else seen.turns[:, choice]
        torch.testing.assert_close(found[row], total)


def test_own_walks_are_judged_as_the_formulas_say(tmp_path: Path) -> None:
    """A walk drawn again with the same numbers, step by step and backwards with scalars."""
    made = built(tmp_path)
    batch, model, steps = batch_of(made, 3), made.model.eval(), made.steps
    start, view, goal = batch["route"][:, 0], batch["view"], batch["goal"]
    read = model.reader(batch["input_ids"], batch["attention_mask"])
    torch.manual_seed(3)
    found = draw(model, read, steps, start, view, goal, plain, most=4, gamma=0.9)
    torch.manual_seed(3)
    memory = {row: (read.state[row], read.cells[row], start[row], view[row]) for row in range(3)}
    taken: list[list[tuple[float, float, float, float]]] = [[], [], []]  # log p, entropy, value, reward

    def looked(alive: list[int]) -> tuple[Any, ...]:
        """Those who have not stopped, one step on."""
        state, cells, node, look = (torch.stack(values) for values in zip(*(memory[row] for row in alive), strict=True))
        seen = steps.observe(node, look, torch.device("cpu"))
        return seen, node, *model.step(read.at(torch.tensor(alive)), state, cells, seen)

    def far(node: torch.Tensor, row: int) -> float:
        return float(steps.houses.distance(np.array(int(node)), np.array(int(goal[row]))))

    for _ in range(4):
        alive = [*memory]
        if not alive:
            break
        seen, node, scores, state, cells, hidden = looked(alive)
        chance = scores.softmax(1).detach()
        for place, (row, choice) in enumerate(zip(alive, torch.multinomial(chance, 1)[:, 0].tolist(), strict=True)):
            before = far(node[place], row)
            if choice == scores.shape[1] - 1:
                reward = 2.0 if before < 3 else -2.0
                del memory[row]
            else:
                to = seen.leads[place, choice]
                reward = float(np.sign(before - far(to, row)))
                memory[row] = state[place], cells[place], to, seen.turns[place, choice]
            p = chance[place][chance[place] > 0]
            value = float(model.critic(hidden[place]).detach())
            taken[row].append((float(chance[place, choice].log()), float(-(p * p.log()).sum()), value, reward))
    left = dict(zip(memory, model.critic(looked([*memory])[-1])[:, 0].tolist(), strict=True)) if memory else {}
    for row in range(3):
        worth, policy, critic, entropy = left.get(row, 0.0), 0.0, 0.0, 0.0
        for log, spread, value, reward in reversed(taken[row]):
            worth = reward + 0.9 * worth
            policy, critic, entropy = policy - log * (worth - value), critic + (worth - value) ** 2, entropy - spread
        got = [
            float(one[row].detach()) for one in (found.policy, found.critic, found.entropy, found.reward, found.steps)
        ]
        want = [policy, critic, entropy, sum(one[3] for one in taken[row]), len(taken[row])]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_search_with_all_beams_finds_the_likeliest_walk(tmp_path: Path) -> None:
    made = built(tmp_path)
    batch, model, steps = batch_of(made, 2), made.model.eval(), made.steps
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # walks that differ
    read = model.reader(batch["input_ids"], batch["attention_mask"])
    start, view = batch["route"][:, 0], batch["view"]
    found = search(model, read, steps, start, view, beams=200, most=3)
    greedy = search(model, read, steps, start, view, beams=1, most=3)

    def ways(own: Any, state: Any, cells: Any, node: int, look: Any, left: int) -> Any:
        """(log p, viewpoints) of every walk that stops."""
        if not left:
            return
        seen = steps.observe(torch.tensor([node]), look, torch.device("cpu"))
        scores, state, cells, _ = model.step(own, state, cells, seen)
        log = scores[0].log_softmax(0).tolist()
        yield log[-1], [node]
        for way, other in enumerate(seen.leads[0].tolist()):
            for rest, path in ways(own, state, cells, other, seen.turns[:, way], left - 1):
                yield log[way] + rest, [node, *path]

    for row in range(2):
        own = read.at(torch.tensor([row]))
        with torch.no_grad():
            every = [*ways(own, own.state, own.cells, int(start[row]), view[row : row + 1], 3)]
        assert [node for node, _ in found.of(row)] == max(every)[1]
        walk = [int(start[row])]
        state, cells, look = own.state, own.cells, view[row : row + 1]
        for _ in range(3):
            seen = steps.observe(torch.tensor(walk[-1:]), look, torch.device("cpu"))
            scores, state, cells, _ = model.step(own, state, cells, seen)
            best = int(scores[0].argmax())
            if best == scores.shape[1] - 1:
                break
            walk.append(int(seen.leads[0, best]))
            look = seen.turns[:, best]
        assert [node for node, _ in greedy.of(row)] == walk


def test_a_row_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    made = built(tmp_path)
    made.model.eval()
    whole, alone = batch_of(made, 4), made.feeds[0].load(np.array([10]), AT)
    with torch.no_grad():
        all_of, one = made.forward(whole), made.forward(alone)
    torch.testing.assert_close(all_of.row_losses["imitation"][2:3], one.row_losses["imitation"])
    assert {name: float(value[2]) for name, value in all_of.report.items()} == {
        name: pytest.approx(float(value[0])) for name, value in one.report.items()
    }


def test_dropped_environments_are_the_same_for_all_that_is_seen(tmp_path: Path) -> None:
    made = built(tmp_path, environment_dropout=True, feature_dropout=0.5)
    made.model.train()
    made.before_step(3)
    thinned = made.environment(torch.device("cpu"))
    a, b = thinned(torch.ones(2, 36, CHANNELS)), thinned(torch.ones(1, 4, CHANNELS))
    assert (a == a[0, 0]).all() and (b == a[0, 0]).all() and set(a[0, 0].tolist()) == {0.0, 2.0}
    made.model.eval()
    assert (made.environment(torch.device("cpu"))(torch.ones(1, 2, CHANNELS)) == 1).all()
    made.model.train()
    again = made.environment(torch.device("cpu"))(torch.ones(2, 36, CHANNELS))  # of another piece of the same step
    assert torch.equal(again, a)
    made.before_step(4)
    assert not torch.equal(made.environment(torch.device("cpu"))(torch.ones(2, 36, CHANNELS)), a)
    people = made.thinned(torch.device("cpu"))(torch.ones(2, 36, CHANNELS))
    assert not (people == people[0, 0]).all()


def test_the_path_that_was_meant_can_be_imitated(tmp_path: Path) -> None:
    data = instructed(tmp_path)
    config = SimpleNamespace(task=R2rTuningConfig(least=1, route="path"), train=TrainConfig(), student=SMALL)
    made = R2rTuning.build(config, [data], None, "cpu")
    table: Any = data.tables("train")
    for row in (0, 17, 40):
        route = [one for one in made.feeds[0].routes[row].tolist() if one >= 0]
        assert made.steps.houses.names[route].tolist() == table["instructions"][row]["path"]


def test_a_language_that_nobody_speaks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no instruction with a path to a goal in a language 'te' in 'train'"):
        built(tmp_path, language="te")


@pytest.mark.parametrize(("imitation", "policy"), [(1.0, 0.0), (0.2, 1.0)])
def test_it_learns_where_a_room_is(tmp_path: Path, imitation: float, policy: float) -> None:
    """The rooms look the same in every house: what is learnt in two leads through the third."""
    made = built(tmp_path, imitation_weight=imitation, policy_weight=policy, feature_dropout=0.0)
    optimizer = torch.optim.Adam(made.model.parameters(), 1e-2)
    feed, unseen = made.feeds[0], made.validation[1]
    assert unseen.name == "val_unseen"

    def validated() -> dict[str, float]:
        with torch.no_grad():
            said = made.forward(unseen.load(np.arange(unseen.rows), AT))
        return {name: float(value.mean()) for name, value in {**said.report, **said.row_losses}.items()}

    before = validated()
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    for _ in range(60):
        losses = made.forward(feed.load(rng.choice(feed.rows, 32, replace=False), AT)).row_losses
        sum(made.weights[name] * value.mean() for name, value in losses.items()).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
    after = validated()
    assert after["imitation"] < before["imitation"] and after["spl"] > before["spl"]


# ------------------------------------------------------------------------------------------------ the chain
def test_from_files_to_scores(tmp_path: Path, mmkd: Any) -> None:
    files = write_houses(tmp_path / "r2r")
    mmkd("prepare-data", "--source", "r2r", "--annotations", files["annotations"], "--connectivity",
         files["connectivity"], "--name", "houses")  # fmt: skip
    mmkd("cache-teacher", "--teacher", "precomputed", "--set", f"teacher.features={files['annotations']}/views.tsv",
         "--set", "teacher.table=viewpoints", "--data", "houses", "--name", "views")  # fmt: skip
    small = [f"--set=student.{name}={value}" for name, value in SMALL.model_dump(exclude={"name"}).items()]
    train = ["--lr", 0.01, "--batch-size", 30, "--set", "train.max_steps=30", "--set", "train.validate_every=15",
             "--set", "train.keep=max:val/val_unseen/spl", "--set", "task.least=1"]  # fmt: skip
    mmkd("finetune", "--task", "r2r", "--data", "houses", "--cache", "views", *small, *train, "--name", "agent")
    for beams in (1, 4):
        name = f"walks-{beams}"
        said = json.loads(mmkd("generate", "--task", "r2r", "--model", "agent", "--split", "val_unseen", "--beams",
                               beams, "--set", "rows_per_range=4", "--name", name, "--json").stdout)  # fmt: skip
        assert said["rows"] == 15
        rows = json.loads(Path(said["predictions"]).read_text())
        assert rows[0].keys() == {"instr_id", "trajectory"} and len(rows[0]["trajectory"][0]) == 3
        assert (Path(said["path"]) / "report.html").read_text().count("<svg") == 15
        scores = mmkd("evaluate", "--bench", "r2r", "--predictions", name, "--annotations",
                      files["annotations"] / "R2R_val_unseen.json", "--connectivity", files["connectivity"],
                      "--json").stdout  # fmt: skip
        assert json.loads(scores)["counts"]["items"] == 15
    paths = json.loads(mmkd("generate", "--task", "rxr", "--model", "agent", "--split", "val_seen", "--name", "paths",
                            "--json").stdout)["predictions"]  # fmt: skip
    first = json.loads(Path(paths).read_text())[0]
    assert first.keys() == {"instruction_id", "path"} and first["path"][0].startswith("A")
    refused = mmkd("generate", "--task", "caption", "--model", "agent", code=2).stderr
    assert "follows instructions: it serves --task r2r and rxr" in refused
    mmkd("finetune", "--task", "r2r", "--data", "houses", "--cache", "views", *train, "--model", "agent", "--set",
         "task.environment_dropout=true", "--name", "further")  # fmt: skip


def test_the_real_houses_with_features_that_say_nothing(tmp_path: Path, mmkd: Any, real_data: Path) -> None:
    place, rng = real_data / "r2r", np.random.default_rng(0)
    ids = [f"{file.name.partition('_')[0]}_{row['image_id']}" for file in (place / "connectivity").glob("*.json")
           for row in json.loads(file.read_text())]  # fmt: skip
    np.savez(tmp_path / "views.npz", views=rng.standard_normal((len(ids), 36, 4)).astype(np.float16), ids=ids)
    for split in ("train", "val_unseen"):
        mmkd("prepare-data", "--source", "r2r", "--annotations", next(place.glob(f"R2R_{split}*.json")),
             "--connectivity", place / "connectivity", "--name", split)  # fmt: skip
        mmkd("cache-teacher", "--teacher", "precomputed", "--set", f"teacher.features={tmp_path}/views.npz", "--set",
             "teacher.table=viewpoints", "--data", split, "--name", f"{split}-views")  # fmt: skip
    small = [f"--set=student.{name}={value}" for name, value in SMALL.model_dump(exclude={"name"}).items()]
    mmkd("finetune", "--task", "r2r", "--data", "train", "--cache", "train-views", *small, "--set", "train.max_steps=3",
         "--name", "agent")  # fmt: skip
    mmkd("generate", "--task", "r2r", "--model", "agent", "--data", "val_unseen", "--cache", "val_unseen-views",
         "--split", "val_unseen", "--batch-size", 256, "--set", "generation.max_new_tokens=8",
         "--name", "walks")  # fmt: skip
    said = mmkd("evaluate", "--bench", "r2r", "--predictions", "walks", "--annotations",
                place / "R2R_val_unseen.json", "--connectivity", place / "connectivity", "--json").stdout  # fmt: skip
    assert json.loads(said)["counts"]["items"] == 2349
