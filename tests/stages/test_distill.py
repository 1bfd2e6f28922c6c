"""`distill` on a small real chain: what it makes, what it refuses, what it repeats to the last bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Interrupted, Refused, UserError
from mmkd_cli.stages import cache_teacher, distill
from mmkd_cli.stages.training_data import open_inputs
from tests.stages.small_chain import config_of, context, distilled, make_chain, student_keys, teacher_keys


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a finished chain with the run `first`; tests copy what they change."""
    root = make_chain(tmp_path_factory.mktemp("chain"))
    distilled(root, "first", data="squares", cache="vit")
    return root


@pytest.fixture
def root(chain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chain, tmp_path / "work"))


def metrics(root: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "runs" / name / "metrics.jsonl").read_text().splitlines()]


def test_a_run_folder_holds_what_it_should(chain: Path) -> None:
    folder = chain / "runs/first"
    names = {path.name for path in folder.iterdir()}
    assert {"plan.json", "manifest.json", "config.toml", "model", "heads.safetensors", "metrics.jsonl", "report.html",
            "README.md", "checkpoints"} <= names  # fmt: skip
    run = artifacts.open_artifact(chain, "first", "run")
    assert [(i.role, i.name) for i in run.inputs] == [("data", "squares"), ("cache", "vit")]
    assert run.check() == {}
    lines = metrics(chain, "first")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 17))
    assert {"val/regression_text", "val/contrastive"} <= [line for line in lines if "val/loss" in line][-1].keys()
    assert not list(folder.rglob("*.pt")) and not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pkl"))
    assert "first --chain" in (folder / "README.md").read_text()


def test_the_config_of_a_run_makes_the_same_run(root: Path) -> None:
    from mmkd_cli.core.config import Layer, read_toml, resolve

    values = read_toml(root / "runs/first/config.toml")
    assert values.pop("stage") == "distill"
    again = distill.run(resolve(distill.Config, [Layer("file", values)]).config, context(root, "first"))
    assert again["status"] == "already done"


def test_again_is_already_done_and_another_command_is_refused(root: Path) -> None:
    before = (root / "runs/first/manifest.json").read_bytes()
    assert distilled(root, "first", data="squares", cache="vit")["status"] == "already done"
    assert distilled(root, "first", data="squares", train__log_every=1)["status"] == "already done"
    assert (root / "runs/first/manifest.json").read_bytes() == before
    with pytest.raises(Refused, match=r"config.train.seed was 0, the command says 1"):
        distilled(root, "first", data="squares", cache="vit", train__seed=1)


def test_the_only_fitting_cache_is_used_and_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = distilled(root, None, data="squares", train__max_steps=2)
    assert "cache: vit, the only one of data 'squares' with image_cls" in capsys.readouterr().err
    assert document["name"].startswith("cls-regression-squares-")
    with pytest.raises(
        UserError,
        match=r"--cache is needed: .* has no cache of data .* with image_cls .there is .*: make it by `mmkd cache-t",
    ):
        distilled(root, None, data="others")
    with pytest.raises(UserError, match="--data is needed: 2 artifacts of kind data"):
        distilled(root, None)
    distilled(root, None, cache="vit", train__max_steps=2)
    assert "data: squares, which cache 'vit' was made from" in capsys.readouterr().err


def test_a_cache_of_other_data_or_another_teacher_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cache 'vit' was made from data with fingerprint"):
        distilled(root, "x", data="others", cache="vit")
    with pytest.raises(Refused, match="was made with teacher 'timm', the run asks for 'precomputed'"):
        distilled(root, "x", data="squares", cache="vit", teacher__name="precomputed", teacher__features="f.npy")
    with pytest.raises(Refused, match="was made with another teacher"):
        distilled(root, "x", data="squares", cache="vit", **teacher_keys(tmp_path, seed=5))
    with pytest.raises(UserError, match="has no signal 'grid'"):
        distilled(root, "x", data="squares", cache="vit", method__signal="grid")
    assert not (root / "runs/x").exists()


def test_a_cache_that_nothing_reads_is_refused(chain: Path) -> None:
    def opened(names: list[str], cache: str | None, *read: str) -> list[str]:
        signals = iter([(signal,) if signal else () for signal in read])
        found = open_inputs(chain, names, cache, None, lambda tables: next(signals), live=False, workers=0)
        return [i.role for i in found.inputs()]

    with pytest.raises(UserError, match=r"no teacher's signals of data 'squares': leave its cache 'vit' out$"):
        opened(["squares:vit"], None, "")
    with pytest.raises(UserError, match=r"no teacher's signals of this data: leave --cache vit out$"):
        opened(["squares"], "vit", "")
    assert opened(["squares"], None, "") == ["data"]
    assert opened(["squares", "others"], "vit", "image_cls", "") == ["data", "cache", "data.1"]


def test_a_damaged_cache_is_refused_with_its_file(root: Path) -> None:
    shard = next((root / "caches/vit").rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(Refused, match=shard.name):
        distilled(root, "x", data="squares", cache="vit")


def test_a_live_teacher_gives_the_losses_of_its_cache(root: Path, tmp_path: Path) -> None:
    distilled(root, "cached", data="squares", train__max_steps=6)
    distilled(root, "live", data="squares", live=True, train__max_steps=6, **teacher_keys(tmp_path))
    cached, live = metrics(root, "cached"), metrics(root, "live")
    assert len(cached) == len(live)
    for one, two in zip(cached, live, strict=True):
        for name, value in one.items():
            assert two[name] == pytest.approx(value, abs=1e-3), (one["step"], name)
    with pytest.raises(UserError, match="live=true needs a teacher"):
        distilled(root, "x", data="squares", live=True)
    keys = {"data": "squares", "live": True, "train__max_steps": 6}
    assert distilled(root, "live", cache="vit", **keys)["status"] == "already done"  # run as that cache was made
    views = config_of(cache_teacher, data="squares", cache__views=2, cache__threads=1, **teacher_keys(tmp_path))
    cache_teacher.run(views, context(root, "two-views"))
    with pytest.raises(Refused, match=r"live.views was \[\{\}\], the command says \[\{'n_views': 2"):
        distilled(root, "live", cache="two-views", **keys)


def test_a_run_remembers_its_teacher_and_its_teachers_new_place(root: Path, tmp_path: Path) -> None:
    cache = artifacts.open_artifact(root, "vit", "cache")
    run = artifacts.open_artifact(root, "first", "run")
    assert run.plan["work"]["teacher"] == cache.plan["identity"]["teacher"]
    (tmp_path / "elsewhere").mkdir()
    moved = teacher_keys(tmp_path / "elsewhere")
    assert moved["teacher__weights"] != run.plan["config"]["teacher"]["weights"]
    distilled(root, "moved", data="squares", cache="vit", train__max_steps=1, **moved)
    named = artifacts.open_artifact(root, "moved", "run").plan["config"]["teacher"]["weights"]
    assert named == moved["teacher__weights"]


def test_relative_paths_are_recorded_as_absolute_ones(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a cache and a run can be used from another working directory; neither request holds a path."""
    monkeypatch.chdir(tmp_path)
    absolute = teacher_keys(tmp_path)
    relative = {**absolute, "teacher__weights": Path(absolute["teacher__weights"]).name}
    keys = {"data": "squares", "cache__threads": 1, "cache__dtype": "float32", "cache__rows_per_shard": 16}
    cache = config_of(cache_teacher, **keys, **relative)
    assert cache_teacher.run(cache, context(root, "vit"))["status"] == "already done"
    cache_teacher.run(config_of(cache_teacher, **keys, cache__batch_size=8, **relative), context(root, "relative"))
    distilled(root, "from-here", data="squares", live=True, train__max_steps=1, **relative)
    for kind, name in (("cache", "relative"), ("run", "from-here")):
        recorded = artifacts.open_artifact(root, name, kind).plan["config"]["teacher"]["weights"]
        assert recorded == absolute["teacher__weights"]


def test_an_interrupted_run_goes_on_to_the_same_fingerprint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmkd_cli.methods.cls_regression import ClsRegression

    class Crash(Exception):
        pass

    plain = ClsRegression.after_step
    for crash_at in (2, 9):

        def crash(self: Any, step: int, gathered: Any, crash_at: int = crash_at) -> None:
            if step == crash_at:
                raise Crash
            plain(self, step, gathered)

        monkeypatch.setattr(ClsRegression, "after_step", crash)
        with pytest.raises(Crash):
            distilled(root, "second", data="squares", train__checkpoint_every=4)
    monkeypatch.setattr(ClsRegression, "after_step", plain)
    done = distilled(root, "second", data="squares", train__checkpoint_every=4)
    assert done["fingerprint"] == artifacts.open_artifact(root, "first", "run").fingerprint
    assert (root / "runs/second/metrics.jsonl").read_bytes() == (root / "runs/first/metrics.jsonl").read_bytes()


def test_sigterm_is_exit_130_and_the_run_stays_unfinished(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    from mmkd_cli.methods.cls_regression import ClsRegression

    plain = ClsRegression.after_step
    monkeypatch.setattr(ClsRegression, "after_step", lambda self, step, gathered: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as stopped:
        distilled(root, "stopped", data="squares")
    assert stopped.value.exit_code == 130
    assert artifacts.read(root / "runs/stopped").manifest is None
    monkeypatch.setattr(ClsRegression, "after_step", plain)
    done = distilled(root, "stopped", data="squares")
    assert done["fingerprint"] == artifacts.open_artifact(root, "first", "run").fingerprint


@pytest.mark.parametrize("file", ["model/model.safetensors", "metrics.jsonl", "report.html"])
def test_a_damaged_run_is_made_again(root: Path, file: str) -> None:
    path = root / "runs/first" / file
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert list(artifacts.read(root / "runs/first").check()) == [file]
    with pytest.raises(Refused, match=file.replace(".", r"\.")):
        artifacts.open_artifact(root, "first", "run")
    assert distilled(root, "first", data="squares", cache="vit")["status"] == "repaired"
    assert artifacts.open_artifact(root, "first", "run").check() == {}
    if file != "report.html":
        assert path.read_bytes() == good


def test_two_data_sets_take_turns_with_a_cache_each(root: Path, tmp_path: Path) -> None:
    keys = {"data": "others", "cache__dtype": "float32", "cache__threads": 1}
    made = cache_teacher.run(config_of(cache_teacher, **keys, **teacher_keys(tmp_path)), context(root, "vit2"))
    assert made["status"] == "done"
    document = distilled(root, "both", data=["squares:vit", "others:vit2@2"])
    run = artifacts.open_artifact(root, "both", "run")
    assert [i.role for i in run.inputs] == ["data", "cache", "data.1", "cache.1"]
    assert document["steps"] == 32
    with pytest.raises(Refused, match="weights"):
        distilled(root, "both", data=["squares:vit", "others:vit2"])


def test_rejected_rows_need_leave(root: Path) -> None:
    manifest = root / "data/squares/manifest.json"
    said = json.loads(manifest.read_text())
    said["rejected"] = [{"split": "train", "table": "images", "row": 3, "id": "0-003", "reason": "not a picture"}]
    manifest.write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"1 rows .* rejected .* row 3 .from 0., '0-003': not a .* --allow-rej"):
        distilled(root, "x", data="squares", cache="vit")
    done = distilled(root, "x", data="squares", cache="vit", allow_rejected=True, train__max_steps=2)
    assert done["rows"] == 62, "two captions of one picture are left out"


def test_dry_run_writes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    config = config_of(distill, **student_keys(data="squares", cache="vit"))
    document = distill.run(config, context(root, "dry", dry_run=True))
    assert sorted(root.rglob("*")) == before
    assert document["steps"] == 16
    assert document["parameters"]["trainable"] <= document["parameters"]["total"]
    assert document["seconds"] > 0


def test_describe_counts_without_weights(tmp_path: Path) -> None:
    keys = {"teacher__name": "timm", "teacher__arch": "test_vit"}
    counts = distill.describe(config_of(distill, **student_keys(**keys)))
    assert counts["teacher_parameters"] > 0
    assert 0 < counts["parameters"]["trainable"] <= counts["parameters"]["total"]


def test_the_bench_is_measured_after_each_epoch(root: Path) -> None:
    with pytest.raises(UserError, match="--eval-bench winoground reads files of its own"):
        distilled(root, "scored", data="squares", eval_bench="winoground")
    distilled(root, "scored", data="squares", eval_bench="retrieval")
    lines = [json.loads(line) for line in (root / "runs/scored/evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [8, 16]
    assert all(0 <= line["mean_recall"] <= 100 for line in lines)
    first, scored = (artifacts.open_artifact(root, name, "run").fingerprint for name in ("first", "scored"))
    assert first == scored, "a bench during training changes no number"
