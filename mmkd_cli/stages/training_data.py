"""What a training stage opens: prepared data, the caches made from it, or the teacher itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core import artifacts, console, lineage, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact, Input
from mmkd_cli.core.contracts import Targets, Teacher, TrainingData
from mmkd_cli.core.errors import Refused, UserError, nearest
from mmkd_cli.core.references import parse_data

if TYPE_CHECKING:
    from mmkd_cli.cache.reader import Cache
    from mmkd_cli.data.prepared import PreparedData


@dataclass(frozen=True)
class Pair:
    """A data set with the teacher's signals that are needed of it, and the cache of these, if there is one."""

    data: PreparedData
    cache: Cache | None
    weight: float
    signals: tuple[str, ...] = ()


@dataclass
class Opened:
    """All inputs of a training stage. teacher: its configuration, None without one. live: it runs beside training.
    trained: its tower is a part of the student, so that no cache tells which teacher it is."""

    pairs: list[Pair]
    teacher: Any = None
    live: bool = False
    trained: bool = False
    workers: int = 0
    hashes: Path = field(default_factory=Path)

    def inputs(self) -> tuple[Input, ...]:
        """As the plan records them: data, cache, data.1, cache.1, ..."""
        found: list[Input] = []
        for number, pair in enumerate(self.pairs):
            end = f".{number}" if number else ""
            found.append(pair.data.artifact.as_input(f"data{end}"))
            if pair.cache is not None and not self.live:
                found.append(pair.cache.artifact.as_input(f"cache{end}"))
        return tuple(found)

    @cached_property
    def teacher_object(self) -> Teacher:
        """The teacher, without weights."""
        made: Teacher = registry.load("teachers", self.teacher.name)(self.teacher)
        return made

    def teacher_identity(self) -> dict[str, Any] | None:
        """The teacher's name and what decides its answers, as its caches record it; None without a teacher."""
        for pair in self.pairs:
            if pair.cache is not None:
                return dict(pair.cache.artifact.plan["identity"]["teacher"])
        if not (self.live or self.trained):
            return None
        return {"name": self.teacher.name, **self.teacher_object.identity(self.hashes)}

    def require_teacher(self) -> None:
        """Refused unless the teacher's files are still those that the caches were made with; it will be run."""
        known = self.teacher_identity()
        if known is None or self.live:
            return
        now = {"name": self.teacher.name, **self.teacher_object.identity(self.hashes)}
        if now != known:
            raise Refused(
                f"the teacher's files are not those that its cache was made with: {artifacts.difference(known, now)}: "
                "name the folder that holds them by --teacher, or make the cache again"
            )

    def require_same(self, run: Artifact) -> None:
        """Refused where the signals are not of the teacher whose signals a run was trained on."""
        known, now = run.plan["work"].get("teacher"), self.teacher_identity()
        if known is not None and now is not None and known != now:
            raise Refused(
                f"{run.label} was trained with another teacher: {artifacts.difference(known, now)}: "
                "name a cache of its own teacher, or start from another run"
            )

    def require_tokenizer(self) -> None:
        """Refused unless the teacher's tokenizer is still the one that the caches were made with."""
        known = self.teacher_identity()
        model = getattr(self.teacher_object, "language_model", None) if self.teacher is not None else None
        if known is not None and model is not None:
            _require_same_tokenizer(known, {"tokenizer": model.tokenizer_identity(self.hashes)})

    def live_identity(self) -> dict[str, Any]:
        """How a live teacher is run, data set by data set: where a cache is named, as that was made."""
        seen = []
        for pair in self.pairs:
            index = pair.cache.index if pair.cache is not None and pair.cache.n_views else None
            seen.append({"n_views": index.n_views, "seed": index.seed, "view_spec": index.view_spec} if index else {})
        return {**self._computed(), "views": seen}

    def rejected(self) -> list[dict[str, Any]]:
        """Rejected rows of all data, as their manifests list them, with the data's name where there are several."""
        several = len(self.pairs) > 1
        return [
            {**row, **({"data": pair.data.artifact.name} if several else {})}
            for pair in self.pairs
            for row in (pair.data.artifact.manifest or {}).get("rejected", ())
        ]

    def training_data(self, device: str) -> list[TrainingData]:
        """As methods take it. A live teacher's weights are read here."""
        if self.live:
            self.teacher_object.load(device, self._computed()["precision"])
        return [
            TrainingData(pair.data.artifact.name, pair.weight, pair.data.splits, pair.data.tables, self._targets(pair),
                         pair.data.rejected)
            for pair in self.pairs
        ]  # fmt: skip

    def _computed(self) -> dict[str, Any]:
        """How a cache's signals were computed; without a cache, how a new one's would be."""
        cache = self.pairs[0].cache
        said = cache.artifact.plan["config"]["cache"] if cache is not None else {}
        return {"precision": said.get("precision", "float32"), "batch_size": said.get("batch_size", 64)}

    def _targets(self, pair: Pair) -> Callable[[str], Targets | None]:
        if self.live and pair.signals:
            return self._live_targets(pair)
        cache = pair.cache
        if cache is None:
            return lambda split: None
        return lambda split: cache.targets(split) if split in cache.splits else None

    def _live_targets(self, pair: Pair) -> Callable[[str], Targets | None]:
        from mmkd_cli.cache.inputs import TeacherInputs
        from mmkd_cli.cache.live import LiveTargets
        from mmkd_cli.cache.planning import build_index, choose_signals

        batch_size = self._computed()["batch_size"]
        if pair.cache is not None:
            index = pair.cache.index
        else:
            chosen = choose_signals(self.teacher_object, pair.data, pair.signals)
            index = build_index(chosen, pair.data, dtype="float32", rows_per_shard=0, batch_size=batch_size, n_views=0,
                                seed=0, view_spec={})  # fmt: skip
        inputs = TeacherInputs(self.teacher_object, pair.data, self.workers, index)
        return lambda split: LiveTargets(self.teacher_object, inputs, split, batch_size)


def open_inputs(
    root: Path, names: Sequence[str], cache: str | None, teacher: Any,
    signals_of: Callable[[Collection[str]], tuple[str, ...]], *, live: bool, workers: int, trained: bool = False,
    if_cached: Callable[[Collection[str]], tuple[str, ...]] | None = None,
) -> Opened:  # fmt: skip
    """Open what a configuration names; what it leaves out is taken where exactly one artifact fits, and said.

    signals_of: tables of a data set -> the teacher's signals that are needed of it. if_cached: the same where that
    names none and a cache of the data set is named. teacher: the configured one, or None. Refused (exit 3) where a
    cache is of other data or of another teacher.
    """
    from mmkd_cli.data.prepared import open_data

    if trained and live:
        raise UserError("student.tower.mode=trained: the teacher's tower is trained and not run live: leave --live out")
    if trained and not teacher:
        raise UserError("student.tower.mode=trained needs the teacher whose tower it is: name it by --teacher")
    if live and not (teacher or cache or any(parse_data(name).cache for name in names)):
        raise UserError("live=true needs a teacher: name it by --teacher, or name the cache whose teacher is to run")
    pairs: list[Pair] = []
    for text in names or [_default_data(root, cache)]:
        asked = parse_data(text)
        data = open_data(root, asked.data)
        named = asked.cache or cache
        tables = {table for found in data.rows.values() for table in found}
        signals = signals_of(tables)
        if not signals and if_cached is not None and (asked.cache or (cache and len(names) <= 1)):
            signals = if_cached(tables)
        found = _open_cache(root, data, named, signals) if signals and (named or not live) else None
        if asked.cache and not signals:
            raise UserError(
                f"the method reads no teacher's signals of {data.artifact.label}: leave its cache {asked.cache!r} out"
            )
        pairs.append(Pair(data, found, asked.weight, signals))
    if cache and not any(pair.signals for pair in pairs):
        raise UserError(f"the method reads no teacher's signals of this data: leave --cache {cache} out")
    opened = Opened(pairs, teacher, live, trained, workers, root / ".hashes")
    caches = [pair.cache.artifact for pair in pairs if pair.cache is not None]
    if caches:
        opened.teacher = _teacher_of(caches, teacher, opened.hashes)
    return opened


def _default_data(root: Path, cache: str | None) -> str:
    """The data that the named cache was made from, else the only one of the root."""
    if cache is not None:
        made = artifacts.open_artifact(root, cache, "cache")
        needed = next(i for i in made.inputs if i.role == "data")
        found = lineage.find(root, needed)
        if found is None:
            raise Refused(f"{made.label} was made from data {needed.name!r}, which is not in {root}: prepare it again")
        console.say(f"data: {found.name}, which {made.label} was made from")
        return found.name
    found = artifacts.only(root, "data", "--data")
    console.say(f"data: {found.name}, the only one in {root}")
    return found.name


def _open_cache(root: Path, data: PreparedData, named: str | None, signals: Sequence[str]) -> Cache:
    from mmkd_cli.cache.reader import open_cache

    if named is None:

        def fits(artifact: Artifact) -> bool:
            same = any(i.role == "data" and i.fingerprint == data.artifact.fingerprint for i in artifact.inputs)
            return same and set(signals) <= artifact.content["signals"].keys()

        named = artifacts.only(
            root, "cache", "--cache", fits, f" of {data.artifact.label} with {', '.join(signals)}"
        ).name
        console.say(f"cache: {named}, the only one of {data.artifact.label} with {', '.join(signals)}")
    cache = open_cache(named, root=root)
    artifacts.require_same(cache.artifact, "data", data.artifact)
    for signal in signals:
        if signal not in cache.index.signals:
            raise UserError(
                f"{cache.artifact.label} has no signal {signal!r}{nearest(signal, cache.index.signals)}: "
                f"cache it by --signals {signal}, or name another cache"
            )
    return cache


def _teacher_of(caches: Sequence[Artifact], asked: Any, hashes: Path) -> Any:
    """The configuration of the teacher that made the caches. Refused if they differ, or another one was asked for."""
    first = caches[0]
    identity = first.plan["identity"]["teacher"]
    for other in caches[1:]:
        if other.plan["identity"]["teacher"] != identity:
            field_ = artifacts.difference(identity, other.plan["identity"]["teacher"])
            raise Refused(f"{first.label} and {other.label} are of different teachers: {field_}: use caches of one")
    table = first.plan["config"]["teacher"]
    chosen = registry.load("teachers", table["name"])
    made = configs.validate(chosen.Config, table)
    if asked is None:
        return made
    if asked.name != table["name"]:
        raise Refused(
            f"{first.label} was made with teacher {table['name']!r}, the run asks for {asked.name!r}: "
            "make the cache again, or name the other teacher"
        )
    wanted = configs.validate(chosen.Config, {**table, **asked.model_dump(mode="json", include=asked.model_fields_set)})
    if wanted != made:
        now = {"name": wanted.name, **chosen(wanted).identity(hashes)}
        _require_same_tokenizer(identity, now)
        if now != identity:
            raise Refused(
                f"{first.label} was made with another teacher: {artifacts.difference(identity, now)}: "
                "make the cache again, or name the other teacher"
            )
    return wanted  # the same teacher, its files perhaps at a new place


def _require_same_tokenizer(known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refused where two identities of a language model name different tokenizers: their token ids mean other texts."""
    made, found = known.get("tokenizer"), now.get("tokenizer")
    if made != found and all(isinstance(one, dict) and "size" in one for one in (made, found)):
        raise Refused(
            f"the tokenizer is not the cache's: one of {found['size']:,} tokens ({found['sha256'][:12]}), "
            f"the cache was made with one of {made['size']:,} ({made['sha256'][:12]}): name the teacher's "
            "own folder by --teacher, or make the cache again"
        )
