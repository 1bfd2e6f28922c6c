from __future__ import annotations

import pytest

from mmkd_cli.core import fingerprints, registry
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.references import parse_data, parse_model


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("open_clip:ViT-B-32:openai", ("open_clip", "ViT-B-32", "openai")),
        ("open_clip:ViT-B-32", ("open_clip", "ViT-B-32", None)),
        ("timm:local-dir:/some/folder", ("timm", "local-dir:/some/folder", None)),
        ("hf:org/model", ("hf", "org/model", None)),
        ("beit2", ("", "beit2", None)),
        ("runs/x", ("", "runs/x", None)),
    ],
)
def test_model_names(text: str, parts: tuple[str, str, str | None]) -> None:
    assert tuple(parse_model(text)) == parts


def test_data_names() -> None:
    assert tuple(parse_data("coco:beit2@0.5")) == ("coco", "beit2", 0.5)
    assert tuple(parse_data("coco")) == ("coco", None, 1.0)
    assert tuple(parse_data("s3://b/data/coco")) == ("s3://b/data/coco", None, 1.0)
    assert tuple(parse_data("s3://b/coco:beit2@2")) == ("s3://b/coco", "beit2", 2.0)
    pair = parse_data("http://host:8080/coco:gs://b/caches/beit2")
    assert tuple(pair) == ("http://host:8080/coco", "gs://b/caches/beit2", 1.0)
    for wrong in ("", ":c", "coco@x", "coco@0"):
        with pytest.raises(UserError):
            parse_data(wrong)


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match="did you mean 'beit2'"):
        registry.load("teachers", "biet2")
    with pytest.raises(UserError, match="bench 'coco-retreival'"):
        registry.load("benches", "coco-retreival")


def test_every_registered_name_can_be_loaded_and_has_a_config() -> None:
    for kind in registry.TABLES:
        for name in registry.table(kind):
            assert registry.load(kind, name).Config.model_fields["name"].default == name


def test_file_hash_is_remembered_and_follows_the_file(tmp_path) -> None:
    file, memory = tmp_path / "weights", tmp_path / "memory"
    file.write_bytes(b"one")
    first = fingerprints.sha256_file(file, memory)
    assert first == fingerprints.sha256_file(file) and len(list(memory.iterdir())) == 1
    file.write_bytes(b"two, longer")
    assert fingerprints.sha256_file(file, memory) == fingerprints.sha256_file(file) != first
