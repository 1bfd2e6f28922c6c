from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkd_cli.core import artifacts, lineage, paths
from mmkd_cli.core.artifacts import FileRecord, Input, Plan
from mmkd_cli.core.errors import MmkdError, Refused, UserError
from mmkd_cli.core.locks import Lock


def make(root: Path, kind: str, name: str, seed: int = 1, inputs: tuple[Input, ...] = ()) -> artifacts.Artifact:
    identity = {
        "stage": "s",
        "config": {"seed": seed, "table": {"rows": 3}},
        "inputs": {i.role: i.fingerprint for i in inputs},
    }
    path = root / paths.FOLDERS[kind] / name
    _, artifact = artifacts.begin(path, Plan(kind, "s", name, identity, {"seed": seed}, inputs))
    (path / "file.bin").write_bytes(b"x" * (100 + seed))
    record = FileRecord.of(path / "file.bin")
    return artifacts.finish(
        artifact,
        content={"rows": 3},
        files={"file.bin": record},
        hashed={"file.bin": record.xxh3_128},
        started=time.time(),
    )


def test_states_and_refusal_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a"
    plan = Plan("data", "prepare-data", "a", {"config": {"seed": 1}}, {})
    assert artifacts.begin(path, plan)[0] == "new"
    assert artifacts.begin(path, plan)[0] == "unfinished"
    with pytest.raises(Refused, match=r"config\.seed was 1, the command says 2"):
        artifacts.begin(path, Plan("data", "prepare-data", "a", {"config": {"seed": 2}}, {}))
    with pytest.raises(Refused, match="unfinished"):
        artifacts.open_artifact(tmp_path, "a", "data")


def test_fingerprint_says_what_is_there_and_no_paths(tmp_path: Path) -> None:
    one, two = make(tmp_path / "r1", "data", "a"), make(tmp_path / "r2", "data", "other-name")
    assert one.fingerprint == two.fingerprint
    assert make(tmp_path / "r3", "data", "a", seed=2).fingerprint != one.fingerprint


@pytest.mark.parametrize(("damage", "where"), [("flip", "file.bin"), ("cut", "file.bin"), ("remove", "file.bin")])
def test_damage_is_named_and_readers_refuse(tmp_path: Path, damage: str, where: str) -> None:
    artifact = make(tmp_path, "cache", "c")
    file = artifact.path / "file.bin"
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        artifacts.open_artifact(tmp_path, "c", "cache")  # a flipped bit is seen only by reading
    elif damage == "cut":
        file.write_bytes(data[:-1])
    else:
        file.unlink()
    assert list(artifact.check()) == [where]
    with pytest.raises(Refused, match=where):
        artifacts.open_artifact(tmp_path, "c", "cache")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    artifact = make(tmp_path, "cache", "c")
    for name in ("plan.json", "manifest.json"):
        document = json.loads((artifact.path / name).read_text())
        (artifact.path / name).write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(Refused, match="format 99"):
        artifacts.open_artifact(tmp_path, "c", "cache")


def test_names_stay_inside_the_root(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".hidden", "x" * 300):
        with pytest.raises(UserError):
            paths.check_name(name)


def test_locate_by_name_path_and_kind(tmp_path: Path) -> None:
    make(tmp_path, "data", "same")
    run = make(tmp_path, "run", "same")
    with pytest.raises(UserError, match="data/same, runs/same"):
        artifacts.locate(tmp_path, "same")
    assert artifacts.locate(tmp_path, "runs/same") == run.path
    assert artifacts.locate(tmp_path, str(run.path)) == run.path
    with pytest.raises(UserError, match="did you mean 'same'"):
        artifacts.locate(tmp_path, "sane", "run")
    make(tmp_path, "cache", "c")
    with pytest.raises(UserError, match=r"^'c' is a cache, not data: "):
        artifacts.open_artifact(tmp_path, "c", "data")
    with pytest.raises(UserError, match=r"data/same is data, not a run$"):
        artifacts.open_artifact(tmp_path, "data/same", "run")


def test_lineage_chain_and_removal(tmp_path: Path) -> None:
    data = make(tmp_path, "data", "d")
    cache = make(tmp_path, "cache", "c", 2, (data.as_input("data"),))
    run = make(tmp_path, "run", "r", 3, (data.as_input("data"), cache.as_input("cache")))
    assert [i.name for i, _ in lineage.ancestors(tmp_path, run)] == ["d", "c"]
    assert len(lineage.chain(tmp_path, run)) == 3
    with pytest.raises(Refused, match="needed by cache 'c', run 'r'"):
        lineage.remove(tmp_path, data, force=False)
    with artifacts.lock(run.path), pytest.raises(Refused, match="is being written by"):
        lineage.remove(tmp_path, run, force=False)
    for artifact in (run, cache, data):
        lineage.remove(tmp_path, artifact, force=False)
    assert list(artifacts.every(tmp_path)) == []


def test_a_run_was_trained_on_its_own_data_and_on_that_of_the_runs_it_began_from(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path, "data", f"d{n}", n) for n in (1, 2, 3))
    cache = make(tmp_path, "cache", "c", 4, (third.as_input("data"),))
    base = make(tmp_path, "run", "base", 5, (first.as_input("data"), cache.as_input("cache")))
    tuned = make(tmp_path, "run", "tuned", 6, (second.as_input("data"), base.as_input("model")))
    runs, data = lineage.trained_on(tmp_path, tuned)
    assert [run.name for run in runs] == ["tuned", "base"]
    assert [seen and seen.name for seen in data] == ["d2", "d1"]
    shutil.rmtree(base.path)
    runs, data = lineage.trained_on(tmp_path, tuned)
    assert [run.name for run in runs] == ["tuned"]
    assert [seen and seen.name for seen in data] == ["d2", None]


SQUARES, OTHERS, VIT, VIT2, TOY = (
    Input(role, kind, name, name) for role, kind, name in (
        ("data", "data", "squares"), ("data.1", "data", "others"), ("cache", "cache", "vit"),
        ("cache.1", "cache", "vit2"), ("model", "run", "toy"))
)  # fmt: skip


@pytest.mark.parametrize(
    ("command", "config", "inputs", "again"),
    [
        ("prepare-data --images photos --annotations=set/a.json --root work", {}, (),
         "prepare-data --images HERE/photos --annotations=HERE/set/a.json --name x"),
        ("prepare-data --set source.images=set/a.json --name photos", {}, (),
         "prepare-data --set source.images=HERE/set/a.json --name photos"),
        ("cache-teacher --shard 1/2 --teacher timm:photos:w.pt --root=work", {}, (SQUARES,),
         "cache-teacher --teacher timm:photos:HERE/w.pt --data squares --name x"),
        ("cache-teacher --data photos --shard=0/2 --teacher hf:photos --weights TAG", {"data": "photos"}, (SQUARES,),
         "cache-teacher --data photos --teacher hf:HERE/photos --weights TAG --name x"),
        ("cache-teacher --data squares --teacher timm:local-dir:photos", {"data": "squares"}, (SQUARES,),
         "cache-teacher --data squares --teacher timm:local-dir:HERE/photos --name x"),
        ("distill", {"data": []}, (SQUARES, VIT), "distill --data squares --cache vit --name x"),
        ("distill --cache vit", {"cache": "vit"}, (SQUARES, VIT), "distill --cache vit --data squares --name x"),
        ("distill --data squares:vit", {"data": ["squares:vit"]}, (SQUARES, VIT),
         "distill --data squares:vit --name x"),
        ("distill --data squares --data others@2 --live", {"data": ["squares", "others@2"]}, (SQUARES, OTHERS),
         "distill --data squares --data others@2 --live --name x"),
        ("distill --data squares --data=others:vit2@2", {"data": ["squares", "others:vit2@2"]},
         (SQUARES, VIT, OTHERS, VIT2), "distill --data squares:vit --data others:vit2@2 --name x"),
        ("evaluate --bench retrieval", {"model": None}, (TOY, SQUARES, VIT),
         "evaluate --bench retrieval --model toy --data squares --name x"),
        ("evaluate --image-model set/a.json --text-model toy", {"image_model": "set/a.json"}, (TOY, SQUARES),
         "evaluate --image-model HERE/set/a.json --text-model toy --data squares --name x"),
    ],
)  # fmt: skip
def test_a_command_is_said_so_that_it_makes_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, config: dict[str, object],
    inputs: tuple[Input, ...], again: str,
) -> None:  # fmt: skip
    for file in ("photos/1.jpg", "set/a.json", "w.pt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    stage, *words = command.split()
    kind = {"prepare-data": "data", "cache-teacher": "cache", "distill": "run", "evaluate": "result"}[stage]
    _, artifact = artifacts.begin(tmp_path / "x", Plan(kind, stage, "x", {}, config, inputs))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/bin/mmkd", stage, *words])
    finished = artifacts.finish(artifact, content={}, files={}, hashed={}, started=time.time())
    monkeypatch.chdir("/")
    assert lineage.command(finished) == "mmkd " + again.replace("HERE", str(tmp_path))


def test_files_that_vanish_while_they_are_counted_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make(tmp_path, "data", "d")
    whole = sum(file.stat().st_size for file in artifact.path.iterdir())
    look = Path.stat
    for vanishing in ("before", "after"):  # the first look
        (artifact.path / vanishing).write_bytes(b"x" * 10)

    def vanish(path: Path, **keys: bool) -> os.stat_result:
        found = None if path.name == "before" else look(path, **keys)
        if path.name in ("before", "after"):
            path.unlink()
        return found or look(path, **keys)

    monkeypatch.setattr(Path, "stat", vanish)
    assert lineage.summary(artifact)["bytes"] == whole + 10


def test_the_only_artifact_of_a_kind_or_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--data is needed: .* has no data: make it by `mmkd prepare-data`$"):
        artifacts.only(tmp_path, "data", "--data")
    one = make(tmp_path, "data", "one")
    assert artifacts.only(tmp_path, "data", "--data").path == one.path
    with pytest.raises(UserError, match=r"has no data with labels \(there is one\): make it by `mmkd prepare-data`$"):
        artifacts.only(tmp_path, "data", "--data", lambda artifact: False, " with labels")
    make(tmp_path, "data", "two", seed=2)
    with pytest.raises(UserError, match=r"2 artifacts of kind data in .* fit \(one, two\)"):
        artifacts.only(tmp_path, "data", "--data")


def test_plan_is_created_by_one_process_only(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmkd_cli.core import paths;"
        "print(paths.create_json(Path(sys.argv[1]), {'who': sys.argv[2] * 100000}))"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "plan.json"), str(i)], stdout=subprocess.PIPE, text=True
        )
        for i in range(4)
    ]
    said = [racer.communicate()[0].strip() for racer in racers]
    assert sorted(said) == ["False", "False", "False", "True"]
    assert len(json.loads((tmp_path / "plan.json").read_text())["who"]) == 100000


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mmkd_cli.core.locks import Lock;"
        "Lock(Path(sys.argv[1]), 'x').acquire(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "l")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline().strip() == "held"
    with pytest.raises(Refused, match=f"pid {holder.pid}"):
        Lock(tmp_path / "l", "run 'x'").__enter__()
    holder.kill()
    holder.wait()
    assert Lock(tmp_path / "l", "run 'x'").acquire()


def test_a_forked_child_that_outlives_the_holder_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from mmkd_cli.core.locks import Lock\n"
        "lock = Lock(Path(sys.argv[1]), 'x'); lock.acquire()\n"
        "if not os.fork():\n"
        "    lock.release(); print(os.getpid(), flush=True)\n"  # of its parent's lock a child can't dispose
        "time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "l")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        assert not Lock(tmp_path / "l", "x").acquire()
        holder.kill()
        holder.wait()
        assert Lock(tmp_path / "l", "x").acquire()
        os.kill(child, 0)  # it lived all the while
    finally:
        holder.kill()
        os.kill(child, signal.SIGKILL)


def test_a_manifest_that_is_not_json_is_named(tmp_path: Path) -> None:
    artifact = make(tmp_path, "data", "d")
    (artifact.path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(MmkdError, match=r"manifest\.json is not JSON"):
        artifacts.open_artifact(tmp_path, "d", "data")


UNREADABLE = {
    "newer": lambda document: json.dumps({**document, "format": 99}),
    "strange kind": lambda document: json.dumps({**document, "kind": "dream"}),
    "no number": lambda document: json.dumps({**document, "format": "one"}),
    "incomplete": lambda document: json.dumps({k: v for k, v in document.items() if k != "inputs"}),
    "no table": lambda document: "[]",
    "no JSON": lambda document: json.dumps(document)[:-1],
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_one_artifact_that_cannot_be_read_does_not_break_the_others(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make(tmp_path, "data", "d")
    cache = make(tmp_path, "cache", "c", inputs=(data.as_input("data"),))
    for kind, good in (("data", data), ("cache", cache)):
        bad = make(tmp_path, kind, "bad", seed=2)
        for name in ("plan.json", "manifest.json"):
            (bad.path / name).write_text(UNREADABLE[what](json.loads((bad.path / name).read_text())))
        assert [a.path for a in artifacts.every(tmp_path, kind)] == [good.path]
        assert artifacts.only(tmp_path, kind, f"--{kind}").path == good.path
        assert len(capsys.readouterr().err.splitlines()) == 1  # a warning, and only once
        with pytest.raises(MmkdError, match="bad"):
            artifacts.read(artifacts.locate(tmp_path, "bad", kind))
    assert artifacts.locate(tmp_path, "c") == cache.path
    with pytest.raises(UserError, match="is not in"):
        artifacts.locate(tmp_path, "elsewhere", "cache")
    moved = Input("data", "data", "bad", data.fingerprint)  # the name that it had is another's now, an unreadable one's
    assert (found := lineage.find(tmp_path, moved)) is not None and found.path == data.path
    assert lineage.find(tmp_path, Input("data", "data", "d", "gone")) is None
    lineage.remove(tmp_path, cache, force=False)
