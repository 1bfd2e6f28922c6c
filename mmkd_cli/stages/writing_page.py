"""The page of written texts: pictures with their captions or answers, beside what people say where data hold it; of
walks maps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkd_cli.benches.text_page import Said, Stored, drawn, section
from mmkd_cli.core.contracts import Task
from mmkd_cli.data.walks import Houses
from mmkd_cli.reports.blocks import Block, Heading, Paragraph
from mmkd_cli.reports.page import write_page
from mmkd_cli.reports.plots import map_figure

if TYPE_CHECKING:
    from mmkd_cli.stages.writing_inputs import Writing


def write_page_of(folder: Path, opened: Writing, task: Task, config: Any) -> None:
    """report.html of a folder whose predictions.jsonl is there."""
    with open(folder / "predictions.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    shown = drawn(range(len(lines)), config.shown, config.seed)
    tables: Any = opened.tables
    if task.table == "instructions":
        write_page(folder / "report.html", f"{config.task.name}: {opened.label}", _maps(tables, lines, shown))
        return
    people: dict[Any, list[tuple[str, str]]] = {}
    if task.table == "images":
        people = _captions(tables, [lines[place]["image_row"] for place in shown])
    elif task.table == "questions" and not task.files():
        people = _answers(tables, {lines[place]["id"] for place in shown})

    def said(place: int) -> Said:
        line = lines[place]
        true = people.get(line["image_row"] if task.table == "images" else line["id"], [])
        return Said(line["id"], line["asked"], line["text"], true, None, "")

    pictures = heat = None
    if task.sees:
        pictures = Stored(tables["images"], [[line["image_row"], *line.get("more_rows", ())] for line in lines])
        heat = pictures.heated(opened.heat, lambda place: lines[place]["asked"])
    blocks = section("Texts", shown, len(lines), said, pictures, heat)
    write_page(folder / "report.html", f"{config.task.name}: {opened.label}", blocks)


def _maps(tables: Any, lines: list[dict[str, Any]], shown: list[int]) -> list[Block]:
    """Walks seen from above, beside the paths that were meant where the data have them."""
    houses = Houses.of([tables["viewpoints"]])
    position = np.array(tables["viewpoints"].select_columns("position")[:]["position"])[:, :2]
    own = zip(houses.scans.tolist(), houses.names.tolist(), strict=True)
    row = {f"{scan}_{name}": place for place, (scan, name) in enumerate(own)}
    said = tables["instructions"].select_columns(["instruction_id", "scan", "path"])
    meant = dict(zip(said[:]["instruction_id"], zip(said[:]["scan"], said[:]["path"], strict=True), strict=True))
    blocks: list[Block] = [Heading("Walks"), Paragraph(f"{len(shown)} of {len(lines):,} walks, drawn at random.")]
    for place in shown:
        line = lines[place]
        scan, path = meant[line["id"]]
        walked = [name for name, *_ in json.loads(line["text"])]
        ways = {"walked": walked} if len(path) < 2 else {"the instruction's path": path, "walked": walked}
        same = np.flatnonzero(houses.house == houses.house[row[f"{scan}_{walked[0]}"]])
        ends = [(one, other) for one in same for other in houses.neighbours[one] if one < other]
        points = {name: position[[row[f"{scan}_{one}"] for one in way]] for name, way in ways.items()}
        blocks += [
            Paragraph(line["asked"].strip()),
            map_figure([position[list(two)] for two in ends], points, line["id"]),
        ]
    return blocks


def _captions(tables: Any, image_rows: list[int]) -> dict[Any, list[tuple[str, str]]]:
    """Row of a picture -> what people say of it."""
    if "texts" not in tables:
        return {}
    owners = np.asarray(tables["texts"].with_format("numpy")["image_row"][:])
    texts = tables["texts"].select_columns("text")
    return {row: [(text, "reference") for text in texts[np.flatnonzero(owners == row).tolist()]["text"]]
            for row in image_rows}  # fmt: skip


def _answers(tables: Any, ids: set[str]) -> dict[Any, list[tuple[str, str]]]:
    """question_id -> what people answered, the commonest first."""
    table = tables["questions"]
    if "answers" not in table.column_names:
        return {}
    names = table.select_columns("question_id")[:]["question_id"]
    found = {}
    for row in (row for row, one in enumerate(names) if one in ids):
        answers = table[row]["answers"]
        found[names[row]] = [(text, f"{n} of {len(answers)} people") for text, n in Counter(answers).most_common()]
    return found
