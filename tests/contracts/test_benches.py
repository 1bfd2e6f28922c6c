"""What every registered bench keeps to; and a bench of somebody else's, by a registry line and by an entry point."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_cli.benches.runner import open_bench
from mmkd_cli.core import registry
from mmkd_cli.core.config import Layer, describe, resolve
from mmkd_cli.core.contracts import BenchInput, Scores, StageContext
from mmkd_cli.metrics import captions
from mmkd_cli.reports.page import render
from mmkd_cli.stages import evaluate
from tests.benches import text_bench_files
from tests.benches.labelled_texts import LabelledTexts, Told
from tests.conftest import Run

MODULE = '''"""How many texts a picture has."""

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Scores
from mmkd_cli.reports.blocks import Paragraph


class CountConfig(Config):
    name: str = key("count", "the bench")
    times: int = key(1, "multiplied by", source="[U] one")


class Count:
    Config = CountConfig
    default_split = "test"
    needs_data = True

    def __init__(self, config):
        self.config = config

    def files(self):
        return {}

    def estimate(self, given):
        return 0, 0.0

    def run(self, given):
        texts, images = len(given.embeddings["text"]), len(given.embeddings["image"])
        return Scores({"texts_a_picture": self.config.times * texts / images}, {"items": images, "skipped": 0},
                      items=[{"images": images}], page=[Paragraph("Counted.")])
'''


SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "winoground": {"image": (12, 4), "text": (12, 4)},
    "aro": {"coco_order.image": (6, 4), "coco_order.text": (6, 5, 4)},
    "sugarcrepe": {"add_att.image": (6, 4), "add_att.text": (6, 2, 4)},
    "zeroshot-classification": {"image": (6, 4), "text": (7, 3, 4)},
    "image-classification": {"logits": (6, 7)},
}
"""Arrays of six items, where they are not those of retrieval."""
SKIPPED = {"gqa": 1, "snli-ve": 1, "daquar": 1}
"""Rows of the small official files that are no items."""


def embeddings(bench: str = "retrieval") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = SHAPES.get(bench, {"image": (6, 4), "text": (12, 4)})
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**arrays, "text_image": np.arange(12) // 2, "label": np.arange(6)}


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module outside the package that holds a bench; its folder is importable."""
    (tmp_path / "counting_bench.py").write_text(MODULE)
    np.savez(tmp_path / "e.npz", **embeddings())
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("counting_bench", None)


@pytest.mark.parametrize("name", sorted(registry.TABLES["benches"]))
def test_a_bench_keeps_to_its_contract(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "has_java", lambda: False)  # METEOR takes half a minute to start
    bench = open_bench(name)
    assert type(bench).Config().name == name and isinstance(type(bench).default_split, str)
    assert isinstance(bench.needs_data, bool) and bench.files() == {}  # nothing was named
    for row in describe(type(bench).Config):
        assert row.description and (row.key == "name" or row.source), row.key
    keys: dict[str, Any] = {}
    if getattr(bench, "reads_predictions", False) and not bench.needs_data:
        assert type(bench).written_by in registry.TABLES["tasks"]  # type: ignore[attr-defined]
        keys, predictions = text_bench_files.MAKERS[name](tmp_path)
        given = {"predictions": predictions}
        bench = open_bench({"name": name, **keys})
        assert bench.files().items() <= keys.items() and bench.estimate(BenchInput(**given)) == (6, 0.0)
        assert all(isinstance(said, str) for said in getattr(bench, "scorer", dict)().values())
    elif getattr(bench, "asks", "") == "classify":
        told = Told(["no", "yes"], [0, 1, 1, 0, 0, 1])
        given = {"model": told, "data": LabelledTexts([0, 1, 0, 0, 1, 1], ["no", "yes"]), "split": "val"}
        assert bench.estimate(BenchInput(**given))[0] == 6
    else:
        given = {"embeddings": embeddings(name)}
    found = bench.run(BenchInput(**given))
    assert isinstance(found, Scores) and found.metrics
    assert found.counts["items"] == 6 and found.counts["skipped"] == SKIPPED.get(name, 0)
    assert found.intervals.keys() <= found.metrics.keys()
    json.dumps(
        [found.metrics, found.intervals, found.by, found.counts, found.quoted, list(found.items)], allow_nan=False
    )
    assert "<h1>" in render(name, found.page)
    quick = open_bench({"name": name, **keys}).run(BenchInput(**given, metrics_only=True))
    assert quick.metrics == found.metrics and not quick.page and not quick.intervals


def test_a_bench_is_added_by_a_file_and_a_registry_line(counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TABLES["benches"], "count", registry.Entry("counting_bench:Count", "texts a picture"))
    values = {"bench": {"name": "count", "times": 3}, "embeddings": str(counting / "e.npz")}
    config = resolve(evaluate.Config, [Layer("test", values)]).config
    document = evaluate.run(config, StageContext(root=counting / "work", name="counted"))
    assert document["bench"] == "count" and document["metrics"] == {"texts_a_picture": 6.0}
    folder = counting / "work" / "results" / "counted"
    assert json.loads((folder / "scores.json").read_text()) == document
    assert (folder / "predictions.jsonl").read_text() == '{"images": 6}\n'
    assert "Counted." in (folder / "report.html").read_text()
    assert not (folder / "clip_benchmark.json").exists()


def test_a_bench_is_added_by_an_entry_point(counting: Path, mmkd: Run) -> None:
    about = counting / "counting_bench-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-bench\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mmkd.benches]\ncount = counting_bench:Count\n")
    env = {"PYTHONPATH": str(counting)}
    listed = mmkd("list", "benches", env=env, fresh=True).stdout
    assert "count" in listed and "from counting-bench" in listed
    document = json.loads(
        mmkd("evaluate", "--bench", "count", "--embeddings", counting / "e.npz", "--json", env=env, fresh=True).stdout
    )
    assert document["metrics"] == {"texts_a_picture": 2.0}
    said = mmkd("evaluate", "--bench", "coun", "--embeddings", counting / "e.npz", env=env, code=2, fresh=True).stderr
    assert "did you mean 'count'" in said
