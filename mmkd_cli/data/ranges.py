"""Ranges of a table's rows: how work is cut, and how each piece is written and committed by itself.

A range is one .arrow file (an Arrow IPC stream) and, after it, its commit record: rows, bytes, hash, rejected rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkd_cli.core import paths
from mmkd_cli.core.artifacts import FileRecord
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.locks import Lock
from mmkd_cli.data.pictures import PictureError
from mmkd_cli.data.storing import PictureStore

ROWS_PER_RANGE = {"images": 1024}
"""Rows of a range by table: some seconds of decoding."""
OTHER_ROWS_PER_RANGE = 65_536
MOST_RANGES = 10_000
"""Of a table's split; more rows make longer ranges."""

ROWS_PER_RECORD_BATCH = 100
"""Fixed, since it decides the bytes of a file; what `datasets` uses for pictures."""

MOST_PICTURE_BYTES = 1 << 30


@dataclass(frozen=True)
class Range:
    """Rows [first, last) of a table's split: number `number` of `count`."""

    table: str
    split: str
    number: int
    count: int
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first

    @property
    def arrow(self) -> str:
        """Path of the file in the artifact."""
        return f"{self.table}/{self.split}/data-{self.number:05d}-of-{self.count:05d}.arrow"

    @property
    def record(self) -> str:
        """Path of the commit record in the artifact."""
        return self.arrow.removesuffix(".arrow") + ".json"

    def lock(self, artifact: Path) -> Lock:
        path = artifact / self.arrow
        return Lock(path.with_name(f".{path.stem}.lock"), f"data {artifact.name!r}, {self.arrow}")


def rows_per_range(table: str, rows: int, asked: int = 0) -> int:
    """Rows of a range: as asked, else the table's default, longer where there would be too many."""
    return asked or max(ROWS_PER_RANGE.get(table, OTHER_ROWS_PER_RANGE), -(-rows // MOST_RANGES))


def cut(table: str, split: str, rows: int, per_range: int) -> Iterator[Range]:
    """All ranges of a split, at least one (an empty split is an empty file)."""
    count = max(1, -(-rows // per_range))
    for number in range(count):
        yield Range(table, split, number, count, number * per_range, min((number + 1) * per_range, rows))


def committed(artifact: Path, part: Range) -> dict[str, Any] | None:
    """The commit record of a range whose file is there in its full size, else None."""
    if not (artifact / part.record).is_file():
        return None
    record: dict[str, Any] = paths.read_json(artifact / part.record)
    path = artifact / part.arrow
    return record if path.is_file() and path.stat().st_size == record["bytes"] else None


@dataclass(frozen=True)
class RangeWriter:
    """Writes ranges of tables. skip_bad: reject pictures and rows that can't be used, and empty captions; otherwise the
    first one is refused.

    expected: file -> XXH3-128 that a file made again must have. watch: called for each row; may end the process.
    """

    artifact: Path
    store: PictureStore
    skip_bad: bool
    expected: dict[str, str]

    def write(self, table: SourceTable, part: Range, watch: Callable[[], None]) -> None:
        """One range: the file whole under its name, then its record. Nothing is left of a range that fails."""
        import pyarrow as pa

        schema = table.features.arrow_schema
        rejected: list[dict[str, Any]] = []
        path = self.artifact / part.arrow
        paths.sweep_temporary(path.parent)
        with paths.atomic_path(path) as temporary:
            with open(temporary, "wb") as file, pa.ipc.new_stream(file, schema) as stream:
                rows: list[dict[str, Any]] = []
                for number, row in enumerate(table.read(part.first, part.last), part.first):
                    watch()
                    rows.append(self._stored(row, number, part, rejected))
                    if len(rows) == ROWS_PER_RECORD_BATCH:
                        stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                        rows = []
                if rows:
                    stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            found = FileRecord.of(temporary)
            wanted = self.expected.get(part.arrow)
            if wanted not in (None, found.xxh3_128):
                raise Refused(
                    f"data {self.artifact.name!r}: {part.arrow} made again has other bytes than those recorded: "
                    "its source or Pillow changed; `mmkd rm` it and prepare it again"
                )
        paths.write_json(self.artifact / part.record, {
            "table": part.table, "split": part.split, "first": part.first, "rows": part.rows,
            "bytes": found.bytes, "xxh3_128": found.xxh3_128, "rejected": rejected,
        })  # fmt: skip

    def _stored(self, row: dict[str, Any], number: int, part: Range, rejected: list[dict[str, Any]]) -> dict[str, Any]:
        """The row as it is written. A picture that can't be used is null; an empty caption and a row with a `problem`
        stay, rejected like it."""
        problem = row.pop("problem", "")
        is_caption = part.table == "texts" and row["image_row"] >= 0
        if is_caption and not row["text"].strip():
            problem = "the caption is empty"
        if problem:
            one = row[f"{part.table.removesuffix('s')}_id"]
            what = "caption" if is_caption else part.table.removesuffix("s")
            self._reject(f"{what} {one!r}", one, problem, number, part, rejected)
        if "image" not in row:
            return row
        try:
            picture = self.store(picture_bytes(row["image"]))
        except PictureError as error:
            self._reject(f"picture {row['source']!r}", row["image_id"], str(error), number, part, rejected)
            return {**row, "image": None, "width": 0, "height": 0}
        return {**row, "image": {"bytes": picture.data, "path": None},
                "width": picture.width, "height": picture.height}  # fmt: skip

    def _reject(
        self, what: str, row_id: str, reason: str, number: int, part: Range, rejected: list[dict[str, Any]]
    ) -> None:
        """Note a row that holds nothing; without skip_bad a UserError."""
        if not self.skip_bad:
            raise UserError(
                f"{what} ({part.split}/{part.table} row {number}, from 0) can't be used: {reason}: mend it, or say "
                "--skip-bad to reject such rows and go on"
            )
        rejected.append({"split": part.split, "table": part.table, "row": number, "id": row_id, "reason": reason})


def picture_bytes(picture: bytes | str | None) -> bytes:
    """The bytes of a picture given as such or as a file's path. PictureError if there are none, or far too many."""
    if isinstance(picture, bytes):
        return picture
    path = Path(picture or "")
    if not path.is_file():
        raise PictureError("the file is not there")
    if path.stat().st_size > MOST_PICTURE_BYTES:
        raise PictureError(f"the file has more than {MOST_PICTURE_BYTES:,} bytes")
    return path.read_bytes()
