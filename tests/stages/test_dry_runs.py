"""`--dry-run` of every stage looks first: what is there is told as the real run would tell it, and nothing changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.core.errors import Refused
from mmkd_cli.stages import cache_teacher, distill, evaluate, prepare_data
from tests.stages.small_chain import config_of, context, make_chain, student_keys, teacher_keys

CASES = {
    "prepare-data": ("data/squares", "images/val/data-00000-of-00001.arrow", {"image_size": 16}, "config.image_size"),
    "cache-teacher": ("caches/vit", "val/images-00000.safetensors", {"cache__dtype": "bfloat16"}, "cache.dtype"),
    "distill": ("runs/small", "metrics.jsonl", {"train__peak_lr": 0.5}, "config.train.peak_lr"),
    "evaluate": ("results/scored", "scores.json", {"split": "train"}, "split"),
}
"""Stage -> folder of what it made, a file of that, keys of another command, and the field in which that differs."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, weights and the four artifacts in `work`."""
    root = make_chain(tmp_path_factory.mktemp("dry"))
    for stage in ("distill", "evaluate"):
        run(root, stage, dry_run=False)
    shutil.rmtree(root / ".hashes")
    (root / ".hashes").mkdir()  # where a real run would note hashes
    return root.parent


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy")) / "work"


def run(root: Path, stage: str, dry_run: bool = True, **more: Any) -> dict[str, Any]:
    """The stage's command that made the artifact of CASES, changed by `more`."""
    pictures = root.parent / "squares"
    module, keys = {
        "prepare-data": (prepare_data, {
            "image_size": 0, "source__name": "flickr8k", "source__images": str(pictures),
            "source__annotations": str(pictures / "annotations.json"),
        }),
        "cache-teacher": (cache_teacher, {
            "data": "squares", "cache__dtype": "float32", "cache__rows_per_shard": 16, "cache__threads": 1,
            **teacher_keys(pictures.parent),
        }),
        "distill": (distill, student_keys(data="squares", cache="vit", train__max_steps=2)),
        "evaluate": (evaluate, {"bench__name": "retrieval", "bench__bootstrap": 0, "model": "small", "split": "val"}),
    }[stage]  # fmt: skip
    name = more.pop("name", Path(CASES[stage][0]).name)
    return module.run(config_of(module, **{**keys, **more}), context(root, name, dry_run=dry_run))


@contextmanager
def nothing_changes(root: Path) -> Iterator[None]:
    def everything() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}

    before = everything()
    yield
    assert everything() == before


@pytest.mark.parametrize("stage", CASES)
def test_a_new_name(root: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_changes(root):
        said = run(root, stage, name="fresh")
    where = (root / CASES[stage][0]).with_name("fresh")
    assert (said["status"], said["name"], said["path"]) == ("dry run", "fresh", str(where))
    assert said["stage"] == stage and said["rows"] and "would " in capsys.readouterr().err


@pytest.mark.parametrize("stage", CASES)
def test_what_is_finished_is_already_done(root: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_changes(root):
        assert run(root, stage)["status"] == "already done"
    assert "is already done: " in capsys.readouterr().err


@pytest.mark.parametrize("stage", CASES)
def test_what_is_unfinished_would_go_on(root: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    (root / CASES[stage][0] / "manifest.json").unlink()
    with nothing_changes(root):
        said = run(root, stage)
    assert said["status"] == "would go on" and said["rows"] and "(unfinished)" in capsys.readouterr().err


@pytest.mark.parametrize("stage", CASES)
def test_what_is_damaged_would_be_repaired(root: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file, *_ = CASES[stage]
    (root / folder / file).unlink()
    with nothing_changes(root):
        said = run(root, stage)
    assert (said["status"], said["damaged"]) == ("would repair", [file])
    assert f"would repair {file} of " in capsys.readouterr().err


@pytest.mark.parametrize("stage", CASES)
def test_what_another_command_made_is_refused_by_its_field(root: Path, stage: str) -> None:
    _, _, keys, field = CASES[stage]
    for dry_run in (True, False):
        with nothing_changes(root) if dry_run else nullcontext():
            with pytest.raises(Refused, match=rf"made by another command: {field} was .*, the command says"):
                run(root, stage, dry_run=dry_run, **keys)
