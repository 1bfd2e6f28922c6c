"""A small chain for tests of training stages: drawn pictures, and the cache of a timm model with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmkd_cli.core.config import Layer, assign, resolve
from mmkd_cli.core.contracts import StageContext
from mmkd_cli.stages import cache_teacher, distill, prepare_data

COLOURS = ("red", "green", "blue")


def draw(folder: Path, pictures: int, seed: int = 0) -> None:
    """Write JPEGs and a Karpathy JSON: four fifths train, the rest val, two captions each."""
    random = np.random.default_rng(seed)
    images = []
    for number in range(pictures):
        colour, side = int(random.integers(3)), int(random.integers(8, 40))
        pixels = np.full((48, 48, 3), 255, np.uint8)
        pixels[4 : 4 + side, 4 : 4 + side] = 0
        pixels[4 : 4 + side, 4 : 4 + side, colour] = 200
        name = f"{seed}-{number:03d}.jpg"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        size = "large" if side > 24 else "small"
        texts = [f"a {size} {COLOURS[colour]} square", f"{COLOURS[colour]} square, {size}, number {number}"]
        sentences = [{"raw": t, "tokens": t.split(), "sentid": 2 * number + i, "imgid": number}
                     for i, t in enumerate(texts)]  # fmt: skip
        split = "train" if number < pictures * 4 // 5 else "val"
        images.append({"filename": name, "imgid": number, "split": split, "sentids": [2 * number, 2 * number + 1],
                       "sentences": sentences})  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps({"dataset": "flickr8k", "images": images}))


def config_of(stage: Any, **keys: Any) -> Any:
    """A stage's configuration from dotted keys, `__` for a dot."""
    values: dict[str, Any] = {}
    for name, value in keys.items():
        assign(values, name.replace("__", "."), value)
    return resolve(stage.Config, [Layer("test", values)]).config


def context(root: Path, name: str | None = None, **more: Any) -> StageContext:
    return StageContext(root=root, name=name, device="cpu", **more)


def weights_file(folder: Path, seed: int = 0) -> Path:
    """Random weights of timm's smallest ViT."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    path = folder / f"test_vit-{seed}.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


def teacher_keys(folder: Path, seed: int = 0) -> dict[str, Any]:
    return {"teacher__name": "timm", "teacher__arch": "test_vit", "teacher__weights": str(weights_file(folder, seed))}


def make_chain(folder: Path) -> Path:
    """Data `squares` and `others`, cache `vit` of `squares`; returns the root."""
    root = make_squares(folder)
    keys = {"data": "squares", "cache__dtype": "float32", "cache__rows_per_shard": 16, "cache__threads": 1}
    cache_teacher.run(config_of(cache_teacher, **keys, **teacher_keys(folder)), context(root, "vit"))
    return root


def make_squares(folder: Path, names: Sequence[str] = ("squares", "others")) -> Path:
    """Data of these names; returns the root."""
    root = folder / "work"
    for seed, name in enumerate(names):
        draw(folder / name, 40, seed)
        keys = {"source__name": "flickr8k", "source__images": str(folder / name),
                "source__annotations": str(folder / name / "annotations.json")}  # fmt: skip
        prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(root, name))
    return root


def student_keys(**more: Any) -> dict[str, Any]:
    """A run of seconds: a text encoder from scratch, regression and InfoNCE."""
    return {"method__name": "cls-regression", "method__contrastive_weight": 1.0, "student__name": "unimodal",
            "student__text": "scratch", "student__width": 16, "student__heads": 2, "student__depth": 1,
            "student__vocabulary": 64, "student__max_tokens": 12, "student__dropout": 0.1, "train__batch_size": 8,
            "train__epochs": 2, "train__peak_lr": 0.01, **more}  # fmt: skip


def distilled(root: Path, name: str | None, **keys: Any) -> dict[str, Any]:
    """Run the stage; its document."""
    return distill.run(config_of(distill, **student_keys(**keys)), context(root, name))
