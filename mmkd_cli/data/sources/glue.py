"""GLUE (Wang et al. 2019): official folders of TSV files, or `datasets`. A test split's labels were never released."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import hub
from mmkd_cli.data.sources.columns import not_utf8
from mmkd_cli.data.sources.fields import no_column, usual_split
from mmkd_cli.data.sources.glue_tasks import COLA_COLUMNS, GLUE, SPLITS, GlueTask
from mmkd_cli.data.sources.text_parts import Columns, Parts, identity, label_of, texts_of

if TYPE_CHECKING:
    import datasets

SIMILARITY = (0.0, 5.0)
"""STS-B's labels."""


class GlueConfig(Config):
    """Keys of this source."""

    name: str = key("glue", "the source")
    task: Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"] = key(
        description="one of GLUE's nine: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli"
    )
    annotations: str = key(
        description="the task's folder of TSV files (or the one that holds CoLA, SST-2, ...), datasets or a hub id",
        identity=False,
    )
    limit: int = key(0, "only the first rows of each split; 0: all", source="[U]", unit="rows", ge=0)


class Glue:
    """`texts` with `text_b` and `label` (`core.contracts.Source`)."""

    Config = GlueConfig

    def __init__(self, config: GlueConfig) -> None:
        import datasets

        self.config, self.task = config, GLUE[config.task]
        label = datasets.ClassLabel(names=list(self.task.names)) if self.task.names else datasets.Value("float32")
        self._parts = Parts({"text_b": datasets.Value("string"), "label": label}, config.limit)
        self._files = _official(Path(config.annotations).expanduser(), self.task)
        self._datasets: dict[str, datasets.Dataset] = {}
        for split, file in self._files.items():
            self._parts.add_rows(split, _rows(file, config.task, self.task), self._official_row, f"file {file}")
        if not self._files:
            self._open_datasets()

    def _open_datasets(self) -> None:
        place = Path(self.config.annotations).expanduser() / self.config.task
        name = str(place) if place.is_dir() else self.config.annotations
        one = Path(name).expanduser().is_dir()
        self._datasets = hub.open_datasets(name, None if one else self.config.task)
        task = self.task
        needed = {task.text_datasets: "", **({task.text_b_datasets: ""} if task.text_b else {})}
        found = {SPLITS.get(split, split): part for split, part in self._datasets.items()}
        self._parts.add_datasets(found, Columns(needed, ("label",)), self._datasets_row, self.config.annotations)

    def _official_row(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        if problem := row.get("problem"):
            return {"text": "", "text_b": "", "label": self._label(None, where), "problem": problem}
        label = self._label(row.get("label"), f"{where}, column {self.task.label!r}")
        return self._row(row["text"], row["text_b"], label)

    def _datasets_row(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        names = [self.task.text_datasets, *([self.task.text_b_datasets] if self.task.text_b else [])]
        text, *other = texts_of(row, names, where)
        return self._row(text, *(other or [""]), self._label(row.get("label"), f"{where}, column 'label'"))

    def _row(self, text: str, text_b: str, label: float | None) -> dict[str, Any]:
        row = {"text": text, "text_b": text_b, "label": label}
        empty = not text.strip() or (self.task.text_b and not text_b.strip())
        return {**row, "problem": "a text is empty"} if empty else row

    def _label(self, value: Any, where: str) -> float | None:
        """A label's number; where there is none -1, of similarities None."""
        if self.task.names:
            return label_of(value, self.task.names, where)
        if value in (None, "", -1):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not SIMILARITY[0] <= number <= SIMILARITY[1]:
            raise UserError(f"{where}: a number from 0 to 5 is needed, not {value!r}")
        return number

    def missing(self) -> Iterator[str]:
        """Texts name no files."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files by split."""
        return identity(self.config.annotations, self._files, self._datasets, memory)

    def tables(self) -> Sequence[SourceTable]:
        """`texts` of each split. A text's id is its place in the split, from 0, as in official result files."""
        return list(self._parts.tables.values())


def _official(place: Path, task: GlueTask) -> dict[str, Path]:
    """Split -> TSV of the task's folder, or of the one that holds it."""
    folder = next((one for one in (place / task.folder, place) if one.is_dir() and any(one.glob("*.tsv"))), None)
    if folder is None:
        return {}
    named = {SPLITS[file.stem]: file for file in sorted(folder.glob("*.tsv")) if file.stem in SPLITS}
    if not named:
        raise UserError(f"--annotations {place}: no TSV file is named as a split ({', '.join(SPLITS)})")
    return {usual_split(split, f"file {file}"): file for split, file in named.items()}


def _rows(file: Path, name: str, task: GlueTask) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, {text, text_b, label?}) of each line; {problem} of one with too few fields or too many.

    Fields stand between tabs and are not quoted: a quotation mark is the text's own.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="\n") as lines:
            header = list(COLA_COLUMNS)
            if name != "cola" or file.stem not in ("train", "dev"):
                header = next(lines, "").rstrip("\r\n").split("\t")
            for column in (task.text, *([task.text_b] if task.text_b else [])):
                if column not in header:
                    raise no_column(f"the first line of file {file}", column, header, "")
            if task.label not in header and not file.stem.startswith("test"):
                raise no_column(f"the first line of file {file}", task.label, header, "")
            for number, line in enumerate(lines, 1):
                values = line.rstrip("\r\n").split("\t")
                where = f"file {file}, row {number}"
                if len(values) != len(header):
                    yield where, {"problem": f"row {number} of {file.name} has {len(values)} fields, not {len(header)}"}
                    continue
                row = dict(zip(header, values, strict=True))
                text_b = row[task.text_b] if task.text_b else ""
                yield where, {"text": row[task.text], "text_b": text_b, "label": row.get(task.label)}
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from None
