"""Pictures with captions, in whatever they come: a table of paths, tar shards, a `datasets` folder or hub id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.columns import SUFFIXES
from mmkd_cli.data.sources.pair_datasets import PairDatasets
from mmkd_cli.data.sources.pair_shards import PairShards, shards_of
from mmkd_cli.data.sources.pair_tables import PairTable


class ImageTextConfig(Config):
    """Keys of this source."""

    name: str = key("image-text", "the source")
    annotations: str = key(
        description="CSV, TSV or JSONL; a tar shard or a folder of them; a datasets folder or hub id", identity=False
    )
    images: str | None = key(None, "folder that relative paths start from (default: the table's own)", identity=False)
    path_column: str = key("path", "column of a table: the picture's path", source="[U]")
    caption_column: str = key("caption", "column of a table or of datasets (a text, or a list of texts)", source="[U]")
    split_column: str = key("split", "column of a table; without it all rows are train", source="[U]")
    image_column: str = key("image", "column of datasets: the picture", source="[U]")
    limit: int = key(0, "only the first pictures of each split; 0: all", source="[U]", unit="pictures", ge=0)


class ImageText:
    """The reader that fits what --annotations names (`core.contracts.Source`)."""

    Config = ImageTextConfig

    def __init__(self, config: ImageTextConfig) -> None:
        path = Path(config.annotations).expanduser()
        self._reader: PairTable | PairShards | PairDatasets
        if path.is_file() and path.suffix in SUFFIXES:
            self._reader = PairTable(config, path)
        elif shards := shards_of(path):
            self._reader = PairShards(config, shards)
        elif path.suffix in (*SUFFIXES, ".tar") or path.is_file():
            what = "is no file" if not path.is_file() else f"is none of {', '.join(SUFFIXES)}, .tar"
            raise UserError(
                f"--annotations {config.annotations!r} {what}: name a table of pairs, tar shards, or datasets"
            )
        else:
            self._reader = PairDatasets(config)

    def missing(self) -> Iterator[str]:
        """Pictures that are named and not there."""
        return self._reader.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """What the pairs are; no paths."""
        return self._reader.identity(memory)

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `texts` of each split."""
        return self._reader.tables()
