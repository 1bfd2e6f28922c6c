"""The shipped image teacher opens in timm and says what is in a scene; its script makes the same file again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mmkd_cli import scenes

ROOT = Path(__file__).resolve().parents[2]
ASSET = ROOT / "mmkd_cli" / "assets" / "tiny-image-teacher"


@pytest.fixture(scope="module")
def teacher() -> torch.nn.Module:
    return timm.create_model(f"local-dir:{ASSET}", pretrained=True).eval()


def pooled(teacher: torch.nn.Module, rows: list[scenes.Scene]) -> np.ndarray:
    """Features [n, d] through the transform that the model's own config names."""
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=teacher), is_training=False)
    with torch.no_grad():
        pictures = torch.stack([transform(Image.fromarray(scenes.draw(row))) for row in rows])
        return teacher(pictures).double().numpy()


def test_it_is_small_and_of_its_declared_width(teacher: torch.nn.Module) -> None:
    assert (ASSET / "model.safetensors").stat().st_size < 3_000_000
    config = json.loads((ASSET / "config.json").read_text())
    assert teacher.num_features == config["num_features"]
    assert tuple(teacher.pretrained_cfg["input_size"]) == (3, 64, 64)


@pytest.mark.parametrize(("by", "least"), [("shape", 0.6), ("colour", 0.7)])
def test_a_linear_map_reads_the_first_object(teacher: torch.nn.Module, by: str, least: float) -> None:
    train = [scenes.scene(0, index, "train") for index in range(800)]
    val = [scenes.scene(0, index, "val") for index in range(200)]
    x, test = pooled(teacher, train), pooled(teacher, val)
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, test = (x - mean) / std, (test - mean) / std
    y = np.eye(8)[[scenes.class_label(row, by) for row in train]]
    weights = np.linalg.solve(x.T @ x + 30.0 * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    right = (test @ weights + y.mean(0)).argmax(1) == [scenes.class_label(row, by) for row in val]
    assert right.mean() > least


def test_the_script_makes_the_same_file_again(tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        command = [sys.executable, str(ROOT / "examples" / "tiny" / "image_teacher.py"), "--out", str(tmp_path / name)]
        command += ["--steps", "3", "--batch-size", "8", "--probe-rows", "200", "--val-rows", "200"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        assert "held-out combinations" in printed
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]
