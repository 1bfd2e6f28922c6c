"""The demo's page: pictures with the caption and the answers that were written about them, beside what is true."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmkd_cli.data.pictures import decode
from mmkd_cli.data.prepared import PreparedData
from mmkd_cli.reports.blocks import Block, Card, Heading, Paragraph, Query, thumbnail
from mmkd_cli.reports.page import write_page
from mmkd_cli.reports.result import score_table

SHOWN = 12


def write_demo_page(
    path: Path, data: PreparedData, split: str, results: Mapping[str, Path], titles: Mapping[str, str]
) -> None:
    """results: folders of results as they were scored, `captions` and `answers` among them, which are shown with
    pictures of the data. titles: what each shows."""
    tables: Any = data.tables(split)
    blocks: list[Block] = []
    for name, folder in results.items():
        blocks += [
            Heading(titles[name]),
            score_table(json.loads((folder / "scores.json").read_text(encoding="utf-8"))),
        ]
    said = {line["id"]: line["caption"] for line in _lines(results["captions"])}
    answered = {line["id"]: line for line in _lines(results["answers"])}
    questions = tables["questions"].to_dict()
    names = tables["images"]["image_id"]
    shown = np.random.default_rng(0).permutation(len(names))[:SHOWN].tolist()
    blocks += [
        Heading("What was written"),
        Paragraph(f"{len(shown)} of {len(names):,} pictures, drawn at random. The model that writes has read texts and "
                  "was taught to see by captions; nobody taught it to answer about pictures."),
    ]  # fmt: skip
    for row in shown:
        picture = decode(tables["images"].with_format("arrow")[row]["image"][0]["bytes"].as_py())
        cards = [Card(None, said[names[row]], None, "caption, as written")]
        for place in np.flatnonzero(np.equal(questions["image_row"], row)).tolist():
            line = answered[questions["question_id"][place]]
            people = ", ".join(f"{text} ({n})" for text, n in Counter(questions["answers"][place]).most_common())
            cards.append(Card(None, f"{line['question']} {line['answer']}", line["accuracy"] > 0, f"people: {people}"))
        blocks.append(Query(Card(thumbnail(picture), "", None, names[row]), cards))
    write_page(path, "mmkd demo", blocks)


def _lines(folder: Path) -> list[dict[str, Any]]:
    with open(folder / "predictions.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
