"""Prepared data, a teacher small enough for tests, and the stage on them in this or in a process of its own.

`delay_s` of the teacher makes a forward last, so that a kill can land inside one.
"""

from __future__ import annotations

import io
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmkd_cli.core import artifacts, config, registry
from mmkd_cli.core.artifacts import FileRecord, Plan
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec, StageContext
from mmkd_cli.core.errors import MmkdError
from mmkd_cli.data.pictures import Transform
from mmkd_cli.stages import cache_teacher

ROWS = {"train": 37, "val": 11}
REJECTED = {"train": [5, 20], "val": []}
CAPTIONS = 2


def make_data(root: Path, name: str = "photos", seed: int = 0, rejected: bool = True) -> None:
    """Pictures of noise and two captions each; rows of REJECTED are null."""
    rng = np.random.default_rng(seed)
    folder = root / "data" / name
    _, artifact = artifacts.begin(folder, Plan("data", "prepare-data", name, {"seed": seed, "rejected": rejected}, {}))
    images, texts, refused = {}, {}, []
    for split, rows in ROWS.items():
        gone = REJECTED[split] if rejected else []
        pictures = [None if row in gone else {"bytes": _jpeg(rng), "path": None} for row in range(rows)]
        images[split] = datasets.Dataset.from_dict(
            {"image_id": [f"{split}{row}" for row in range(rows)], "image": pictures},
            features=datasets.Features({"image_id": datasets.Value("string"), "image": datasets.Image(decode=False)}),
        )
        owners = np.repeat(np.arange(rows), CAPTIONS)
        words = ["red", "blue", "dog", "cat", "on", "grass"]
        captions = [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in owners]
        texts[split] = datasets.Dataset.from_dict(
            {"text_id": [f"{split}t{i}" for i in range(len(owners))], "text": captions, "image_row": owners.tolist()}
        )
        refused += [{"split": split, "table": "images", "row": row, "id": f"{split}{row}", "reason": "not a picture"}
                    for row in gone]  # fmt: skip
    datasets.DatasetDict(images).save_to_disk(folder / "images")
    datasets.DatasetDict(texts).save_to_disk(folder / "texts")
    files = {path.relative_to(folder).as_posix(): FileRecord.of(path) for path in folder.rglob("*.arrow")}
    tables = {split: {"images": rows, "texts": rows * CAPTIONS} for split, rows in ROWS.items()}
    artifacts.finish(artifact, content={"tables": tables}, files=files,
                     hashed={file: record.xxh3_128 for file, record in files.items()}, rejected=refused,
                     started=time.time())  # fmt: skip


def _jpeg(rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


class TinyConfig(Config):
    """Keys of the tiny teacher."""

    name: str = key("tiny", "the teacher")
    seed: int = key(0, "of its weights")
    delay_s: float = key(0.0, "a forward lasts at least", identity=False)


class TinyTeacher:
    """`image_cls [6]`, a random map of the pixels; `words`, a vector a token, ragged; `wide`, only when named."""

    Config: ClassVar[type] = TinyConfig
    tokenize_length = 6

    def __init__(self, config: TinyConfig) -> None:
        self.config = config
        self.picture_transform = Transform(size=(8, 8), resize_size=8)
        self.loads = 0

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        return {"seed": self.config.seed, "transform": self.picture_transform.identity()}

    def signals(self) -> dict[str, SignalSpec]:
        return {
            "image_cls": SignalSpec("image_cls", "images", (6,)),
            "words": SignalSpec("words", "texts", (0, 3), ragged=True),
            "wide": SignalSpec("wide", "images", (2, 600), default=False),
        }

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        ids = torch.zeros(len(texts), self.tokenize_length, dtype=torch.int64)
        for place, text in enumerate(texts):
            found = [sum(word.encode()) for word in text.split()]
            ids[place, : len(found)] = torch.tensor(found)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def parameters_count(self) -> int:
        return 192 * 6

    def load(self, device: str, dtype: str = "float32") -> None:
        self.loads += 1
        generator = torch.Generator().manual_seed(self.config.seed)
        self.weight = torch.randn(192, 6, generator=generator)

    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Any]:
        time.sleep(self.config.delay_s)
        said: dict[str, Any] = {}
        if "pixels" in batch:
            pixels = self.picture_transform.normalize(batch["pixels"], torch.float32)
            said["image_cls"] = pixels.flatten(1) @ self.weight + 1.0
            said["wide"] = torch.stack([said["image_cls"], -said["image_cls"]], 1).repeat(1, 1, 100)
        else:
            lengths = batch["attention_mask"].sum(1).tolist()
            said["words"] = [ids[:n, None] * torch.tensor([0.5, 1.0, 2.0]) for ids, n in
                             zip(batch["input_ids"], lengths, strict=True)]  # fmt: skip
        return {name: said[name] for name in signals}


def cache(root: Path, name: str | None = "tiny", *settings: str, **context: Any) -> dict[str, Any]:
    """Run the stage in this process; while it runs the tiny teacher has its name, as by a registry line."""
    small = config.parse_set(["teacher.name=tiny", "cache.rows_per_shard=8", "cache.batch_size=4", "cache.threads=1"])
    layers = [config.Layer("test", small), config.Layer("--set", config.parse_set(settings))]
    entry = registry.Entry(f"{TinyTeacher.__module__}:TinyTeacher", "for tests")
    with mock.patch.dict(registry.TABLES["teachers"], tiny=entry):
        resolved = config.resolve(cache_teacher.Config, layers)
        return cache_teacher.run(resolved.config, StageContext(root, name, "cpu", **context))


def work(
    root: Path, name: str, settings: Sequence[str], report: Path, rank: tuple[int, int] = (0, 1), file_bytes: int = 0
) -> None:
    """A process of its own: `report` gets the status or the error, the exit code is the command line's.

    rank: (K, N), as torchrun says it. file_bytes: no file may become larger.
    """
    os.environ.update(RANK=str(rank[0]), WORLD_SIZE=str(rank[1]))
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    try:
        report.write_text(cache(root, name, *settings)["status"])
    except MmkdError as error:
        report.write_text(str(error))
        raise SystemExit(error.exit_code) from None
