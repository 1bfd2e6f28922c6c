"""What every registered teacher keeps to, on tiny random weights in its published layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core import registry
from mmkd_cli.core.config import validate
from mmkd_cli.core.contracts import SignalSpec, Teacher
from mmkd_cli.core.fingerprints import canonical_json
from tests.contracts.tiny_teachers import TINY

TEXTS = ["a dog", "two dogs run over the wet sand", "", "dodo " * 40]
"""Of different lengths; one is empty, one is cut."""


def open_teacher(keys: dict[str, Any]) -> Teacher:
    teacher_class = registry.load("teachers", keys["name"])
    teacher: Teacher = teacher_class(validate(teacher_class.Config, keys))
    return teacher


def batch(teacher: Teacher, table: str, rows: int = 4) -> dict[str, Any]:
    """What the stage gives a teacher of `rows` rows of a table."""
    given: dict[str, Any] = {"row": torch.arange(rows), "id": [f"id-{row}" for row in range(rows)], "split": "train"}
    if table == "images" and teacher.picture_transform is not None:
        height, width = teacher.picture_transform.size  # type: ignore[attr-defined]
        shape = (rows, 3, height, width)
        given["pixels"] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    if table == "texts" and teacher.tokenize is not None:
        given |= teacher.tokenize(TEXTS[:rows])
    return given


def row_of(given: dict[str, Any], row: int) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else value[row : row + 1] for name, value in given.items()}


def say(teacher: Teacher, given: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All signals, asked for table by table."""
    said = {}
    for table, rows in given.items():
        names = [name for name, spec in teacher.signals().items() if spec.table == table]
        said |= teacher(rows, names)
    return said


def tables(teacher: Teacher) -> list[str]:
    return sorted({spec.table for spec in teacher.signals().values()})


@pytest.fixture(params=sorted(TINY))
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "weights"
    folder.mkdir()
    return {**TINY[request.param](folder, 0), "case": request.param}


def test_there_is_a_case_of_every_registered_teacher(tmp_path: Path) -> None:
    made = set()
    for place, make in enumerate(TINY.values()):
        folder = tmp_path / str(place)
        folder.mkdir()
        made.add(make(folder, 0)["name"])
    assert made == set(registry.TABLES["teachers"])


def test_a_teacher_keeps_to_its_contract(keys: dict[str, Any], tmp_path: Path) -> None:
    case = keys.pop("case")
    teacher = open_teacher(keys)
    assert isinstance(teacher, Teacher)
    specs = teacher.signals()
    assert specs and any(spec.default for spec in specs.values())
    assert all(isinstance(spec, SignalSpec) and spec.name == name for name, spec in specs.items())
    canonical_json(teacher.identity())

    teacher.load("cpu")
    given = {table: batch(teacher, table) for table in tables(teacher)}
    with torch.enable_grad():
        said = say(teacher, given)
    assert said.keys() == specs.keys()
    for name, spec in specs.items():
        assert len(said[name]) == 4
        for value in said[name]:
            kept = spec.shape if not spec.ragged else (len(value), *spec.shape[1:])
            assert tuple(value.shape) == kept and not value.requires_grad and torch.isfinite(value).all()
            assert len(value) <= spec.shape[0]
            assert value.is_floating_point() == ("int" not in spec.dtype)
        if not spec.ragged and "int" not in spec.dtype:
            assert said[name].dtype == torch.float32
            assert said[name].flatten(1).std(0).max() > 1e-4, f"{name} says the same of every row"

    again = say(teacher, given)
    for row in range(4):
        alone = say(teacher, {table: row_of(rows, row) for table, rows in given.items()})
        for name in specs:
            assert torch.equal(again[name][row], said[name][row])
            torch.testing.assert_close(alone[name][0], said[name][row], atol=2e-5, rtol=2e-5)

    if keys["name"] != "precomputed":
        assert teacher.parameters_count() > 0
        half = open_teacher(keys)
        half.load("cpu", "bfloat16")
        for name, value in say(half, given).items():
            if specs[name].ragged or "int" in specs[name].dtype:  # token ids have no distance
                continue
            cosine = torch.cosine_similarity(value.float().flatten(1), said[name].flatten(1))
            assert cosine.min() > 0.98, f"{name} in bfloat16"

    identity_follows_the_weights(case, keys, teacher.identity(), tmp_path)


def identity_follows_the_weights(case: str, keys: dict[str, Any], identity: dict[str, Any], tmp_path: Path) -> None:
    """The same from a copy elsewhere, and through the memory of hashes; another with other weights."""
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(tmp_path / "weights", copy)
    moved = {name: value.replace(str(tmp_path / "weights"), str(copy)) if isinstance(value, str) else value
             for name, value in keys.items()}  # fmt: skip
    (tmp_path / "memory").mkdir()
    for _ in range(2):
        assert open_teacher(moved).identity(tmp_path / "memory") == identity
    other.mkdir()
    assert open_teacher(TINY[case](other, 1)).identity() != identity
    assert str(tmp_path) not in canonical_json(identity)


def test_a_constructor_reads_nothing() -> None:
    for name in registry.TABLES["teachers"]:
        teacher_class = registry.load("teachers", name)
        fields = teacher_class.Config.model_fields
        given = {field: "nowhere/at/all" for field in ("arch", "weights", "features") if field in fields}
        teacher_class(validate(teacher_class.Config, {"name": name, **given}))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("dino", {"image_cls": (768,), "image_tokens": (197, 768), "grid": (196, 768), "grid_size": (2,)}),
        ("resnet50", {"image_cls": (2048,), "logits": (1000,), "grid": (49, 2048), "grid_size": (2,)}),
        ("beit2", {"image_cls": (768,), "image_tokens": (197, 768), "image_mean": (768,)}),
        ("d2v2", {"image_cls": (768,), "image_tokens": (197, 768), "image_mean": (768,), "layer_mean": (197, 768)}),
    ],
)
def test_full_sizes_are_known_without_weights(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    teacher = open_teacher({"name": name})
    assert {signal: spec.shape for signal, spec in teacher.signals().items()} == shapes
    assert 25e6 < teacher.parameters_count() < 86e6
