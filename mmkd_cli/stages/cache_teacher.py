"""`mmkd cache-teacher`: what a frozen teacher says of each row of prepared data, stored once.

config -> data and teacher opened -> plan -> shards, each claimed, computed and committed by itself -> manifest.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializeAsAny

from mmkd_cli.core import artifacts, console, paths, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact, Plan
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import StageConfig, key
from mmkd_cli.core.contracts import StageContext, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import without_notes
from mmkd_cli.core.references import absolute_places
from mmkd_cli.data.views import ViewSpec

if TYPE_CHECKING:
    from mmkd_cli.cache.index import Index, Shard
    from mmkd_cli.cache.inputs import TeacherInputs
    from mmkd_cli.data.prepared import PreparedData

_DENSE_ROWS = 8
"""Texts whose whole distributions are held at once."""


class CacheConfig(Table):
    """How signals are computed, stored and cut."""

    rows_per_shard: int = key(0, "rows of a shard; 0: about 128 MiB", source="[U] quick to remake", ge=0)
    batch_size: int = key(64, "one forward of the teacher, views counted", source="[U]", unit="rows", ge=1)
    dtype: Literal["bfloat16", "float32"] = key(
        "bfloat16", "how numbers are stored; what a teacher wants in float32 stays so", source="[U] half the bytes"
    )
    precision: Literal["float32", "bfloat16"] = key("float32", "the teacher computes in", source="[U]")
    threads: int = key(
        0, "threads of a forward; 0: one a core, or those that the cache was begun with",
        source="[U] the last bit of a sum depends on it", identity=False, ge=0,
    )  # fmt: skip
    views: int = key(0, "augmented views a picture; 0: the evaluation transform, no axis", source="[U]", ge=0)
    view: ViewSpec = key(ViewSpec(), "how views are drawn")
    seed: int = key(0, "seed of the views", source="[U]")
    verify: int = key(0, "recomputed and compared at the end", source="[U]", unit="rows", identity=False, ge=0)


class Config(StageConfig):
    """`stage = "cache-teacher"`."""

    slots: ClassVar[dict[str, str]] = {"teacher": "teachers"}

    data: str | None = key(None, "prepared data (default: the only one in the root)", identity=False)
    teacher: SerializeAsAny[Table] = key(description="the teacher, by name, and its keys")
    signals: tuple[str, ...] | None = key(
        None, "signals to store (default: all that the teacher gives of the data's tables)", identity=False
    )
    cache: CacheConfig = key(CacheConfig(), "computing and storing")


def run(config: Config, context: StageContext) -> dict[str, Any]:
    """Make the cache, go on with it, repair it, or say that it is there. Returns the stage's document."""
    from mmkd_cli.cache.inputs import TeacherInputs
    from mmkd_cli.cache.planning import build_index, choose_signals
    from mmkd_cli.data.prepared import open_data

    if config.data is None:
        console.say(f"data: {artifacts.only(context.root, 'data', '--data').name}, the only one in {context.root}")
    data = open_data(context.root, config.data or artifacts.only(context.root, "data", "--data").name)
    config = config.model_copy(update={"teacher": absolute_places(config.teacher, context.root)})
    teacher: Teacher = registry.load("teachers", teacher_name(config))(config.teacher)
    keys = config.cache
    if keys.views and teacher.picture_transform is None:
        raise UserError(f"--views {keys.views}: teacher {teacher_name(config)!r} sees no pictures: leave it out")
    signals = choose_signals(teacher, data, config.signals)
    if hasattr(teacher, "storing"):
        teacher = teacher.storing(signals)
        config = config.model_copy(update={"teacher": teacher.config})
    index = build_index(
        signals, data, dtype=keys.dtype, rows_per_shard=keys.rows_per_shard,
        batch_size=keys.batch_size, n_views=keys.views, seed=keys.seed, view_spec=keys.view.model_dump(mode="json"),
    )  # fmt: skip
    inputs = TeacherInputs(teacher, data, context.workers, index)
    job = Job(config, context, data, teacher, inputs, index)
    return job.dry_run() if context.dry_run else job.run()


def teacher_name(config: Config) -> str:
    """The registered name that `teacher.name` chose."""
    return str(config.teacher.name)  # type: ignore[attr-defined]


class Job:
    """One worker's share of making one cache."""

    def __init__(self, config: Config, context: StageContext, data: PreparedData, teacher: Teacher,
                 inputs: TeacherInputs, index: Index) -> None:  # fmt: skip
        from mmkd_cli.training.devices import choose_device

        self.config, self.context, self.data, self.teacher = config, context, data, teacher
        self.inputs, self.index = inputs, index
        self.device = str(choose_device(context.device))
        self.started = time.time()
        self._loaded = False

    def run(self) -> dict[str, Any]:
        from mmkd_cli.cache.finish import close_repair, finish, missing_shards
        from mmkd_cli.cache.index import Index

        plan = self.plan()
        self.threads = int(plan.identity["threads"])
        self.folder = self._folder(plan.name)
        state, artifact = artifacts.begin(self.folder, plan)
        self.index = self.inputs.index = Index.from_json(artifact.plan["work"]["index"])
        damage = artifact.damage() if state == "finished" else {}
        if state == "finished" and not damage:
            return self._already(artifact)
        recorded = {file: artifact.files[file].xxh3_128 for file in damage if file in artifact.files}
        share = self._share(list(self.index.shards()))
        self._fill(artifact, [s for s in share if state != "finished" or s.file in damage], recorded)
        if damage:
            left = close_repair(artifact, self.index, damage)
            mended = sorted(damage.keys() - left)
            if mended:
                console.say(f"{artifact.label}: made again, with the bytes that were recorded: {', '.join(mended)}")
            if left:
                console.say(
                    f"{artifact.label}: {len(left)} damaged files are left to other shares: {', '.join(sorted(left))}"
                )
            return self._document(artifact, "share done" if left else "repaired", repaired=mended)
        if missing := missing_shards(artifact, self.index):
            console.say(f"{artifact.label}: this share is done, {len(missing)} shards are left to other processes")
            return self._document(artifact, "share done", shards_missing=len(missing))
        artifact = finish(artifact, self.index, self.started, self._verify if self.config.cache.verify else None)
        self._say_done(artifact)
        return self._document(artifact, "done")

    @without_notes()
    def dry_run(self) -> dict[str, Any]:
        """Rows, bytes, shards and an estimate of time from a few measured batches. Writes nothing."""
        from mmkd_cli.cache.probe import probe

        plan = self.plan()
        self.threads = int(plan.identity["threads"])
        state, document = artifacts.preview(self._folder(plan.name), plan)
        if state == "finished":
            return document
        self._load()
        found = probe(self.index, self.teacher, self.inputs, self.config.cache.batch_size)
        if hasattr(self.teacher, "divergences"):
            found["bytes_per_token"] = self.index.item_bytes("texts")
        shards = sum(1 for _ in self.index.shards())
        rows = sum(rows for tables in self.index.rows.values() for rows in tables.values())
        console.say(
            f"would cache {rows:,} rows of {', '.join(self.index.signals)}: {found['bytes']:,} bytes in {shards} "
            f"shards, about {found['seconds']:,.0f} s with one process on {self.device}"
            + (f"; {found['bytes_per_token']} bytes a token" if "bytes_per_token" in found else "")
        )
        if not_cached := getattr(self.teacher, "not_cacheable", None):
            console.say(not_cached)
            document["not_cacheable"] = not_cached
        return {**document, "rows": rows, "shards": shards, **found, "parameters": self.teacher.parameters_count(),
                "device": self.device, "signals": self.index.to_json()["signals"], "splits": self.index.rows,
                "rejected": len(self.index.rejected)}  # fmt: skip

    def plan(self) -> Plan:
        """What decides the cache's numbers: data, teacher, signals, keys, kind of device, threads."""
        keys = self.config.cache
        asked = configs.identity(keys)
        if not keys.views:
            asked = {name: value for name, value in asked.items() if name not in ("view", "seed")}
        index = self.index.to_json()
        identity = {
            "stage": "cache-teacher",
            "cache": asked,
            "signals": index["signals"],
            "teacher": {"name": teacher_name(self.config), **self.teacher.identity(self.context.root / ".hashes")},
            "inputs": {"data": self.data.artifact.fingerprint},
            "device": self.device.partition(":")[0],
            "threads": keys.threads or self._threads_begun_with() or cores(),
        }
        run: Artifact | None = getattr(self.teacher, "artifact", None)
        inputs = (self.data.artifact.as_input("data"), *([run.as_input("teacher")] if run else []))
        plan = Plan("cache", "cache-teacher", self.context.name or "", identity, self.config.model_dump(mode="json"),
                    inputs, {"index": index})  # fmt: skip
        if self.context.name:
            return plan
        name = artifacts.default_name([teacher_name(self.config), self.data.artifact.name], plan)
        return Plan("cache", "cache-teacher", name, identity, plan.config, plan.inputs, plan.work)

    def _folder(self, name: str) -> Path:
        return self.context.root / paths.FOLDERS["cache"] / name

    def _threads_begun_with(self) -> int:
        """Thread count of the cache of this name that is there, 0 without one: another host goes on with the same."""
        note = self._folder(self.context.name or "") / "plan.json"
        if not self.context.name or not note.is_file():
            return 0
        return int(paths.read_json(note).get("identity", {}).get("threads", 0))

    def _share(self, shards: Sequence[Shard]) -> list[Shard]:
        """In this worker's order: with --shard K/N only its own; by torchrun's rank its own first, then the others."""
        from mmkd_cli.cache.fill import in_turn

        if self.context.shard is not None:
            share, shares = self.context.shard
            return [shard for place, shard in enumerate(shards) if place % shares == share]
        return in_turn(shards, int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    def _fill(self, artifact: Artifact, shards: Sequence[Shard], recorded: dict[str, str]) -> None:
        from mmkd_cli.cache.fill import Filling, fill
        from mmkd_cli.cache.writer import committed

        work = [s for s in shards if s.file in recorded or committed(self.folder, s) is None]
        if not work:
            return
        self._load()
        needed = self._bytes(work)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self.folder} has {free:,} bytes free, the {len(work)} shards to be written need {needed:,}: free "
                f"{needed - free:,} bytes more, or choose another --root"
            )
        filling = Filling(self.folder, self.index, str(artifact.plan["request"]), self.teacher, self.inputs,
                          self.config.cache.batch_size)  # fmt: skip
        rows = sum(shard.rows for shard in shards)
        with (
            paths.enough_room(self.folder, lambda: self._bytes(s for s in work if committed(self.folder, s) is None)),
            console.progress(artifact.label, rows, start=rows - sum(shard.rows for shard in work)) as meter,
        ):
            fill(filling, work, meter, recorded)

    def _bytes(self, shards: Iterable[Shard]) -> int:
        return int(sum(self.index.row_bytes(shard.table, self._lengths) * shard.rows for shard in shards))

    @cached_property
    def _lengths(self) -> dict[str, float]:
        """Mean length of each ragged signal, from one forward: their bounds would ask for several times the room."""
        from mmkd_cli.cache.probe import ragged_lengths

        return ragged_lengths(self.index, self.teacher, self.inputs, self.config.cache.batch_size)

    def _load(self) -> None:
        import torch

        if not self._loaded:
            torch.set_num_threads(self.threads)
            self.teacher.load(self.device, self.config.cache.precision)
            self._loaded = True

    def _verify(self, artifact: Artifact) -> dict[str, Any]:
        from mmkd_cli.cache.live import LiveTargets
        from mmkd_cli.cache.reader import Cache
        from mmkd_cli.cache.verify import table, verify, verify_distributions

        self._load()
        keys, cache = self.config.cache, Cache(artifact)
        if hasattr(self.teacher, "divergences"):
            rows = min(keys.batch_size, _DENSE_ROWS)
            found = verify_distributions(cache, self.teacher, self.inputs, keys.verify, rows, keys.seed)
        else:
            found = verify(
                cache, lambda split, batch_size: LiveTargets(self.teacher, self.inputs, split, batch_size),
                keys.verify, keys.batch_size, keys.seed,
            )  # fmt: skip
        console.say("\n".join(table(found)))
        return found

    def _already(self, artifact: Artifact) -> dict[str, Any]:
        console.say(f"{artifact.label} is already done: {artifact.path}")
        verified = {"verify": self._verify(artifact)} if self.config.cache.verify else {}
        return self._document(artifact, "already done", **verified)

    def _say_done(self, artifact: Artifact) -> None:
        content = artifact.content
        signals = ", ".join(f"{name} {what}" for name, what in content["signals"].items())
        console.say(
            f"made {artifact.label} in {artifact.path}: {signals}; {content['rows']:,} rows, {content['bytes']:,} "
            f"bytes in {content['shards']} shards, {content['rejected']} rejected, "
            f"{time.time() - self.started:,.1f} s"
        )

    def _document(self, artifact: Artifact, status: str, **more: Any) -> dict[str, Any]:
        finished = {"fingerprint": artifact.fingerprint} if artifact.manifest else {}
        return {"kind": "cache", "name": artifact.name, "path": str(artifact.path), "status": status,
                "request": artifact.plan["request"], **finished, **artifact.content,
                "seconds": round(time.time() - self.started, 3), **more}  # fmt: skip


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
