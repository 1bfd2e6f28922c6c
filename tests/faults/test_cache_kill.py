"""`cache-teacher` killed at random moments, run by two processes at once, and on a disk that fills."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.errors import Refused
from tests.stages import cache_worker

KILLS = 5
SLOW = "teacher.delay_s=0.04"  # 37 forwards: about 1.5 s


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with data and the cache `undisturbed`."""
    root = tmp_path_factory.mktemp("faults")
    cache_worker.make_data(root)
    cache_worker.cache(root, "undisturbed")
    return root


PROCESSES = multiprocessing.get_context("forkserver")  # children of a process that has imported torch, and no more
PROCESSES.set_forkserver_preload(["tests.stages.cache_worker"])


class Worker:
    """One `cache-teacher` process."""

    def __init__(self, root: Path, name: str, *settings: str, rank: tuple[int, int] = (0, 1), file_bytes: int = 0):
        self.report = root / f"report-{name}-{rank[0]}"
        self.process = PROCESSES.Process(
            target=cache_worker.work, args=(root, name, settings, self.report, rank, file_bytes)
        )
        self.process.start()

    def end(self) -> tuple[int | None, str]:
        """Exit code and what it reported."""
        self.process.join(120)
        return self.process.exitcode, self.report.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def shards(root: Path, name: str) -> dict[str, bytes]:
    folder = root / "caches" / name
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


def assert_as_undisturbed(root: Path, name: str) -> None:
    assert shards(root, name) == shards(root, "undisturbed")
    there, other = (artifacts.read(root / "caches" / n) for n in (name, "undisturbed"))
    assert there.fingerprint == other.fingerprint
    assert there.check() == {}
    left = [path.name for path in there.path.rglob("*") if path.name.endswith((".tmp", ".lock"))]
    assert left == []


def committed(root: Path, name: str) -> dict[str, int]:
    """Shard files whose commit record is there, with their times of writing."""
    records = (root / "caches" / name).glob("*/*.json")
    files = [record.with_suffix(".safetensors") for record in records]
    return {str(file): file.stat().st_mtime_ns for file in files}


def test_kills_at_random_moments_leave_the_bytes_of_an_undisturbed_run(root: Path) -> None:
    rng = random.Random(0)
    for _ in range(KILLS):
        began = len(committed(root, "killed"))
        worker = Worker(root, "killed", SLOW)
        while worker.process.is_alive() and len(committed(root, "killed")) == began:
            time.sleep(0.005)  # the kill comes when work is under way
        time.sleep(rng.uniform(0.0, 0.15))
        worker.kill()
        with pytest.raises(Refused, match="unfinished"):
            open_cache("killed", root=root)
    before = committed(root, "killed")
    assert 0 < len(before) < 20
    assert Worker(root, "killed").end() == (0, "done")
    assert_as_undisturbed(root, "killed")
    assert {file: time for file, time in committed(root, "killed").items() if file in before} == before


def test_two_processes_at_once_give_the_bytes_of_one(root: Path) -> None:
    workers = [Worker(root, "pair", SLOW, rank=(rank, 2)) for rank in (0, 1)]
    assert [worker.end() for worker in workers] == [(0, "done"), (0, "done")]
    assert_as_undisturbed(root, "pair")
    records = (root / "caches" / "pair").glob("*/*.json")
    assert {paths.read_json(record)["computed_by"]["rank"] for record in records} == {0, 1}


def test_a_process_waits_for_the_shards_of_one_that_dies(root: Path) -> None:
    dying = Worker(root, "waited", "teacher.delay_s=0.5")
    while not list((root / "caches").glob("waited/*/.*.lock")):
        time.sleep(0.01)
    other = Worker(root, "waited", rank=(1, 2))
    while len(committed(root, "waited")) < 18:  # all but those that the first one holds
        time.sleep(0.01)
    dying.kill()
    assert other.end() == (0, "done")
    assert shards(root, "waited") == shards(root, "undisturbed")


def test_a_full_disk_is_named_and_the_whole_shards_stay(root: Path) -> None:
    wide = 'signals=["wide"]'
    cache_worker.cache(root, "room", wide)
    whole = shards(root, "room")
    short = "train/images-00004.safetensors"  # the last rows: the one that fits
    limit = (len(whole[short]) + len(whole["train/images-00000.safetensors"])) // 2
    code, said = Worker(root, "full", wide, rank=(4, 5), file_bytes=limit).end()
    assert code == 2
    assert "is full (File too large)" in said and "run the same command" in said
    assert shards(root, "full") == {short: whole[short]}
    assert not list((root / "caches" / "full").rglob("*.tmp"))
    assert Worker(root, "full", wide).end() == (0, "done")
    assert shards(root, "full") == whole
