"""Articles with summaries: XSum (Narayan et al. 2018), CNN/DailyMail (Hermann et al. 2015; See et al. 2017).

Read as people have them: the official release, `train.source` beside `train.target` (a text a line), CSV, TSV or JSONL
named as splits, `datasets` folders and hub ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_json
from mmkd_cli.data.sources import hub
from mmkd_cli.data.sources.columns import SUFFIXES, read_lines
from mmkd_cli.data.sources.summary_releases import Release, stories_release, xsum_release
from mmkd_cli.data.sources.text_parts import Columns, Parts, identity, table_files, texts_of


class XsumConfig(Config):
    """Keys of these sources."""

    name: str = key("xsum", "the source")
    annotations: str = key(
        description="the release's folder, a folder of train.source and train.target, a CSV, TSV or JSONL or a folder "
        "of them, datasets or a hub id", identity=False,
    )  # fmt: skip
    text_column: str = key("document", "column of the article", source="[C] datasets")
    summary_column: str = key("summary", "column of the summary", source="[C] datasets")
    configuration: str | None = key(None, "which of several that a hub id has", source="[U]", absent=None)
    limit: int = key(0, "only the first articles of each split; 0: all", source="[U]", unit="articles", ge=0)


class CnnDailymailConfig(XsumConfig):
    name: str = key("cnn-dailymail", "the source")
    text_column: str = key("article", "column of the article", source="[C] datasets")
    summary_column: str = key("highlights", "column of the summary", source="[C] datasets")
    configuration: str | None = key(
        "3.0.0", "which of several that a hub id has", source="[C] datasets, not anonymised"
    )


class Xsum:
    """`texts` with `summary` ("" where a split has none) (`core.contracts.Source`)."""

    Config: type = XsumConfig

    def __init__(self, config: XsumConfig) -> None:
        import datasets

        self.config = config
        self._parts = Parts({"summary": datasets.Value("string")}, config.limit)
        place = Path(config.annotations).expanduser()
        self._release = self._released(place)
        self._files: dict[str, Any] = {}
        self._datasets: dict[str, datasets.Dataset] = {}
        if self._release is not None:
            self._release.add_to(self._parts)
        elif pairs := _line_pairs(place):
            self._files = pairs
            for split, files in pairs.items():
                self._add_lines(split, *files)
        elif files := table_files(place):
            self._files = dict(files)
            self._parts.add_files(files, self._columns, self._record)
        elif place.is_file() or place.suffix in SUFFIXES:
            raise UserError(f"--annotations {config.annotations!r} is no {', '.join(SUFFIXES)}: name such a file")
        else:
            self._datasets = hub.open_datasets(config.annotations, config.configuration)
            self._parts.add_datasets(self._datasets, self._columns, self._record, config.annotations)

    @staticmethod
    def _released(place: Path) -> Release | None:
        return xsum_release(place)

    @property
    def _columns(self) -> Columns:
        config = self.config
        return Columns({config.text_column: "text_column"}, (config.summary_column,), "id")

    def _record(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        if self.config.summary_column not in row:
            return article(*texts_of(row, [self.config.text_column], where), None)
        return article(*texts_of(row, [self.config.text_column, self.config.summary_column], where))

    def _add_lines(self, split: str, source: Path, target: Path | None = None) -> None:
        texts = read_lines(source, keep_empty=True)
        summaries = read_lines(target, keep_empty=True) if target else None
        if summaries is not None and len(summaries) != len(texts):
            raise UserError(f"file {source} has {len(texts):,} lines, {target} {len(summaries):,}: a line of one is a "
                            "line of the other")  # fmt: skip

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for place in range(first, last):
                said = None if summaries is None else summaries[place].as_py()
                yield {"text_id": str(place), **article(texts[place].as_py(), said)}

        self._parts.add(split, len(texts), read, f"file {source}")

    def missing(self) -> Iterator[str]:
        """Articles that a release names and does not hold."""
        return self._release.missing() if self._release else iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files; of a release the listing of its articles."""
        if self._release is not None:
            return {"annotations": sha256_json(self._release.listing())}
        return identity(self.config.annotations, self._files, self._datasets, memory)

    def tables(self) -> Sequence[SourceTable]:
        """`texts` of each split. Ids: those of column `id`, of a release its own, else the place in the split."""
        return list(self._parts.tables.values())


class CnnDailymail(Xsum):
    Config: type = CnnDailymailConfig

    @staticmethod
    def _released(place: Path) -> Release | None:
        return stories_release(place)


def article(text: str, summary: str | None) -> dict[str, Any]:
    """A row's columns. summary: None where the split has none."""
    row = {"text": text, "summary": summary or ""}
    problem = "the article is empty" if not text.strip() else "the summary is empty" if summary == "" else ""
    return {**row, "problem": problem} if problem else row


def _line_pairs(place: Path) -> dict[str, list[Path]]:
    """Split -> its .source and, where there is one, its .target."""
    found = sorted(place.glob("*.source")) if place.is_dir() else []
    return {one.stem: [one, *([target] if (target := one.with_suffix(".target")).is_file() else [])] for one in found}
