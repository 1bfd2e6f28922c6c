"""How `--teacher` becomes the keys of the teacher's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.references import teacher_table


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
        ("diffusers:some/folder", {"name": "stable-diffusion", "weights": "some/folder"}),
    ],
)
def test_references(text: str, table: dict[str, str]) -> None:
    assert teacher_table(text) == table


def test_a_folder_says_itself_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "data2vec-vision"}))
    assert teacher_table(f"hf:{tmp_path}") == {"name": "data2vec", "weights": str(tmp_path)}
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json names no model_type"):
        teacher_table(f"hf:{tmp_path}")
