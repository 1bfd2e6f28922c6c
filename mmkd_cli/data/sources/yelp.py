"""Yelp: sentences of two sentiments with people's rewritings (Li et al. 2018), or labelled reviews.

Read as people have them: `sentiment.train.0` (negative) and `.1` (positive) with `reference.0`, `.1` (the test
sentence, a tab, the same in the other style); CSV, TSV or JSONL named as splits; `datasets` folders and hub ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import hub
from mmkd_cli.data.sources.columns import SUFFIXES, read_lines
from mmkd_cli.data.sources.fields import typed
from mmkd_cli.data.sources.text_parts import Columns, Parts, identity, label_of, table_files, texts_of

if TYPE_CHECKING:
    import datasets

STYLES = ("negative", "positive")


class YelpConfig(Config):
    """Keys of this source."""

    name: str = key("yelp", "the source")
    annotations: str = key(
        description="the folder of sentiment.train.0 and so on, a CSV, TSV or JSONL or a folder of them, datasets or a "
        "hub id", identity=False,
    )  # fmt: skip
    text_column: str = key("text", "column of the text", source="[C] datasets")
    label_column: str = key("label", "column of the sentiment: 0 or negative, 1 or positive", source="[C] datasets")
    configuration: str | None = key(None, "which of several that a hub id has", source="[U]", absent=None)
    limit: int = key(0, "only the first texts of each split; 0: all", source="[U]", unit="texts", ge=0)


class Yelp:
    """`texts` with `label` and `references` (`core.contracts.Source`)."""

    Config = YelpConfig

    def __init__(self, config: YelpConfig) -> None:
        import datasets

        self.config = config
        more = {"label": datasets.ClassLabel(names=list(STYLES)), "references": datasets.List(datasets.Value("string"))}
        self._parts = Parts(more, config.limit)
        self._files: dict[str, Any] = {}
        self._datasets: dict[str, datasets.Dataset] = {}
        place = Path(config.annotations).expanduser()
        columns = Columns({config.text_column: "text_column"}, (config.label_column, "reference", "references"), "id")
        if styles := _style_files(place):
            self._files = styles
            for split, files in styles.items():
                found = [row for file, number in files.items() for row in _sentences(file, number, place, split)]
                self._parts.add_rows(split, found, lambda row, where: _record(**row), f"{place}, split {split!r}")
        elif tables := table_files(place):
            self._files = dict(tables)
            self._parts.add_files(tables, columns, self._row)
        elif place.is_file() or place.suffix in SUFFIXES:
            raise UserError(f"--annotations {config.annotations!r} is no {', '.join(SUFFIXES)}: name such a file")
        else:
            self._datasets = hub.open_datasets(config.annotations, config.configuration)
            self._parts.add_datasets(self._datasets, columns, self._row, config.annotations)

    def _row(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        (text,) = texts_of(row, [self.config.text_column], where)
        label = label_of(row.get(self.config.label_column), STYLES, f"{where}, column {self.config.label_column!r}")
        several = row.get("references")
        if several is None:
            several = [one for one in texts_of(row, ["reference"], where) if one]
        at = f"{where}, column 'references'"
        return _record(text, label, [typed(one, str, at) for one in typed(several, list, at)])

    def missing(self) -> Iterator[str]:
        """Texts name no files."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files."""
        files = {split: list(found) if isinstance(found, dict) else found for split, found in self._files.items()}
        if "test" in files and isinstance(files["test"], list):
            beside = (_references(file.parent, number) for file, number in self._files["test"].items())
            files["test"] += [file for file in beside if file is not None]
        return identity(self.config.annotations, files, self._datasets, memory)

    def tables(self) -> Sequence[SourceTable]:
        """`texts` of each split; of the style files the negative ones first. Ids: column `id`, else the place."""
        return list(self._parts.tables.values())


def _record(text: str, label: int, references: list[str]) -> dict[str, Any]:
    row = {"text": text, "label": label, "references": references}
    return row if text.strip() else {**row, "problem": "the text is empty"}


def _style_files(place: Path) -> dict[str, dict[Path, int]]:
    """Split -> file -> style, of a folder of sentiment.SPLIT.STYLE."""
    found: dict[str, dict[Path, int]] = {}
    for file in sorted(place.glob("sentiment.*.[01]")) if place.is_dir() else ():
        found.setdefault(file.name.split(".")[1], {})[file] = int(file.name[-1])
    return found


def _references(place: Path, style: int) -> Path | None:
    file = place / f"reference.{style}"
    return file if file.is_file() else None


def _sentences(file: Path, style: int, place: Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, columns) of each line, with its references where it is of the test split and there are any."""
    lines = read_lines(file, keep_empty=True).to_pylist()
    written = _references(place, style) if split == "test" else None
    parts = [line.split("\t") for line in read_lines(written, keep_empty=True).to_pylist()] if written else []
    if written and len(parts) != len(lines):
        raise UserError(f"file {written} has {len(parts):,} lines, {file} {len(lines):,}: give the references of these")
    for number, text in enumerate(lines):
        where = f"file {file}, line {number + 1}"
        references = []
        if written:
            source, *references = [part.strip() for part in parts[number]]
            if not references:  # a file of rewritings alone
                references = [source]
            elif source != text:
                raise UserError(
                    f"file {written}, line {number + 1}: it rewrites {source!r}, {file} has {text!r} there: give the "
                    "references of these"
                )
        yield where, {"text": text, "label": style, "references": references}
