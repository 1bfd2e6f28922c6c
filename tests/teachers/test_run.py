"""A run as a teacher: by name, from another root's folder, with its line; what is no such run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import lineage
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.data.prepared import open_data
from mmkd_cli.stages import cache_teacher
from mmkd_cli.students.dual_encoders import open_dual_encoder
from tests.stages.small_chain import config_of, context, distilled, make_chain


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_chain(tmp_path_factory.mktemp("chain"))
    distilled(root, "first", data=["squares"], cache="vit", train__epochs=1)
    return root


def cached(root: Path, name: str, run: str, **keys: Any) -> Path:
    given = {"data": "others", "teacher__name": "run", "teacher__weights": run, "cache__dtype": "float32", **keys}
    cache_teacher.run(config_of(cache_teacher, **given), context(root, name))
    return root / "caches" / name


def test_a_cache_holds_the_runs_own_vectors_of_other_data(root: Path) -> None:
    folder = cached(root, "vectors", "first")
    cache = open_cache("vectors", root=root).of_split("train")
    student = open_dual_encoder("first", root=root)
    captions = open_data(root, "others").table("texts", "train")["text"]
    expected = student.embed_texts(student.tokenize([str(text) for text in captions]))
    torch.testing.assert_close(cache["text_embedding"][range(len(expected))], expected, atol=1e-5, rtol=1e-5)
    line = lineage.chain(root, lineage.artifacts.read(folder))
    assert len(line) == 5  # squares and others, squares' cache, the run, this cache


def test_the_runs_folder_gives_the_same_cache(root: Path) -> None:
    shards = [sorted(path.read_bytes() for path in cached(root, name, run).rglob("*.safetensors"))
              for name, run in (("by-name", "first"), ("by-path", str(root / "runs" / "first")))]  # fmt: skip
    assert shards[0] == shards[1]


def test_pictures_come_through_the_runs_teacher_and_a_student_learns_from_them(root: Path) -> None:
    cached(root, "targets", "first", data="squares", signals=["image_embedding"])
    seen = open_cache("vit", root=root).of_split("train")["image_cls"][range(32)]
    expected = open_dual_encoder("first", root=root).embed_images({"image_cls": seen})
    said = open_cache("targets", root=root).of_split("train")["image_embedding"][range(32)]
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)
    made = distilled(root, "second", data=["squares"], cache="targets", method__signal="image_embedding")
    assert made["status"] == "done"


def test_what_is_no_run_is_said(root: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'first'"):
        cached(root, "none", "frist")
    with pytest.raises(UserError, match="is data, not a run"):
        cached(root, "none", str(root / "data" / "squares"))
    with pytest.raises(UserError, match="write --teacher run:NAME"):
        config = config_of(cache_teacher, data="others", teacher__name="run")
        cache_teacher.run(config, context(root, "none"))
    (root / "runs" / "unfinished").mkdir()
    (root / "runs" / "unfinished" / "plan.json").write_text((root / "runs" / "first" / "plan.json").read_text())
    with pytest.raises(Refused, match="unfinished"):
        cached(root, "none", "unfinished")
