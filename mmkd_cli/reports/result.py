"""A result for people: its tables, in the terminal and on its page, and the page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.reports.blocks import Block, Cell, Heading, Paragraph, Table
from mmkd_cli.reports.page import shown, write_page

_SHORT = (("image_to_text_recall", "i2t"), ("text_to_image_recall", "t2i"), ("_", " "))


def score_table(document: Mapping[str, Any]) -> Table:
    """Metric, value, interval, and what each group of `by` has of it."""
    groups = {name: values for name, values in document["by"].items() if _is_column(name, values, document)}
    intervals = document["intervals"]
    rows: list[list[Cell]] = []
    for name, value in document["metrics"].items():
        low_high = intervals.get(name)
        interval = f"{shown(float(low_high[0]))} to {shown(float(low_high[1]))}" if low_high else None
        others = [_float(values.get(name)) for values in groups.values()]
        rows.append([name, float(value), *([interval] if intervals else []), *others])
    return Table(["metric", "value", *(["95 % interval"] if intervals else []), *groups], rows, _caption(document))


def quoted_table(document: Mapping[str, Any], *, brief: bool = False) -> Table | None:
    """The model beside the papers' rows, each marked *quoted*; None where no paper's row is comparable.

    brief: without the sources, which the page and the JSON name.
    """
    quoted: Sequence[Mapping[str, Any]] = document["quoted"]
    if not quoted:
        return None
    names = [name for name in document["metrics"] if any(name in row["metrics"] for row in quoted)]
    rows: list[list[Cell]] = [[document["model"]["name"], *(_float(document["metrics"][n]) for n in names), ""]]
    for row in quoted:
        note = f"; {row['note']}" if row["note"] else ""
        source = "quoted" if brief else f"quoted: {row['source']}, {row['split']} split{note}"
        rows.append([row["model"], *(_float(row["metrics"].get(n)) for n in names), source])
    return Table(["model", *map(_short, names), ""], rows, quoted=frozenset(range(1, len(rows))))


def write_result_page(path: Path, document: Mapping[str, Any], blocks: Sequence[Block]) -> None:
    """Scores, the papers' rows, what the bench shows, and what the result stands on."""
    page: list[Block] = [
        Paragraph(_zero_shot(document["zero_shot"])),
        Heading("Scores"),
        score_table(document),
    ]
    beside = quoted_table(document)
    if beside is not None:
        page += [Heading("Beside the papers (quoted)"), beside]
    others = [(name, values) for name, values in document["by"].items() if not _is_column(name, values, document)]
    if others:
        rows: list[list[Cell]] = [[g, name, float(v)] for g, values in others for name, v in values.items()]
        page += [Heading("By group"), Table(["group", "metric", "value"], rows)]
    page += blocks
    facts: list[list[Cell]] = [[f"{kind} {name}", str(value)] for kind in ("fingerprints", "versions")
                               for name, value in document[kind].items()]  # fmt: skip
    page += [Heading("What it stands on"), Table(["what", "value"], facts)]
    write_page(path, f"{document['bench']}: {document['model']['name']}", page)


def _is_column(name: str, values: Mapping[str, float], document: Mapping[str, Any]) -> bool:
    """Whether a group has values of the result's own metrics, and so stands beside them.

    Of groups called `KIND: NAME` there may be hundreds: they have a table of their own.
    """
    return ": " not in name and bool(values.keys() & document["metrics"].keys())


def _caption(document: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{shown(value)} {name.replace('_', ' ')}" for name, value in document["counts"].items())
    split = f", {document['split']}" if document["split"] else ""
    return f"{document['bench']}{split}: {document['model']['name']} ({counts})"


def _zero_shot(said: Mapping[str, Any]) -> str:
    word = {True: "Zero-shot", False: "Not zero-shot", None: "Zero-shot or not is not known"}[said["value"]]
    return f"{word}: {said['reason']}."


def _short(name: str) -> str:
    for long, short in _SHORT:
        name = name.replace(long, short)
    return name


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
