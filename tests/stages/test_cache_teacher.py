"""The stage on a tiny teacher: what is stored, what is refused, repaired, shared and verified."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmkd_cli.cache.inputs import TeacherInputs
from mmkd_cli.cache.live import LiveTargets
from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.data.pictures import decode
from mmkd_cli.data.prepared import open_data
from mmkd_cli.data.views import ViewSpec, view
from mmkd_cli.stages.cache_teacher import cores
from tests.stages.cache_worker import REJECTED, ROWS, TinyConfig, TinyTeacher, cache, make_data


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    make_data(root)
    return root


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared / "data", tmp_path / "data")
    return tmp_path


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_every_row_is_what_the_teacher_says_of_it_alone(root: Path) -> None:
    document = cache(root, "tiny", "cache.dtype=float32")
    assert document["status"] == "done"
    assert document["splits"] == {split: {"images": n, "texts": 2 * n} for split, n in ROWS.items()}
    teacher = TinyTeacher(TinyConfig())
    teacher.load("cpu")
    data = open_data(root, "photos")
    for split, rows in ROWS.items():
        found = open_cache("tiny", split, root)
        assert sorted(found.signals) == ["image_cls", "words"]
        assert found.rejected("images").tolist() == REJECTED[split]
        for row in set(range(rows)) - set(REJECTED[split]):
            picture = decode(data.table("images", split)[row]["image"]["bytes"])
            pixels = teacher.picture_transform(picture)[None]
            expected = teacher({"pixels": pixels}, ["image_cls"])["image_cls"][0]
            torch.testing.assert_close(found["image_cls"][row], expected, rtol=0, atol=1e-5)
        for row in range(2 * rows):
            text = teacher.tokenize([data.table("texts", split)[row]["text"]])
            assert torch.equal(found["words"][row], teacher(text, ["words"])["words"][0])
    with pytest.raises(Refused, match=r"train/images row 20 \(from 0\) was rejected \(not a picture\)"):
        open_cache("tiny", "train", root)["image_cls"][[1, 20]]


def test_again_says_that_it_is_there_and_touches_nothing(root: Path) -> None:
    cache(root)
    before = {path: path.stat().st_mtime_ns for path in (root / "caches" / "tiny").rglob("*") if path.is_file()}
    assert cache(root)["status"] == "already done"
    assert before == {p: p.stat().st_mtime_ns for p in (root / "caches" / "tiny").rglob("*") if p.is_file()}


def test_the_default_name_comes_from_the_request(root: Path) -> None:
    document = cache(root, None)
    assert document["name"] == f"tiny-photos-{document['request'][:8]}"
    assert cache(root, None)["status"] == "already done"


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("teacher.seed=1", "teacher.seed"),
        ("cache.batch_size=5", "cache.batch_size"),
        ("cache.dtype=float32", "cache.dtype"),
        ("cache.precision=bfloat16", "cache.precision"),
        ("cache.rows_per_shard=9", "cache.rows_per_shard"),
        ("cache.threads=2", "threads"),
        ('signals=["image_cls"]', "signals"),
    ],
)
def test_another_command_is_refused_by_the_field(root: Path, setting: str, field: str) -> None:
    cache(root)
    with pytest.raises(Refused, match=rf"made by another command: {field}"):
        cache(root, "tiny", setting)


def test_other_data_are_refused(root: Path) -> None:
    cache(root)
    shutil.rmtree(root / "data" / "photos")
    make_data(root, seed=1)
    with pytest.raises(Refused, match=r"inputs\.data was"):
        cache(root)


def test_a_newer_format_is_refused(root: Path) -> None:
    cache(root)
    for name in ("plan.json", "manifest.json"):
        file = root / "caches" / "tiny" / name
        paths.write_json(file, {**paths.read_json(file), "format": 7})
    with pytest.raises(Refused, match="has format 7, newer"):
        cache(root)


def test_workers_verification_and_delay_are_no_part_of_the_request(root: Path) -> None:
    cache(root)
    document = cache(root, "tiny", "cache.verify=5", "teacher.delay_s=0.001", workers=1)
    assert document["status"] == "already done"
    assert document["verify"]["image_cls"]["rows"] == 5


def test_signals_must_be_the_teachers_and_of_the_datas_tables(root: Path) -> None:
    with pytest.raises(UserError, match=r"'image_clss' is not one of the teacher's .did you mean 'image_cls'"):
        cache(root, "tiny", 'signals=["image_clss"]')
    cache(root, "wide", 'signals=["wide"]')
    assert open_cache("wide", root=root)["wide"].shape == (ROWS["train"], 2, 600)
    with pytest.raises(UserError, match="--views 2 asks for views of pictures"):
        cache(root, "words", 'signals=["words"]', "cache.views=2")


def damage(folder: Path, how: str) -> Path:
    shard = folder / "train" / "images-00002.safetensors"
    whole = shard.read_bytes()
    if how == "missing":
        shard.unlink()
    elif how == "truncated":
        shard.write_bytes(whole[:-5])
    else:
        shard.write_bytes(whole[:-5] + bytes([whole[-5] ^ 4]) + whole[-4:])
        assert artifacts.read(folder).check() == {
            "train/images-00002.safetensors": "its bytes are not those that were written"
        }
    return shard


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_damage_is_refused_and_the_same_command_repairs_that_shard_only(root: Path, how: str) -> None:
    cache(root)
    folder = root / "caches" / "tiny"
    before = shard_bytes(folder)
    others = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    shard = damage(folder, how)
    with pytest.raises(Refused, match=r"train/images-00002\.safetensors"):
        open_cache(folder)
    document = cache(root)
    assert (document["status"], document["repaired"]) == ("repaired", ["train/images-00002.safetensors"])
    assert shard_bytes(folder) == before
    assert [p for p, was in others.items() if p.stat().st_mtime_ns != was] == [shard]
    assert artifacts.read(folder).check() == {}
    assert len(open_cache(folder)["image_cls"][[16, 17]]) == 2


def test_a_share_mends_its_own_shards_and_leaves_the_others_named(root: Path) -> None:
    folder = root / "caches" / "tiny"
    cache(root, "tiny")
    before = shard_bytes(folder)
    broken = ["train/images-00000.safetensors", "train/images-00001.safetensors"]
    for name in broken:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)
    assert sorted(artifacts.read(folder).check()) == broken

    first = cache(root, "tiny", shard=(0, 2))
    assert (first["status"], first["repaired"]) == ("share done", broken[:1])
    assert list(artifacts.read(folder).damage()) == broken[1:]
    with pytest.raises(Refused, match=broken[1]):
        artifacts.open_artifact(root, "tiny", "cache")

    second = cache(root, "tiny", shard=(1, 2))
    assert (second["status"], second["repaired"]) == ("repaired", broken[1:])
    assert shard_bytes(folder) == before and not (folder / "damage.json").exists()


def test_a_shard_of_another_cache_is_refused(root: Path) -> None:
    cache(root)
    cache(root, "other", "teacher.seed=1")
    file = "train/images-00001.safetensors"
    shutil.copy(root / "caches" / "other" / file, root / "caches" / "tiny" / file)
    found = open_cache("tiny", root=root)
    with pytest.raises(Refused, match=r"train/images-00001\.safetensors is of another cache"):
        found["image_cls"][8]


def test_a_repair_that_gives_other_bytes_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(root)
    damage(root / "caches" / "tiny", "missing")
    load = TinyTeacher.load

    def other_machine(self: TinyTeacher, device: str, dtype: str = "float32") -> None:
        load(self, device, dtype)
        self.weight = self.weight + 0.5

    monkeypatch.setattr(TinyTeacher, "load", other_machine)
    with pytest.raises(Refused, match=r"images-00002\.safetensors: computed again it has other bytes"):
        cache(root)


def test_shares_give_the_bytes_of_one_process(root: Path) -> None:
    assert cache(root, "one")["status"] == "done"
    first = cache(root, "two", shard=(0, 2))
    assert (first["status"], first["shards_missing"]) == ("share done", 10)
    with pytest.raises(Refused, match="unfinished"):
        open_cache("two", root=root)
    assert cache(root, "two", shard=(0, 2))["status"] == "share done"
    assert cache(root, "two", shard=(1, 2))["status"] == "done"
    one, two = (artifacts.read(root / "caches" / name) for name in ("one", "two"))
    assert shard_bytes(one.path) == shard_bytes(two.path)
    assert one.fingerprint == two.fingerprint


def test_decoding_in_processes_gives_the_same_bytes(root: Path) -> None:
    cache(root, "thread")
    cache(root, "processes", workers=2)
    assert shard_bytes(root / "caches" / "thread") == shard_bytes(root / "caches" / "processes")


def test_views_are_those_that_their_seed_draws(root: Path) -> None:
    settings = ('signals=["image_cls"]', "cache.views=3", "cache.seed=11", "cache.dtype=float32")
    cache(root, "views", *settings)
    found = open_cache("views", "val", root)
    assert (found.n_views, found.seed) == (3, 11)
    assert found["image_cls"].shape == (ROWS["val"], 3, 6)
    teacher = TinyTeacher(TinyConfig())
    teacher.load("cpu")
    table = open_data(root, "photos").table("images", "val")
    for row, number in ((0, 0), (4, 2), (10, 1)):
        drawn = view(ViewSpec(), 11, "val", row, number)
        pixels = teacher.picture_transform(decode(table[row]["image"]["bytes"]), drawn)[None]
        expected = teacher({"pixels": pixels}, ["image_cls"])["image_cls"][0]
        torch.testing.assert_close(found["image_cls"][row][number], expected, rtol=0, atol=1e-5)
    with pytest.raises(Refused, match=r"cache\.seed was 11"):
        cache(root, "views", *settings, "cache.seed=12")
    cache(root, "axis", 'signals=["image_cls"]', "cache.views=1")
    assert open_cache("axis", "val", root)["image_cls"].shape == (ROWS["val"], 1, 6)


@pytest.mark.parametrize("views", [0, 2])
def test_the_live_teacher_gives_the_numbers_of_a_float32_cache(root: Path, views: int) -> None:
    cache(root, "tiny", "cache.dtype=float32", f"cache.views={views}", 'signals=["image_cls", "wide", "words"]')
    stored = open_cache("tiny", root=root)
    teacher = TinyTeacher(TinyConfig())
    teacher.load("cpu")
    inputs = TeacherInputs(teacher, open_data(root, "photos"), 0, stored.index)
    live = LiveTargets(teacher, inputs, "train", batch_size=3)
    rows = np.array([7, 30, 7, 0, 36, 1])
    numbers = np.array([0, 1, 1, 0, 1, 0]) if views else None
    asked: list[tuple[list[str], Any]] = [(["image_cls", "wide"], numbers), (["image_cls"], None), (["words"], None)]
    for signals, chosen in asked:
        expected = stored.targets("train").gather(signals, rows, chosen)
        for name, value in live.gather(signals, rows, chosen).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-3)


def test_verification_finds_other_weights_and_reports_rounding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = cache(root, "tiny", "cache.verify=20")
    found = document["verify"]["image_cls"]
    assert found["rows"] == 20
    assert 0 < found["error_max"] <= found["rounding_max"] + found["control_max"]
    assert found["rounding_max"] <= found["largest"] * 2**-8
    assert artifacts.read(root / "caches" / "tiny").content["verify"] == document["verify"]
    load = TinyTeacher.load

    def other_weights(self: TinyTeacher, device: str, dtype: str = "float32") -> None:
        load(self, device, dtype)
        self.weight = -self.weight

    monkeypatch.setattr(TinyTeacher, "load", other_weights)
    wrong = cache(root, "tiny", "cache.verify=20")["verify"]["image_cls"]
    assert wrong["error_max"] > 100 * wrong["rounding_max"]


def test_a_dry_run_says_rows_bytes_and_shards_and_writes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    document = cache(root, "tiny", dry_run=True)
    assert sorted(root.rglob("*")) == before
    assert (document["status"], document["rows"], document["shards"]) == ("dry run", 144, 20)
    assert document["parameters"] == 1152 and document["rows_per_second"]["images"] > 0
    cache(root)
    stored = sum(path.stat().st_size for path in (root / "caches").rglob("*.safetensors"))
    assert document["bytes"] < stored  # the shards' headers come on top


def test_a_teacher_that_is_not_finite_is_named_with_its_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say = TinyTeacher.__call__

    def overflow(self: TinyTeacher, batch: Any, signals: Any) -> Any:
        said = say(self, batch, signals)
        if "image_cls" in said and 13 in batch["row"]:
            said["image_cls"][batch["row"].tolist().index(13)] = float("inf")
        return said

    monkeypatch.setattr(TinyTeacher, "__call__", overflow)
    with pytest.raises(UserError, match=r"'image_cls' is not finite at train/images row 13 \(from 0"):
        cache(root)


def test_a_disk_without_room_is_seen_before_the_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match=r"has 10 bytes free, the 20 shards to be written need .*: free .* bytes more"):
        cache(root)
    assert not list((root / "caches").rglob("*.safetensors"))


def test_cores_are_counted_where_a_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()
