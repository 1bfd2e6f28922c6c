"""What `evaluate` opens: the model, the data that it is measured on, and the cached signal it may start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core import artifacts, console, lineage
from mmkd_cli.core.artifacts import Artifact, Input
from mmkd_cli.core.contracts import Bench, DualEncoder, Targets
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.references import parse_model

if TYPE_CHECKING:
    from mmkd_cli.architectures.latent_diffusion import LatentDiffusion
    from mmkd_cli.cache.reader import Cache
    from mmkd_cli.data.prepared import PreparedData


_LACKS = {
    "embed_images": "embeds no pictures and texts: name another, or another bench",
    "classify": "tells no classes apart: train it by `mmkd finetune --task text-classification`, or name hf:FOLDER",
    "classify_images": "tells no classes of pictures apart: train it by `mmkd finetune --task image-classification`, "
    "or name timm:ARCH:FILE",
    "language_model": "writes nothing: name a run of vlkd, prefix or finetune, or hf:FOLDER of a language model",
}
"""What a bench (or a task of `generate`) asks of a model -> what to say of one that does not give it."""


@dataclass
class Opened:
    """runs: those among the model's parts. data: None where the bench reads its own files. cache: None where pictures
    are read, or the teacher runs live."""

    model: DualEncoder | LatentDiffusion
    name: str
    kind: str
    runs: Sequence[Artifact]
    data: PreparedData | None
    split: str
    cache: Cache | None
    root: Path
    teacher_weights: str | None = None

    @property
    def label(self) -> str:
        """The model's name without folders and files, for the result's default name."""
        return "-".join(Path(parse_model(part).arch).name for part in self.name.split(" + "))

    def inputs(self) -> tuple[Input, ...]:
        """As the plan records them. A cache that nobody named is among them, and no part of what was asked."""
        roles = ["model"] if len(self.runs) == 1 else [f"model.{number}" for number in range(len(self.runs))]
        found = [run.as_input(role) for role, run in zip(roles, self.runs, strict=True)]
        of_data = [self.data.artifact.as_input("data")] if self.data else []
        return (*found, *of_data, *([self.cache.artifact.as_input("cache")] if self.cache else []))

    def precision(self) -> dict[str, str]:
        """Of the cached signal: computed in, and stored as."""
        assert self.cache is not None and self.model.image_signal is not None
        computed = self.cache.artifact.plan["config"]["cache"]["precision"]
        return {"computed": computed, "stored": self.cache.index.signals[self.model.image_signal].dtype}

    def require_teacher(self) -> None:
        """Where the pictures' signal comes from no cache: Refused unless the live teacher is the run's own.

        UserError where its weights are not where they were.
        """
        from mmkd_cli.students.dual_encoders import teacher_of

        if self.model.image_signal is None or self.cache is not None:
            return
        run, signal = self.runs[0], self.model.image_signal
        missing = (
            f"no cache of {self.data.artifact.label if self.data else 'these pictures'} holds the pictures' {signal}"
        )
        teacher = teacher_of(run, self.teacher_weights)
        if teacher is None:
            raise UserError(f"{run.label} names no teacher: name a cache of the pictures' {signal} by --cache")
        name = run.plan["config"]["teacher"]["name"]
        try:
            said = {"name": name, **teacher.identity(self.root / ".hashes")}
        except (UserError, OSError) as error:
            raise UserError(
                f"{missing}, and the teacher {name!r} of {run.label} can't run ({error}): say where its weights are "
                "now by --weights"
            ) from None
        _require_teacher(_teacher_identity(self.root, run), said, run, f"the signal of {name!r} with these weights")
        console.say(f"{missing}: the teacher runs live")

    def targets(self) -> Callable[[str], Targets | None] | None:
        """The cached signals by split."""
        cache = self.cache
        return cache.targets if cache is not None else None


def open_inputs(config: Any, root: Path, bench: Bench, device: str) -> Opened:
    """Open what the configuration names; what it leaves out is the run's own, or the only one that fits, and said."""
    from mmkd_cli.architectures.latent_diffusion import LatentDiffusion
    from mmkd_cli.benches.runner import default_split
    from mmkd_cli.core.hub import hub_folder
    from mmkd_cli.data.prepared import open_data
    from mmkd_cli.students.classifier import Classifier
    from mmkd_cli.students.dual_encoders import open_dual_encoder
    from mmkd_cli.students.image_classifier import ImageClassifier

    names = [name for name in (config.model, config.image_model, config.text_model) if name is not None]
    if not names:
        config = config.model_copy(update={"model": artifacts.only(root, "run", "--model").name})
        names = [config.model]
        console.say(f"model: run {names[0]}, the only one in {root}")
    if config.model is None and None in (config.image_model, config.text_model):
        raise UserError("two halves are needed: give both --image-model and --text-model, or --model alone")
    runs = [run for name in names if (run := _run(root, name)) is not None]
    data, split = None, bench.default_split
    if bench.needs_data:
        data = open_data(root, config.data or _default_data(root, runs, bench))
        split = config.split or default_split(bench, data.splits)
        data.tables(split)
        if config.split is None:
            console.say(f"split: {split}")
    else:
        for flag in ("data", "split", "cache"):
            if getattr(config, flag) is not None:
                raise UserError(
                    f"--{flag} {getattr(config, flag)}: bench {config.bench.name!r} reads its own files and no "
                    "prepared data: leave it out"
                )
    model: Any
    asked = getattr(bench, "asks", "embed_images")
    ways = (asked,) if isinstance(asked, str) else asked
    if getattr(bench, "denoises", False):
        model = LatentDiffusion(" + ".join(names), device, config.precision, root / ".hashes")
    elif asked == "classify" and config.model is not None and parse_model(config.model).library == "hf":
        model = Classifier.open(hub_folder(parse_model(config.model).arch)).to(device)
    elif asked == "classify_images" and config.model is not None and parse_model(config.model).library == "timm":
        _, arch, weights = parse_model(config.model)
        model = ImageClassifier.open(arch, weights).to(device)
    else:
        for name in names:
            if parse_model(name).library == "diffusers":
                raise UserError(f"model {name!r} embeds nothing: ask it by --scorer diffusion (of a bench of pairs)")
        model = open_dual_encoder(
            config.model, root=root, image_model=config.image_model, text_model=config.text_model, device=device,
            teacher_weights=config.teacher_weights,
        )  # fmt: skip
        if not any(hasattr(model, way) for way in ways):
            raise UserError(f"model {' + '.join(names)!r} {_LACKS.get(ways[0], f'has no {ways[0]}')}")
    kind = "run" if runs and len(names) == 1 else "halves" if len(names) > 1 else parse_model(names[0]).library
    cache = _cache(config, root, model, runs, data, split)
    return Opened(model, " + ".join(names), kind, runs, data, split, cache, root, config.teacher_weights)


def _run(root: Path, name: str) -> Artifact | None:
    """The run of a model's name; None of a library's model."""
    return None if parse_model(name).library else artifacts.open_artifact(root, name, "run")


def _default_data(root: Path, runs: Sequence[Artifact], bench: Bench) -> str:
    """The data of the runs (of a bench with a set of its own: that set), else the only one that fits."""
    source = getattr(bench, "source", None)
    asked = [i for run in runs for i in run.inputs if i.kind == "data"]
    found = [there for i in asked if (there := lineage.find(root, i)) is not None]
    if asked and not found:
        raise Refused(
            f"{runs[0].label} was trained on data {asked[0].name!r}, which is not in {root}: prepare it again, or "
            "name other data by --data"
        )
    for own in found:
        if source in (None, own.content.get("source")):
            console.say(f"data: {own.name}, which {runs[0].label} was trained on")
            return str(own.path)
    wanted = f" made from {source}" if source else " that fits"
    chosen = artifacts.only(root, "data", "--data", lambda a: source in (None, a.content.get("source")), wanted)
    console.say(f"data: {chosen.name}, the only one in {root} that fits")
    return str(chosen.path)


def _cache(
    config: Any,
    root: Path,
    model: DualEncoder | LatentDiffusion,
    runs: Sequence[Artifact],
    data: PreparedData | None,
    split: str,
) -> Cache | None:
    """The named cache, else the run's own if it is of this data, else another of the same teacher, else None."""
    from mmkd_cli.cache.reader import Cache, open_cache

    signal = model.image_signal
    if signal is None:
        for flag, given in (("cache", config.cache), ("weights", config.teacher_weights)):
            if given is not None:
                raise UserError(f"--{flag} {given}: this model reads pictures and no teacher's signal: leave it out")
        return None
    if data is None:
        return None
    run = runs[0]  # of two halves the one of pictures
    teacher = _teacher_identity(root, run)
    if config.cache is not None:
        named = open_cache(config.cache, root=root)
        artifacts.require_same(named.artifact, "data", data.artifact)
        _require_teacher(teacher, named.artifact.plan["identity"]["teacher"], run, named.artifact.label)
        if why := _unfit(named.artifact, signal, split):
            raise UserError(f"{named.artifact.label} {why}: name another cache, or leave --cache out")
        return named
    own = [there for i in run.inputs if i.kind == "cache" and (there := lineage.find(root, i))]
    for candidate in [*own, *artifacts.every(root, "cache")]:
        of_data = any(i.role == "data" and i.fingerprint == data.artifact.fingerprint for i in candidate.inputs)
        same = teacher is not None and candidate.plan["identity"]["teacher"] == teacher
        if candidate.manifest is None or not of_data or not same or _unfit(candidate, signal, split):
            continue
        artifacts.open_artifact(root, str(candidate.path), "cache")  # refuses what is damaged
        console.say(f"cache: {candidate.name}, for the pictures' {signal}")
        return Cache(candidate)
    return None


def _unfit(cache: Artifact, signal: str, split: str) -> str:
    """Why a cache cannot serve a split's pictures, or an empty string."""
    index = cache.plan["work"]["index"]
    if signal not in index["signals"]:
        return f"has no signal {signal!r}"
    if index["n_views"]:
        return f"holds {index['n_views']} augmented views and not the evaluation transform"
    return "" if split in index["rows"] else f"has no split {split!r}"


def _teacher_identity(root: Path, run: Artifact) -> dict[str, Any] | None:
    """The identity of a run's teacher, as caches record it: from its plan, else from its cache; None without both."""
    noted = run.plan["work"].get("teacher")
    if noted:
        return dict(noted)
    for needed in run.inputs:
        if needed.kind == "cache" and (cache := lineage.find(root, needed)) is not None:
            return dict(cache.plan["identity"]["teacher"])
    return None


def _require_teacher(known: dict[str, Any] | None, said: dict[str, Any], run: Artifact, what: str) -> None:
    """Refused unless `what` is of the run's teacher."""
    if known is None:
        raise Refused(
            f"{run.label} does not say which teacher it was trained on, and its cache is gone: {what} may be of "
            "another one: make the run's own cache again"
        )
    if said != known:
        raise Refused(
            f"{what} is not of the teacher that {run.label} was trained on: {artifacts.difference(known, said)}: "
            "name one that is"
        )
