"""GLUE (Wang et al. 2019): what a model, or a result file, says of texts and pairs of texts with labels.

The published test labels are not; scores are of the development set, `val` of prepared data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmkd_cli.benches import text_page
from mmkd_cli.benches.glue_files import read_predictions
from mmkd_cli.benches.text_page import Said
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.labels import COLUMN, SECOND, has_seconds, read_labels
from mmkd_cli.metrics.bootstrap import percentile_interval, resampled_counts
from mmkd_cli.metrics.glue import TASKS, glue_scores
from mmkd_cli.reports.blocks import Block, Heading, Table

_PROBED = 2
"""Batches of which a dry run estimates the time of all."""
_PLAIN = ("sst2", "stsb")
"""Tasks whose metrics any classes, any numbers have."""


class GlueConfig(Config):
    """Keys of the bench `glue`."""

    name: str = key("glue", "the bench")
    task: Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"] | None = key(
        None, "whose metrics (None: the data's own task; of other data accuracy, of numbers Pearson's and Spearman's)",
        source="[U] the data say",
    )  # fmt: skip
    bootstrap: int = key(1000, "resamples of the 95 % intervals; 0: none", source="[U] usual", ge=0)
    seed: int = key(0, "of the resamples and of the items shown", source="[U]", ge=0)
    shown: int = key(12, "items of each sort on the page: wrong and right", source="[U]", identity=False, ge=0)


class Glue:
    """`accuracy`, `f1`, `matthews`, `pearson`, `spearman`, as the task has them: percent (`core.contracts.Bench`)."""

    Config: ClassVar[type] = GlueConfig
    default_split: ClassVar[str] = "val"
    needs_data: ClassVar[bool] = True
    matching: ClassVar[bool] = False
    asks: ClassVar[str] = "classify"
    reads_predictions: ClassVar[bool] = True
    tables: ClassVar[Sequence[str]] = ("texts",)

    def __init__(self, config: GlueConfig) -> None:
        self.config = config

    def files(self) -> Mapping[str, str]:
        return {}

    # ------------------------------------------------------------------------------------------ what is scored
    def _items(self, given: BenchInput) -> tuple[Any, list[str] | None, NDArray[np.float32], NDArray[np.int64]]:
        """Table, names of its labels, values [rows of it], and the rows [n] that are scored."""
        if given.data is None or given.split is None or (given.model is None and given.predictions is None):
            raise UserError("there is nothing to score: give labelled texts by --data, and --model or --predictions")
        table, where = given.data.table("texts", given.split), f"{given.data.artifact.label}, {given.split}"
        if COLUMN not in table.column_names:
            raise UserError(f"{where}: its texts have no column {COLUMN!r}: name data with labels by --data")
        known = None if given.model is None else _labels_of(given.model)
        names, values = read_labels(table, where, known if _own_names(known) else None)
        usable = np.isfinite(values)
        usable[given.data.rejected(given.split, "texts")] = False
        if given.model is not None and names is not None:
            _require_same(known, names, where)
        elif known is not None:
            raise UserError(f"{where}: labels are numbers, the model tells classes apart ({', '.join(known)})")
        if not usable.any():
            raise UserError(f"{where}: no text has a label (a test split's are not published): choose another --split")
        return table, names, values, np.flatnonzero(usable)

    def _task(self, given: BenchInput, names: Sequence[str] | None) -> str:
        source = given.data.artifact.plan["config"].get("source") or {}
        task = self.config.task or (source.get("task") if source.get("name") == "glue" else None)
        task = task if task in TASKS else _PLAIN[names is None]
        if (task == "stsb") != (names is None):
            raise UserError(f"task {task!r} is of {'numbers' if task == 'stsb' else 'classes'}, the labels are not")
        return str(task)

    # ------------------------------------------------------------------------------------------ scoring
    def estimate(self, given: BenchInput) -> tuple[int, float]:
        table, names, _, rows = self._items(given)
        if given.predictions is not None:
            return len(_predicted(given.predictions, table, rows, names)), 0.0
        probed = rows[: _PROBED * given.batch_size]
        began = time.perf_counter()
        list(_said(given, table, probed, names))
        return len(rows), (time.perf_counter() - began) / len(probed) * len(rows)

    def run(self, given: BenchInput) -> Scores:
        table, names, values, rows = self._items(given)
        task, true = self._task(given, names), values[rows].astype(np.float64)
        if given.predictions is not None:
            said = _predicted(given.predictions, table, rows, names)
        else:
            said = np.concatenate([*_said(given, table, rows, names)])
        found = Scores(
            metrics=glue_scores(task, said, true), counts={"items": len(rows), "skipped": len(table) - len(rows)},
        )  # fmt: skip
        if names is not None:
            found.by = {
                "always the commonest": glue_scores(
                    task, np.full_like(true, np.bincount(true.astype(int)).argmax()), true
                )
            }
        if given.metrics_only:
            return found
        if self.config.bootstrap:
            drawn = [
                glue_scores(task, np.repeat(said, times), np.repeat(true, times))
                for counts in resampled_counts(len(rows), self.config.bootstrap, self.config.seed) for times in counts
            ]  # fmt: skip
            found.intervals = {n: percentile_interval(np.array([one[n] for one in drawn])) for n in found.metrics}
        found.items = _lines(table, rows, said, true, names)
        found.page = self._page(table, rows, said, true, names)
        return found

    def _page(
        self, table: Any, rows: NDArray[np.int64], said: NDArray[np.float64], true: NDArray[np.float64],
        names: Sequence[str] | None,
    ) -> list[Block]:  # fmt: skip
        def item(place: int) -> Said:
            row = table[int(rows[place])]
            text = " / ".join(part for part in (row["text"], row.get(SECOND)) if part)
            right = bool(said[place] == true[place]) if names is not None else None
            return Said(
                row["text_id"], text, _name(said[place], names), [(_name(true[place], names), "label")], right, ""
            )

        places = np.arange(len(rows))
        if names is None:
            shown = text_page.drawn(places.tolist(), self.config.shown, self.config.seed)
            return text_page.section("Texts", shown, len(rows), item, None)
        table_ = [[name, *(int(((true == n) & (said == m)).sum()) for m in range(len(names)))]
                  for n, name in enumerate(names)]  # fmt: skip
        blocks: list[Block] = [Heading("Labels and answers"), Table(["label", *names], table_, "Rows: labels.")]
        for title, chosen in (("Wrong", places[said != true]), ("Right", places[said == true])):
            shown = text_page.drawn(chosen.tolist(), self.config.shown, self.config.seed)
            blocks += text_page.section(title, shown, len(chosen), item, None)
        return blocks


def _said(
    given: BenchInput, table: Any, rows: NDArray[np.int64], names: Sequence[str] | None
) -> Iterator[NDArray[np.float64]]:
    """What the model says of the rows, a batch at a time: numbers of `names`, or numbers."""
    model: Any = given.model
    known, pairs = model.labels, has_seconds(table)
    to_own = np.array([names.index(one) for one in known]) if names is not None and _own_names(known) else None
    texts = table.select_columns(["text", *([SECOND] if pairs else [])]).with_format("arrow")
    kind = torch.device(given.device).type
    for first in range(0, len(rows), given.batch_size):
        found = texts[rows[first : first + given.batch_size].tolist()]
        batch = model.tokenize(found.column("text").to_pylist(), found.column(SECOND).to_pylist() if pairs else None)
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=given.precision == "bfloat16"):
            logits = model.classify({name: value.to(given.device) for name, value in batch.items()})
        if names is None:
            yield logits[:, 0].double().cpu().numpy()
            continue
        best = logits.argmax(dim=1).cpu().numpy()
        yield (to_own[best] if to_own is not None else best).astype(np.float64)


def _predicted(
    path: Path, table: Any, rows: NDArray[np.int64], names: Sequence[str] | None
) -> NDArray[np.float64]:  # fmt: skip
    """What a result file says of the rows; what it says of rows without labels is passed over."""
    ids: list[str] = table.select_columns("text_id")[:]["text_id"]
    scored = [ids[row] for row in rows]
    return read_predictions(path, scored, names, frozenset(ids) - {*scored})


def _lines(
    table: Any, rows: NDArray[np.int64], said: NDArray[np.float64], true: NDArray[np.float64],
    names: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A line a text."""
    for place, row in enumerate(rows.tolist()):
        found = table[row]
        texts = {name: found[name] for name in ("text", SECOND) if found.get(name)}
        right = {"right": {"accuracy": bool(said[place] == true[place])}} if names is not None else {}
        yield {"id": found["text_id"], **texts, "label": _plain(true[place], names), "said": _plain(said[place], names),
               **right}  # fmt: skip


def _plain(value: float, names: Sequence[str] | None) -> str | float:
    return float(value) if names is None else names[int(value)]


def _name(value: float, names: Sequence[str] | None) -> str:
    return f"{value:.3f}" if names is None else names[int(value)]


def _labels_of(model: Any) -> list[str] | None:
    found: list[str] | None = model.labels
    return found


def _own_names(known: Sequence[str] | None) -> bool:
    """Whether a model names its classes; LABEL_0 and so on is what transformers writes where nobody did."""
    return known is not None and not all(name == f"LABEL_{number}" for number, name in enumerate(known))


def _require_same(known: Sequence[str] | None, names: Sequence[str], where: str) -> None:
    same = sorted(known or ()) == sorted(names) if _own_names(known) else len(known or ()) == len(names)
    if not same:
        raise UserError(
            f"{where}: labels are {', '.join(names)}, the model says {', '.join(known) if known else 'numbers'}: "
            "name a model that was trained for these"
        )
