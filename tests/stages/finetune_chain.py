"""Small models and data that are fine-tuned in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from mmkd_cli.stages import finetune
from tests.architectures.tiny_bart import tiny_bart
from tests.stages.made_data import make_data, text_rows
from tests.stages.small_chain import config_of, context

WORDS = ("red", "blue", "green", "small", "large", "round", "dog", "cat", "hat", "sees")


def make_articles(folder: Path, name: str = "articles") -> Path:
    """Data NAME of texts with summaries, their first and last words; a tiny BART in FOLDER/bart. Returns the root."""

    def part(first: int, count: int) -> dict[str, Any]:
        texts = [" ".join(WORDS[(i * k) % 10] for k in range(1, 4 + i % 5)) for i in range(first, first + count)]
        summaries = [f"{text.split()[0]} {text.split()[-1]}" for text in texts]
        return {"texts": text_rows(count, text=texts, summary=summaries)}

    tiny_bart(folder / "bart")
    make_data(folder / "work", name, {"train": part(1, 40), "val": part(50, 10)})
    return folder / "work"


def make_labelled(folder: Path) -> Path:
    """Data `labelled` of texts that say red or not; a tiny BART in FOLDER/bart. Returns the root."""
    names = datasets.ClassLabel(names=["other", "red"])

    def part(first: int, count: int) -> dict[str, Any]:
        texts = [" ".join(WORDS[(i * k) % 10] for k in range(1, 4)) for i in range(first, first + count)]
        columns = text_rows(count, text=texts, label=["red" in text for text in texts])
        made = datasets.Dataset.from_dict({**columns, "label": [int(one) for one in columns["label"]]})
        return {"texts": made.cast_column("label", names)}

    tiny_bart(folder / "bart")
    make_data(folder / "work", "labelled", {"train": part(1, 40), "val": part(50, 10)})
    return folder / "work"


def tuning_keys(**more: Any) -> dict[str, Any]:
    """A run of seconds."""
    return {"train__batch_size": 8, "train__max_steps": 6, "train__peak_lr": 0.003, "train__warmup_steps": 0, **more}


def tuned(root: Path, task: str, name: str | None, dry_run: bool = False, **keys: Any) -> dict[str, Any]:
    """Run the stage; its document."""
    found = config_of(finetune, task__name=task, **tuning_keys(**keys))
    return finetune.run(found, context(root, name, dry_run=dry_run))
