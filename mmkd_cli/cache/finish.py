"""The end of a cache: all commit records found, then index and manifest, once, under the artifact's lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmkd_cli.cache.index import Index, Shard
from mmkd_cli.cache.writer import committed
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.artifacts import Artifact, FileRecord

INDEX_FILE = "index.json"


def missing_shards(artifact: Artifact, index: Index) -> list[Shard]:
    """Shards that nobody has committed yet."""
    return [shard for shard in index.shards() if committed(artifact.path, shard) is None]


def finish(
    artifact: Artifact, index: Index, started: float, verify: Callable[[Artifact], Mapping[str, Any]] | None
) -> Artifact:
    """Write index.json and manifest.json, or return what another worker has written meanwhile.

    verify: called with every shard and the index in place; what it returns goes into the manifest's content.
    """
    lock = artifacts.lock(artifact.path)
    lock.acquire(block=True)
    try:
        found = artifacts.read(artifact.path)
        if found.manifest is not None:
            return found
        for split in index.rows:
            paths.sweep_temporary(artifact.path / split)
        files: dict[str, FileRecord] = {}
        for shard in index.shards():
            record = committed(artifact.path, shard)
            assert record is not None, f"{shard.file} was committed a moment ago"
            files[shard.file] = record
        hashed = {file: record.xxh3_128 for file, record in files.items()}
        paths.write_json(artifact.path / INDEX_FILE, index.to_json())
        content = summary(index, files)
        files[INDEX_FILE] = FileRecord.of(artifact.path / INDEX_FILE)
        if verify is not None:
            content["verify"] = dict(verify(artifact))
        return artifacts.finish(
            artifact, content=content, files=files, hashed=hashed, rejected=index.rejected, started=started
        )
    finally:
        lock.release()


def close_repair(artifact: Artifact, index: Index, damage: Mapping[str, str]) -> dict[str, str]:
    """After this share of the damaged files was made again: the index if it was one of them, then what is left.

    Every file of `damage` is read against its recorded hash. damage.json keeps those that are still wrong (another
    share's) and goes when there are none. Returns them with what is wrong.
    """
    lock = artifacts.lock(artifact.path)
    lock.acquire(block=True)
    try:
        if INDEX_FILE in damage:
            paths.write_json(artifact.path / INDEX_FILE, index.to_json())
        known = {name: record for name, record in artifact.files.items() if name in damage}
        whole = {name for name, record in known.items()
                 if (artifact.path / name).is_file() and FileRecord.of(artifact.path / name) == record}  # fmt: skip
        left = {name: what for name, what in damage.items() if name not in whole}
        if left:
            paths.write_json(artifact.path / "damage.json", left)
        else:
            (artifact.path / "damage.json").unlink(missing_ok=True)
        return left
    finally:
        lock.release()


def summary(index: Index, files: Mapping[str, FileRecord]) -> dict[str, Any]:
    """A cache in a few words and numbers, for people and for `mmkd ls`."""
    return {
        "rows": sum(rows for tables in index.rows.values() for rows in tables.values()),
        "bytes": sum(record.bytes for record in files.values()),
        "shards": len(files),
        "signals": {
            name: f"{'ragged ' if spec.ragged else ''}{list(spec.shape)} {spec.dtype}, {spec.table}"
            for name, spec in index.signals.items()
        },
        "splits": {split: dict(tables) for split, tables in index.rows.items()},
        "views": index.n_views,
        "rejected": len(index.rejected),
    }
