"""Scripts of examples on real photos run in a tiny form: a few photos of the official files, a step or two."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.warm import Warm

FEW = "--batch-size 4 --set train.max_steps=2"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def few(real_data: Path, tmp_path: Path) -> Path:
    """The folder of real data with 8 photos for training and 4 of val and test each, and two rooms of each list."""
    made = tmp_path / "data"
    (made / "flickr8k" / "images").mkdir(parents=True)
    document = json.loads((real_data / "flickr8k" / "dataset_flickr8k.json").read_text())
    left, kept = {"train": 8, "val": 4, "test": 4}, []
    for image in document["images"]:
        if left.get(image["split"], 0) and (real_data / "flickr8k" / "images" / image["filename"]).is_file():
            left[image["split"]] -= 1
            kept.append(image)
            (made / "flickr8k" / "images" / image["filename"]).symlink_to(
                real_data / "flickr8k" / "images" / image["filename"]
            )
    (made / "flickr8k" / "dataset_flickr8k.json").write_text(json.dumps({**document, "images": kept}))
    (made / "weights").symlink_to(real_data / "weights")
    return made


def run(few: Path, root: Path, warm: Warm, script: str, **given: str) -> list[list[str]]:
    """The rows of the tables that the script prints."""
    warm.commands(root / "bin")
    env = {
        **os.environ, "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(EXAMPLES.parent),
        "MMKD_ROOT": str(root / "work"), "MMKD_TEST_DATA": str(few), "SEEDS": "0", **given,
    }  # fmt: skip
    done = subprocess.run(["sh", str(EXAMPLES / script)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]


def test_the_six_losses(few: Path, tmp_path: Path, warm: Warm) -> None:
    rows = run(few, tmp_path, warm, "mm-d2v2/flickr8k-losses.sh", BANK="4", ARMS="mse itc-bank", MORE=FEW)
    for title in ("MSE (1 seed)", "ITC + bank of its own vectors (1 seed)"):
        assert len([row for row in rows if row[0] == title and all(row[1:])]) == 2, rows


def test_daquar(few: Path, real_data: Path, tmp_path: Path, warm: Warm) -> None:
    lines = (real_data / "daquar" / "all_qa_pairs.txt").read_text().splitlines()
    asked: dict[str, list[str]] = {}
    for question, answer in zip(lines[::2], lines[1::2], strict=True):
        asked.setdefault(question.rstrip(" ?").split()[-1], []).extend([question, answer])
    folder, kept = few / "daquar", []
    (folder / "images").mkdir(parents=True)
    for part in ("train", "test"):
        own = [name for name in (real_data / "daquar" / f"{part}_images_list.txt").read_text().split()
               if name in asked][:2]  # fmt: skip
        (folder / f"{part}_images_list.txt").write_text("\n".join(own) + "\n")
        for name in own:
            (photo,) = (real_data / "daquar" / "images").glob(f"{name}.*")
            (folder / "images" / photo.name).symlink_to(photo)
            kept += asked[name]
    (folder / "all_qa_pairs.txt").write_text("\n".join(kept) + "\n")
    rows = run(few, tmp_path, warm, "clip-vil/daquar.sh", MORE=FEW)
    assert {row[0] for row in rows if len(row) == 2 and row[1]} > {"question and cells", "question alone", "difference"}
