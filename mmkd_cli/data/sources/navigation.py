"""Instructions for walks through houses, with the houses' graphs: Room-to-Room (Anderson et al. 2018) and
Room-across-Room (Ku et al. 2020); and, where there are any, 36 pictures of each viewpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.connectivity import House, graph_file, read_house
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.navigation_files import Instruction, read_r2r, read_rxr
from mmkd_cli.data.sources.picture_files import PictureFiles, folder_of, listing, locate_any
from mmkd_cli.data.tables import instruction_features, rows_of, viewpoint_features
from mmkd_cli.data.walks import VIEWS

_SPLIT = re.compile(r"(?:^|_)(train|val_seen|val_unseen|val|test)(?=[_.]|$)")


class NavigationConfig(Config):
    """Keys of these sources."""

    name: str = key("", "the source")
    annotations: str = key(description="an official file, or a folder of them", identity=False)
    connectivity: str = key(description="folder of SCAN_connectivity.json, the houses' graphs", identity=False)
    images: str | None = key(
        None, "folder of views, SCAN/VIEWPOINT/00.jpg to 35.jpg (or .png): 12 headings at -30 degrees, at 0, at 30",
        source="[U] a teacher's features are cached without pictures", identity=False,
    )  # fmt: skip
    limit: int = key(0, "only the first instructions of each split; 0: all", source="[U]", unit="rows", ge=0)


class R2rConfig(NavigationConfig):
    name: str = key("r2r", "the source")


class RxrConfig(NavigationConfig):
    name: str = key("rxr", "the source")


class R2r:
    """`instructions` and `viewpoints` of each split, and with pictures `images` (`core.contracts.Source`).

    `viewpoints` are all those of the split's houses, in the order in which the houses are first named.
    """

    Config: ClassVar[type] = R2rConfig
    pattern: ClassVar[str] = "R2R_*.json"
    """Of the files in a folder."""
    read: ClassVar[Callable[[Path], list[Instruction]]] = staticmethod(read_r2r)

    def __init__(self, config: NavigationConfig) -> None:
        self.config = config
        self._graphs = Path(config.connectivity).expanduser()
        if not self._graphs.is_dir():
            raise UserError(f"--connectivity {config.connectivity!r} is no folder: name the one of the houses' graphs")
        self._items: dict[str, list[Instruction]] = {}
        for path in self._files:
            split = self._split_of(path)
            if split in self._items:
                raise UserError(f"file {path}: another file has the instructions of {split!r}, too: name one of them")
            self._items[split] = type(self).read(path)[: config.limit or None]
        scans = dict.fromkeys(item.scan for items in self._items.values() for item in items)
        self._houses = {scan: read_house(self._graphs, scan) for scan in scans
                        if graph_file(self._graphs, scan).is_file()}  # fmt: skip
        self._absent = [scan for scan in scans if scan not in self._houses]

    @cached_property
    def _files(self) -> list[Path]:
        return fields.official_files(self.config.annotations, self.pattern)

    @staticmethod
    def _split_of(path: Path) -> str:
        if not (named := _SPLIT.search(path.name)):
            raise UserError(f"file {path}: its name says no split (train, val_seen, val_unseen, test): rename it")
        return named[1]

    def _of(self, split: str) -> list[House]:
        """Houses of a split's instructions."""
        return [self._houses[scan] for scan in dict.fromkeys(item.scan for item in self._items[split])
                if scan in self._houses]  # fmt: skip

    @cached_property
    def _pictures(self) -> list[PictureFiles]:
        if self.config.images is None:
            return []
        folder, found = folder_of(self.config.images, "--images"), []
        for split in self._items:
            views = [(house.scan, name, view) for house in self._of(split) for name in house.viewpoints
                     for view in range(VIEWS)]  # fmt: skip
            for _, name, _ in views[::VIEWS]:
                fields.inner_path(name, f"source {self.config.name}, viewpoint")
            ids = [f"{scan}_{name}_{view:02d}" for scan, name, view in views]
            files = [[f"{scan}/{name}/{view:02d}{end}" for end in (".jpg", ".png")] for scan, name, view in views]
            found.append(locate_any(split, ids, files, folder))
        return found

    def missing(self) -> Iterator[str]:
        """Graphs of houses that are named, and pictures of their viewpoints."""
        for scan in self._absent:
            yield str(graph_file(self._graphs, scan))
        for pictures in self._pictures:
            yield from pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of instructions and graphs; listing of the pictures."""
        graphs = {scan: sha256_file(graph_file(self._graphs, scan), memory) for scan in self._houses}
        return {"annotations": [sha256_file(path, memory) for path in self._files], "graphs": graphs,
                **({"images": listing(self._pictures)} if self._pictures else {})}  # fmt: skip

    def tables(self) -> Sequence[SourceTable]:
        """`instructions`, `viewpoints` and `images` of each split."""
        made = [table for split in self._items for table in (self._instructions(split), self._viewpoints(split))]
        return [*made, *(pictures.table() for pictures in self._pictures)]

    def _instructions(self, split: str) -> SourceTable:
        items = self._items[split]

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for item in items[first:last]:
                row = {"instruction_id": item.id, "instruction": item.text, "language": item.language,
                       "scan": item.scan, "path_id": item.path_id, "path": list(item.path),
                       "heading": item.heading or 0.0}  # fmt: skip
                problem = self._problem(item)
                yield {**row, "problem": problem} if problem else row

        return SourceTable("instructions", split, len(items), instruction_features(), read)

    def _problem(self, item: Instruction) -> str:
        """Why an instruction can't be walked, or nothing."""
        if not item.text.strip():
            return "the instruction is empty"
        if item.heading is None or not item.path:
            return f"it says no {'heading' if item.path else 'viewpoint to start from'}"
        house = self._houses.get(item.scan)
        if house is None:
            return f"scan {item.scan} has no graph"
        if odd := next((name for name in item.path if name not in house.index), None):
            return f"viewpoint {odd!r} is none of scan {item.scan}'s graph"
        place = house.wrong_move([house.index[name] for name in item.path])
        if place is not None:
            return f"no edge of scan {item.scan} leads from {item.path[place]!r} to {item.path[place + 1]!r}"
        return ""

    def _viewpoints(self, split: str) -> SourceTable:
        import pyarrow as pa

        columns: dict[str, list[Any]] = {name: [] for name in viewpoint_features()}
        for house in self._of(split):
            first = len(columns["viewpoint"])
            for node, name in enumerate(house.viewpoints):
                row = first + node
                image_row = row * VIEWS if self.config.images is not None else -1
                values = (f"{house.scan}_{name}", house.scan, name, house.positions[node].tolist(),
                          [first + other for other in sorted(house.graph[node])], image_row)  # fmt: skip
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
        schema = viewpoint_features().arrow_schema
        table = pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})
        return SourceTable("viewpoints", split, table.num_rows, viewpoint_features(),
                           lambda first, last: rows_of(table, first, last))  # fmt: skip


class Rxr(R2r):
    """RxR's guide annotations; `language` is said."""

    Config = RxrConfig
    pattern = "rxr_*guide*.jsonl*"
    read = staticmethod(read_rxr)
