"""A teacher of somebody else's: one file and a registry line, or an entry point, and no other edit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import registry
from mmkd_cli.stages import cache_teacher, prepare_data
from tests.conftest import Run
from tests.stages.small_chain import config_of, context, draw

MODULE = '''"""The mean colour of a picture, as a teacher."""

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SignalSpec
from mmkd_cli.data.pictures import Transform


class MeanColourConfig(Config):
    name: str = key("mean-colour", "the teacher")
    times: float = key(1.0, "multiplied by", source="[U] one")


class MeanColour:
    Config = MeanColourConfig
    tokenize = None

    def __init__(self, config):
        self.config = config
        self.picture_transform = Transform(size=(48, 48), resize="squash", resize_size=48)

    def identity(self, memory=None):
        return {"times": self.config.times, "transform": self.picture_transform.identity()}

    def signals(self):
        return {"image_cls": SignalSpec("image_cls", "images", (3,))}

    def parameters_count(self):
        return 0

    def load(self, device, dtype="float32"):
        pass

    def __call__(self, batch, signals):
        return {"image_cls": self.config.times * batch["pixels"].float().mean(dim=(2, 3))}
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module, importable, and the data `squares` under work/."""
    (tmp_path / "colour_teacher.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    draw(tmp_path / "squares", 10)
    keys = {"source__name": "flickr8k", "source__images": str(tmp_path / "squares"),
            "source__annotations": str(tmp_path / "squares" / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(tmp_path / "work", "squares"))
    yield tmp_path
    sys.modules.pop("colour_teacher", None)


def mean_colours(root: Path) -> np.ndarray:
    """Of the training pictures, by PIL and numpy."""
    import datasets

    pictures = datasets.load_from_disk(str(root / "data" / "squares" / "images"))["train"]["image"]
    return np.stack([np.asarray(picture.convert("RGB"), np.float64).mean(axis=(0, 1)) for picture in pictures])


def test_by_a_registry_line(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.Entry("colour_teacher:MeanColour", "mean colour")
    monkeypatch.setitem(registry.TABLES["teachers"], "mean-colour", entry)
    root = outside / "work"
    keys = {"data": "squares", "teacher__name": "mean-colour", "teacher__times": 2.0, "cache__dtype": "float32"}
    cache_teacher.run(config_of(cache_teacher, **keys), context(root, "colours"))
    cached = open_cache("colours", root=root)["image_cls"][:]
    np.testing.assert_allclose(cached.numpy(), 2 * mean_colours(root), rtol=1e-5)


def test_by_an_entry_point(outside: Path, mmkd: Run) -> None:
    about = outside / "colour_teacher-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-teacher\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mmkd.teachers]\nmean-colour = colour_teacher:MeanColour\n")
    env = {"PYTHONPATH": str(outside)}
    words = ("cache-teacher", "--teacher", "mean-colour", "--data", "squares", "--name", "colours", "--json",
             "--dtype", "float32")  # fmt: skip
    document = json.loads(mmkd(*words, env=env, fresh=True).stdout)
    assert document["status"] == "done" and document["rows"] == 10
    cached = open_cache("colours", root=outside / "work")["image_cls"][:]
    np.testing.assert_allclose(cached.numpy(), mean_colours(outside / "work"), rtol=1e-5)
