"""The page of written texts: pictures with their captions or answers, beside what people say where data hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.benches.text_page import Said, Stored, drawn, section
from mmkd_cli.core.contracts import Task
from mmkd_cli.reports.page import write_page

if TYPE_CHECKING:
    from mmkd_cli.stages.writing_inputs import Writing


def write_page_of(folder: Path, opened: Writing, task: Task, config: Any) -> None:
    """report.html of a folder whose predictions.jsonl is there."""
    with open(folder / "predictions.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    shown = drawn(range(len(lines)), config.shown, config.seed)
    tables: Any = opened.tables
    captions = _captions(tables, [lines[place]["image_row"] for place in shown]) if task.table == "images" else {}

    def said(place: int) -> Said:
        line = lines[place]
        true = [(text, "reference") for text in captions.get(line["image_row"], [])]
        return Said(line["id"], line["asked"], line["text"], true, None, "")

    pictures = Stored(tables["images"], [line["image_row"] for line in lines]) if task.sees else None
    blocks = section("Texts", shown, len(lines), said, pictures)
    write_page(folder / "report.html", f"{config.task.name}: {opened.label}", blocks)


def _captions(tables: Any, image_rows: list[int]) -> dict[int, list[str]]:
    """Row of a picture -> what people say of it."""
    if "texts" not in tables:
        return {}
    owners = np.asarray(tables["texts"].with_format("numpy")["image_row"][:])
    texts = tables["texts"].select_columns("text")
    return {row: texts[np.flatnonzero(owners == row).tolist()]["text"] for row in image_rows}
