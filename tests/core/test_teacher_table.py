"""How `--teacher` becomes the keys of the teacher's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.references import absolute_places, moved, student_table, teacher_table
from mmkd_cli.teachers.clip import ClipConfig
from mmkd_cli.teachers.precomputed import PrecomputedConfig
from mmkd_cli.teachers.timm_models import TimmConfig


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("beit2", {"name": "beit2"}),
        ("timm:resnet50", {"name": "timm", "arch": "resnet50"}),
        ("timm:resnet50:a.safetensors", {"name": "timm", "arch": "resnet50", "weights": "a.safetensors"}),
        ("timm:local-dir:some/folder", {"name": "timm", "arch": "local-dir:some/folder"}),
        ("open_clip:RN50-quickgelu:openai", {"name": "clip", "arch": "RN50-quickgelu", "weights": "openai"}),
        ("hf:openai/clip-vit-base-patch32", {"name": "clip", "weights": "openai/clip-vit-base-patch32"}),
        ("hf:facebook/data2vec-text-base", {"name": "data2vec", "weights": "facebook/data2vec-text-base"}),
        ("hf:openai-community/gpt2", {"name": "lm", "weights": "openai-community/gpt2"}),
        ("gpt2", {"name": "gpt2"}),
        ("lm:some/folder", {"name": "lm", "weights": "some/folder"}),
        ("diffusers:some/folder", {"name": "stable-diffusion", "weights": "some/folder"}),
    ],
)
def test_references(text: str, table: dict[str, str]) -> None:
    assert teacher_table(text) == table


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("unimodal", {"name": "unimodal"}),
        ("open_clip:RN50-quickgelu:a.safetensors",
         {"name": "clip", "arch": "RN50-quickgelu", "weights": "a.safetensors"}),
        ("open_clip:local-dir:some/folder", {"name": "clip", "arch": "local-dir:some/folder"}),
        ("hf:openai/clip-vit-base-patch32", {"name": "clip", "weights": "openai/clip-vit-base-patch32"}),
        ("hf:facebook/bart-large", {"name": "bart", "weights": "facebook/bart-large"}),
        ("hf:openai-community/gpt2", {"name": "prefix", "weights": "openai-community/gpt2"}),
    ],
)  # fmt: skip
def test_students(text: str, table: dict[str, str]) -> None:
    assert student_table(text) == table


@pytest.mark.parametrize("text", ["timm:resnet50", "diffusers:some/folder"])
def test_a_student_of_pictures_alone_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--student {text}: .* has no model of pictures and texts"):
        student_table(text)


def test_a_folder_says_itself_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "data2vec-vision"}))
    assert teacher_table(f"hf:{tmp_path}") == {"name": "data2vec", "weights": str(tmp_path)}
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json names no model_type"):
        teacher_table(f"hf:{tmp_path}")


def test_what_is_recorded_opens_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders by their absolute path; tags, ids and what is not there as they were written."""
    monkeypatch.chdir(tmp_path)
    for name in ("w.pt", "openai"):
        (tmp_path / name).write_text("")
    (tmp_path / "laion2b").mkdir()
    here = str(tmp_path)
    for teacher, recorded in (
        (TimmConfig(arch="vit", weights="w.pt"), {"arch": "vit", "weights": f"{here}/w.pt"}),
        (TimmConfig(arch="vit", weights="absent.pt"), {"weights": "absent.pt"}),
        (TimmConfig(arch="local-dir:laion2b"), {"arch": f"local-dir:{here}/laion2b", "weights": None}),
        (ClipConfig(arch="ViT-B-32", weights="laion2b"), {"weights": "laion2b"}),
        (ClipConfig(weights="laion2b"), {"weights": f"{here}/laion2b"}),
        (ClipConfig(weights="openai/clip"), {"weights": "openai/clip"}),
        (PrecomputedConfig(features="w.pt", ids="names"), {"features": f"{here}/w.pt", "ids": "names"}),
    ):  # fmt: skip
        assert absolute_places(teacher, tmp_path).model_dump(include=set(recorded)) == recorded


def test_the_weights_of_a_recorded_teacher_may_be_elsewhere(tmp_path: Path) -> None:
    assert moved({"name": "timm", "arch": "vit", "weights": "old"}, "new")["weights"] == "new"
    assert moved({"name": "precomputed", "features": "old.npy"}, "new.npy") == {"name": "precomputed",
                                                                                "features": "new.npy"}  # fmt: skip
    folder = moved({"name": "timm", "arch": "local-dir:old", "weights": None}, str(tmp_path))
    assert folder == {"name": "timm", "arch": f"local-dir:{tmp_path}", "weights": None}
