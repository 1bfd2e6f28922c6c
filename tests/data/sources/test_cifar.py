"""CIFAR's files as a source: both splits, ranges over files, both layouts, what is missing."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkd_cli.core.errors import UserError
from tests.data.sources.reading import rows, source

NAMES = ["airplane", "automobile", "bird"]


def cifar10(folder: Path) -> np.ndarray:
    """Five files of two pictures and a test file of three, as the authors wrote them; the training pictures."""
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    draw = np.random.default_rng(0)
    trained = []
    for name, count in [*((f"data_batch_{number}", 2) for number in range(1, 6)), ("test_batch", 3)]:
        pixels = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(count, -1), "labels": [*range(count)]}
        (place / name).write_bytes(pickle.dumps(batch, protocol=2))
        trained += [pixels] if name != "test_batch" else []
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, protocol=2))
    return np.concatenate(trained)


def test_cifar10_whole_and_in_ranges(tmp_path: Path) -> None:
    pixels = cifar10(tmp_path)
    found = source("cifar10", images=tmp_path)
    whole = rows(found, "images")
    assert whole == rows(found, "images", step=3) and [row["label"] for row in whole] == [0, 1] * 5
    assert whole[3]["image_id"] == "train-00003" and whole[3]["source"] == "data_batch_2/1"
    for row, picture in zip(whole, pixels, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]))), picture)
    assert [row["label"] for row in rows(found, "images", "test")] == [0, 1, 2]
    assert found.tables()[0].features["label"].names == NAMES and not list(found.missing())
    assert [one.rows for one in source("cifar10", images=tmp_path / "cifar-10-batches-py", limit=4).tables()] == [4, 3]
    before = found.identity()
    (tmp_path / "cifar-10-batches-py/batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b", "c"]}))
    assert source("cifar10", images=tmp_path).identity() != before


def test_cifar100_in_binary_without_its_training_file(tmp_path: Path) -> None:
    records = np.concatenate([np.array([[7, 1], [8, 0]], np.uint8), np.full((2, 3072), 9, np.uint8)], axis=1)
    (tmp_path / "test.bin").write_bytes(records.tobytes())
    (tmp_path / "fine_label_names.txt").write_text("apple\nbear\n")
    found = source("cifar100", images=tmp_path)
    assert [one.split for one in found.tables()] == ["test"]
    assert [row["label"] for row in rows(found, "images", "test")] == [1, 0]
    with pytest.raises(UserError, match="holds none of cifar10's files: name the folder cifar-10-batches-py or"):
        source("cifar10", images=tmp_path)
