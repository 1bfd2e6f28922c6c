"""`mmkd prepare-data`: official files to Arrow tables of pictures, texts and labels.

config -> source opened (missing files named) -> plan -> ranges of rows, each written and committed by itself ->
descriptions and manifest.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializeAsAny

from mmkd_cli.core import artifacts, console, lineage, paths, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact, FileRecord, Plan
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import StageConfig, key
from mmkd_cli.core.contracts import Source, SourceTable, StageContext
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import without_notes

if TYPE_CHECKING:
    from mmkd_cli.data.filling import Job
    from mmkd_cli.data.storing import PictureStore

NAMED = 10
"""Missing files that are named."""


class Config(StageConfig):
    """`stage = "prepare-data"`."""

    slots: ClassVar[dict[str, str]] = {"source": "sources"}

    source: SerializeAsAny[Table] = key(description="the official format, by name, and its keys")
    image_size: int = key(256, "short side that is stored; 0 keeps the original bytes; never enlarged",
                          source="[U] above the 224 that most models see", unit="pixels", ge=0)  # fmt: skip
    quality: int = key(95, "of the JPEG that is written", source="[C] img2dataset", ge=1, le=100)
    decode: Literal["exact", "draft"] = key(
        "exact",
        "draft: the JPEG decoder scales by 1/2, 1/4 or 1/8 first: faster from twice that size on, 1/255 off",
        source="[U]",
    )
    max_pixels: int = key(178_956_970, "larger pictures are refused before decoding", source="[C] Pillow's bound",
                          unit="pixels", ge=1, le=178_956_970)  # fmt: skip
    skip_bad: bool = key(
        False, "reject unusable pictures and rows, and empty captions, and go on", source="[U]", identity=False
    )
    rows_per_range: int = key(0, "rows of an .arrow file; 0: 1,024 pictures or 65,536 other rows", source="[U]",
                              unit="rows", ge=0)  # fmt: skip


def run(config: Config, context: StageContext) -> dict[str, Any]:
    """Make the tables, go on with them, repair them, or say that they are there. Returns the stage's document."""
    from mmkd_cli.data.filling import fill
    from mmkd_cli.data.ranges import RangeWriter
    from mmkd_cli.data.storing import PictureStore

    started = time.time()
    keep_libraries_inside(context.root)
    source: Source = registry.load("sources", config.source.name)(config.source)  # type: ignore[attr-defined]
    tables = list(source.tables())
    _refuse_missing(source, config)
    store = PictureStore(config.image_size, config.quality, config.decode == "draft", config.max_pixels)
    if context.dry_run:
        return _dry_run(config, context, source, tables, store)

    plan = _plan(config, context, source, tables)
    state, artifact = artifacts.begin(context.root / paths.FOLDERS["data"] / plan.name, plan)
    jobs = _jobs(artifact.plan["work"]["tables"], tables)
    if state == "finished":
        return _repair_or_say(artifact, jobs, store, context, started)
    _check_space(artifact.path, jobs, store)
    with paths.enough_room(artifact.path, lambda: _bytes_left(artifact.path, jobs, store)):
        fill(jobs, RangeWriter(artifact.path, store, config.skip_bad, {}), context.workers)
    artifact = _finish(artifact, jobs, started)
    if rejected := (artifact.manifest or {})["rejected"]:
        console.warn(lineage.rejected_rows(rejected, artifact.name))
    return _document(artifact, "done", started)


def keep_libraries_inside(root: Path) -> None:
    """Give `datasets` a cache below the root, so that nothing is written elsewhere."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = root / ".cache" / "datasets"


def _refuse_missing(source: Source, config: Config) -> None:
    """Count all missing files, name the first ten: an error, or with skip_bad a warning (they are rejected)."""
    missing = source.missing()
    first = list(islice(missing, NAMED))
    if not first:
        return
    count = len(first) + sum(1 for _ in missing)
    text = f"{count} files are missing; the first {len(first)}: {', '.join(first)}" if count > 1 else (
        f"1 file is missing: {first[0]}")  # fmt: skip
    if not config.skip_bad:
        them, their = ("them", "their") if count > 1 else ("it", "its")
        ways = [f"put {them} there", f"say --skip-bad to reject {their} rows and go on"]
        if getattr(config.source, "images", "") is None and Path(first[0]).is_absolute():
            ways.insert(1, "say which folder the table's paths start from by --images FOLDER")
        raise UserError(f"{text}: {', or '.join(ways)}")
    console.warn(text)


def _cuts(config: Config, tables: Sequence[SourceTable]) -> dict[str, dict[str, dict[str, int]]]:
    """split -> table -> rows, rows_per_range."""
    from mmkd_cli.data.ranges import rows_per_range

    cuts: dict[str, dict[str, dict[str, int]]] = {}
    for table in tables:
        per_range = rows_per_range(table.name, table.rows, config.rows_per_range)
        cuts.setdefault(table.split, {})[table.name] = {"rows": table.rows, "rows_per_range": per_range}
    return cuts


def _plan(config: Config, context: StageContext, source: Source, tables: Sequence[SourceTable]) -> Plan:
    plan = Plan(
        kind="data",
        stage="prepare-data",
        name="",
        identity={
            "stage": "prepare-data",
            "config": configs.identity(config),
            "files": source.identity(context.root / ".hashes"),
        },
        config=config.model_dump(mode="json"),
        work={"tables": _cuts(config, tables)},
    )
    name = context.name or artifacts.default_name([config.source.name], plan)  # type: ignore[attr-defined]
    return replace(plan, name=name)


def _jobs(cuts: Mapping[str, Mapping[str, Mapping[str, int]]], tables: Sequence[SourceTable]) -> list[Job]:
    """Every range that a plan cuts the tables into."""
    from mmkd_cli.data.ranges import cut

    return [
        (table, part)
        for table in tables
        for part in cut(table.name, table.split, table.rows, cuts[table.split][table.name]["rows_per_range"])
    ]


def _finish(artifact: Artifact, jobs: Sequence[Job], started: float) -> Artifact:
    """Descriptions and manifest, once, by whichever process comes first."""
    lock = artifacts.lock(artifact.path)
    lock.acquire(block=True)
    try:
        current = artifacts.read(artifact.path)
        if current.manifest is not None:
            return current
        _sweep(artifact, jobs)
        records = {part: paths.read_json(artifact.path / part.record) for _, part in jobs}
        files = _describe(artifact, jobs, {part.arrow: record["xxh3_128"] for part, record in records.items()})
        for part, record in records.items():
            files[part.arrow] = FileRecord(record["bytes"], record["xxh3_128"])
            files[part.record] = FileRecord.of(artifact.path / part.record)
        rejected = [row for record in records.values() for row in record["rejected"]]
        rows = _rows(artifact.plan["work"]["tables"])
        _refuse_empty(rows, rejected)
        there = {name for found in rows.values() for name in found}
        main = next((name for name in ("images", "instructions") if name in there), "texts")
        return artifacts.finish(
            artifact,
            content={
                "source": artifact.plan["config"]["source"]["name"],
                "rows": sum(found.get(main, 0) for found in rows.values()),
                "tables": rows,
                "rejected": len(rejected),
            },
            files=files,
            hashed={part.arrow: record["xxh3_128"] for part, record in records.items()},
            rejected=rejected,
            started=started,
        )
    finally:
        lock.release()


def _refuse_empty(rows: Mapping[str, Mapping[str, int]], rejected: Sequence[Mapping[str, Any]]) -> None:
    """A table of which nothing is left is a mistake about all of it: a folder, a column, a format."""
    left = Counter({(split, table): count for split, tables in rows.items() for table, count in tables.items()})
    left.subtract((row["split"], row["table"]) for row in rejected)
    for row in rejected:
        place = (row["split"], row["table"])
        if not left[place]:
            total = rows[place[0]][place[1]]
            raise UserError(
                f"all {total:,} rows of {'/'.join(place)} are rejected, the first ('{row['id']}') for: {row['reason']}"
            )


def _sweep(artifact: Artifact, jobs: Sequence[Job]) -> None:
    """Remove what killed processes left behind: temporary files, and lock files that nobody holds."""
    for folder in {artifact.path, *((artifact.path / part.arrow).parent for _, part in jobs)}:
        paths.sweep_temporary(folder)
    for _, part in jobs:
        lock = part.lock(artifact.path)
        if lock.path.exists() and lock.acquire():
            lock.release()


def _describe(artifact: Artifact, jobs: Sequence[Job], hashes: dict[str, str]) -> dict[str, FileRecord]:
    """Write what `datasets.load_from_disk` needs beside the .arrow files."""
    from mmkd_cli.data.tables import describe_split, describe_table

    features = {(table.name, table.split): table.features for table, _ in jobs}
    splits: dict[str, list[str]] = {}
    for name, split in features:
        own = {Path(file).name: xxh3 for file, xxh3 in hashes.items() if Path(file).parent == Path(name, split)}
        describe_split(artifact.path / name / split, split, features[name, split], own)
        splits.setdefault(name, []).append(split)
    for name, found in splits.items():
        describe_table(artifact.path / name, found)
    written = [f"{name}/dataset_dict.json" for name in splits]
    written += [f"{name}/{split}/{file}" for name, split in features for file in ("state.json", "dataset_info.json")]
    return {file: FileRecord.of(artifact.path / file) for file in written}


def _repair_or_say(
    artifact: Artifact, jobs: Sequence[Job], store: PictureStore, context: StageContext, started: float
) -> dict[str, Any]:
    """Finished data: say so, or make again what is damaged, compare it with the recorded hashes, and say which."""
    from mmkd_cli.data.filling import fill
    from mmkd_cli.data.ranges import RangeWriter

    damage = artifact.damage()
    if not damage:
        return _document(artifact, "already done", started)
    with artifacts.lock(artifact.path):
        hashes = {name: record.xxh3_128 for name, record in artifact.files.items()}
        broken = [job for job in jobs if job[1].arrow in damage or job[1].record in damage]
        fill(broken, RangeWriter(artifact.path, store, True, hashes), context.workers, again=True)
        _describe(artifact, jobs, {part.arrow: hashes[part.arrow] for _, part in jobs})
        still = {name: what for name, what in artifact.missing().items() if name in damage}
        if still:
            raise UserError(
                f"{artifact.label}: {', '.join(still)} can't be repaired: `mmkd rm` it and prepare it again"
            )
        (artifact.path / "damage.json").unlink(missing_ok=True)
    for file, what in sorted(damage.items()):
        console.say(f"{artifact.label}: repaired {file} ({what})")
    return {**_document(artifact, "done", started), "repaired": sorted(damage)}


def _bytes_left(path: Path, jobs: Sequence[Job], store: PictureStore) -> int:
    """About as many bytes as the ranges that are not there will take."""
    from mmkd_cli.data.estimates import estimate
    from mmkd_cli.data.ranges import committed

    return estimate([job for job in jobs if not committed(path, job[1])], store).bytes


def _check_space(path: Path, jobs: Sequence[Job], store: PictureStore) -> None:
    needed, free = _bytes_left(path, jobs, store), shutil.disk_usage(path).free
    if needed > free:
        raise UserError(
            f"{path} needs about {needed:,} bytes and its disk has {free:,} free, {needed - free:,} too few: "
            "make room, choose another --root, or a smaller --image-size"
        )


@without_notes()
def _dry_run(
    config: Config, context: StageContext, source: Source, tables: Sequence[SourceTable], store: PictureStore
) -> dict[str, Any]:
    """Rows, bytes and an estimate of time from a few pictures, or what is there already. Writes nothing."""
    from mmkd_cli.data.estimates import estimate

    plan = _plan(config, context, source, tables)
    state, document = artifacts.preview(context.root / paths.FOLDERS["data"] / plan.name, plan)
    if state == "finished":
        return document
    cuts = plan.work["tables"]
    needed, seconds = estimate(_jobs(cuts, tables), store, min(context.workers, os.cpu_count() or 1))
    rows = _rows(cuts)
    console.say(f"would prepare {_counts(rows)}: about {needed:,} bytes in {seconds:,.0f} s")
    return {**document, "rows": rows, "bytes": needed, "seconds": seconds}


def _rows(cuts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """split -> table -> rows."""
    return {split: {name: table["rows"] for name, table in found.items()} for split, found in cuts.items()}


def _counts(rows: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(f"{s}: " + ", ".join(f"{n:,} {table}" for table, n in found.items()) for s, found in rows.items())


def _document(artifact: Artifact, status: str, started: float) -> dict[str, Any]:
    content = artifact.content
    size = sum(record.bytes for record in artifact.files.values())
    seconds = time.time() - started
    bad = f", {content['rejected']:,} rejected" if content["rejected"] else ""
    console.say(
        f"{artifact.label} {status}: {artifact.path}: {_counts(content['tables'])}{bad}; "
        f"{size:,} bytes, {seconds:,.1f} s"
    )
    return {
        "kind": "data",
        "stage": "prepare-data",
        "name": artifact.name,
        "path": str(artifact.path),
        "status": status,
        "rows": content["tables"],
        "rejected": content["rejected"],
        "bytes": size,
        "seconds": seconds,
        "fingerprint": artifact.fingerprint,
    }
