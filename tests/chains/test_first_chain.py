"""The command line from pictures to recall, twice over: done work is not done again; all know their inputs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from mmkd_cli.cli.demo import ASSETS

TEACHER = f"timm:local-dir:{ASSETS / 'tiny-image-teacher'}"


def chain(steps: int = 20) -> list[list[str]]:
    scenes = ["source.train=120", "source.val=20", "source.test=20"]
    small = [
        f"train.max_steps={steps}",
        "student.width=32",
        "student.heads=2",
        "train.batch_size=16",
        "train.log_every=1",
        f"train.max_steps={steps}",
    ]
    return [
        ["prepare-data", "--preset", "demo", "--name", "scenes", *(w for s in scenes for w in ("--set", s))],
        ["cache-teacher", "--teacher", TEACHER, "--data", "scenes", "--name", "teacher",
         "--set", "cache.rows_per_shard=64"],
        ["distill", "--preset", "demo", "--data", "scenes", "--cache", "teacher", "--name", "student",
         *(w for s in small for w in ("--set", s))],
        ["evaluate", "--bench", "retrieval", "--model", "student", "--split", "val", "--name", "recall", "--json"],
    ]  # fmt: skip


@pytest.fixture
def made(mmkd):
    return [mmkd(*words) for words in chain()]


def test_the_chain_and_again(mmkd, made, tmp_path: Path) -> None:
    root = tmp_path / "work"
    scores = json.loads(made[-1].stdout)
    assert scores["bench"] == "retrieval" and scores["split"] == "val"
    assert 0 <= scores["metrics"]["text_to_image_recall@1"] <= scores["metrics"]["text_to_image_recall@10"] <= 100
    losses = [json.loads(line) for line in (root / "runs" / "student" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1]["step"] == 20

    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    again = [mmkd(*words) for words in chain()]
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == before
    assert all("already done" in done.stderr for done in again[:3])
    assert json.loads(again[-1].stdout) == scores

    commands = mmkd("show", "student", "--chain").stdout.splitlines()
    assert [line.split()[1] for line in commands] == ["prepare-data", "cache-teacher", "distill"]
    for line in commands:
        assert "already done" in mmkd(*shlex.split(line)[1:]).stderr, line
    assert "needed by" in mmkd("rm", "scenes", code=3).stderr
    assert "every byte as written" in mmkd("show", "teacher", "--check").stderr
    listed = {row["name"]: row["status"] for row in json.loads(mmkd("ls", "--json").stdout)}
    assert listed == {"scenes": "finished", "teacher": "finished", "student": "finished", "recall": "finished"}


def test_refusals_name_the_field_or_the_file(mmkd, made, tmp_path: Path) -> None:
    root = tmp_path / "work"
    other = [*chain()[2], "--set", "train.peak_lr=0.5"]
    assert "train.peak_lr was 0.002, the command says 0.5" in mmkd(*other, code=3).stderr

    shard = next((root / "caches" / "teacher" / "train").glob("images-00001.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 255]))
    assert shard.name in mmkd("show", "teacher", "--check", code=3).stderr
    fresh = [w if w != "student" else "student2" for w in chain()[2]]
    assert shard.name in mmkd(*fresh, code=3).stderr
    others = {p: p.stat().st_mtime_ns for p in shard.parent.parent.rglob("*.safetensors") if p != shard}
    assert shard.name in mmkd(*chain()[1]).stderr
    assert shard.read_bytes() == whole
    assert {p: p.stat().st_mtime_ns for p in others} == others
    mmkd("show", "teacher", "--check")

    shard.unlink()
    assert shard.name in mmkd(*fresh, code=3).stderr
    mmkd(*chain()[1])
    assert shard.read_bytes() == whole
