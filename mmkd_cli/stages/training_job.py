"""The job of the stages that train: plan, training from the newest checkpoint, what is left behind, manifest.

`distill` and `finetune` differ in what they build and open; a run is made, killed, resumed and repaired in one way.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, SerializeAsAny

from mmkd_cli.core import artifacts, console, lineage, paths
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact, FileRecord, Input, Plan
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import StageConfig, key
from mmkd_cli.core.contracts import BenchInput, Counts, StageContext, Trainable, TrainingData
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.fingerprints import sha256_file, without_notes
from mmkd_cli.stages.training_data import Opened
from mmkd_cli.training.config import TrainConfig

if TYPE_CHECKING:
    import torch

    from mmkd_cli.training.loop import Trained


class TrainingStageConfig(StageConfig):
    """Keys of every stage that trains."""

    slots: ClassVar[dict[str, str]] = {"student": "students", "teacher": "teachers"}

    data: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = key(
        (), "NAME[:CACHE][@WEIGHT], several are mixed (default: the cache's own, else the only one)", identity=False
    )
    cache: str | None = key(None, "the teacher's signals (default: the only one that fits)", identity=False)
    mix: Literal["concat", "round_robin"] = key(
        "round_robin", "several data sets: a batch of each in turn, or all rows shuffled together",
        source="[C] MM-D2V2: one data set a batch, in turn",
    )  # fmt: skip
    live: bool = key(False, "run the teacher beside the student instead of reading a cache", source="[U]")
    teacher: SerializeAsAny[Table] | None = key(None, "the teacher, by name (default: the cache's), and its keys")
    train: TrainConfig = key(TrainConfig(), "the training loop")
    allow_rejected: bool = key(False, "leave rejected rows out, and go on", identity=False)
    eval_bench: str | None = key(None, "bench to run after each epoch", identity=False)


@dataclass(frozen=True)
class Recipe:
    """What is trained. name: of the method or the task. build: data, device -> the trainable, weights loaded.

    files: key -> file, folder or hub id whose content decides the first weights. inputs: artifacts beside the data.
    content: what the manifest says of what was trained.
    """

    name: str
    build: Callable[[Sequence[TrainingData], str], Trainable]
    files: Mapping[str, str]
    inputs: tuple[Input, ...] = ()
    content: Callable[[Trainable], Mapping[str, Any]] = lambda trainable: {}


class Job:
    """One run, as one of any number of processes."""

    def __init__(
        self, stage: str, config: TrainingStageConfig, context: StageContext, opened: Opened, recipe: Recipe,
        device: torch.device,
    ) -> None:  # fmt: skip
        from mmkd_cli.training.distribution import rank

        self.stage, self.config, self.context, self.device = stage, config, context, device
        self.opened, self.recipe = opened, recipe
        self.main = rank() == 0
        self.started = time.time()

    def __call__(self) -> dict[str, Any]:
        """Train, or say what that would cost. UserError where rejected rows are among the data and nobody said so."""
        rejected = self.opened.rejected()
        if rejected and not self.config.allow_rejected:
            raise UserError(
                f"{len(rejected)} rows of the data were rejected when it was prepared (first: "
                f"{lineage.rejected_row(rejected[0])}): say --allow-rejected to train without them"
            )
        return self.dry_run() if self.context.dry_run else self.run()

    def run(self) -> dict[str, Any]:
        plan = self.plan()
        folder = self.context.root / paths.FOLDERS["run"] / plan.name
        if not self.main:
            return self._work(folder, *self._agree(None))
        with artifacts.lock(folder):
            state, artifact = artifacts.begin(folder, plan)
            damage = artifact.damage() if state == "finished" else {}
            try:
                return self._work(folder, *self._agree((state == "finished" and not damage, damage)))
            except UserError:
                if state == "new" and not (folder / "checkpoints").exists():  # nothing was trained: the name is free
                    shutil.rmtree(folder)
                raise

    @without_notes()
    def dry_run(self) -> dict[str, Any]:
        """Steps, parameters, bytes and an estimate of time from a few measured steps. Writes nothing."""
        from mmkd_cli.training.loop import probe

        plan = self.plan()
        state, document = artifacts.preview(self.context.root / paths.FOLDERS["run"] / plan.name, plan)
        if state == "finished":
            return document
        trainable = self._build()
        found = probe(trainable, self.config.train, device=self.device, mix=self.config.mix, workers=self._workers())
        rows = sum(feed.rows for feed in trainable.feeds)
        console.say(
            f"would train {found.trainable:,} of {found.total:,} parameters for {found.steps:,} steps of "
            f"{self.config.train.batch_size} rows ({rows:,} rows an epoch): about {found.seconds:,.0f} s on "
            f"{self.device}, {found.bytes:,} bytes of checkpoints and model"
        )
        return {**document, "rows": rows, "steps": found.steps, "steps_per_epoch": found.steps_per_epoch,
                "seconds": found.seconds, "bytes": found.bytes,
                "seconds_per_step": found.seconds_per_step, "device": str(self.device),
                "parameters": {"total": found.total, "trainable": found.trainable}}  # fmt: skip

    def plan(self) -> Plan:
        """What decides the run: keys, data, cache or live teacher, files of first weights, precision."""
        from mmkd_cli.training.devices import compute_precision

        inputs, hashes = (*self.recipe.inputs, *self.opened.inputs()), self.opened.hashes
        identity: dict[str, Any] = {
            "stage": self.stage,
            "config": configs.identity(self.config),
            "inputs": {i.role: i.fingerprint for i in inputs},
            "weights": [pair.weight for pair in self.opened.pairs],
            "files": {role: _content(file, hashes) for role, file in self.recipe.files.items()},
            "precision": compute_precision(self.config.train.precision, self.device),
        }
        if self.opened.live or self.opened.trained:
            identity["teacher"] = self.opened.teacher_identity()
        if self.opened.live:
            identity["live"] = self.opened.live_identity()
        plan = Plan("run", self.stage, self.context.name or "", identity, self.config.model_dump(mode="json"), inputs,
                    {"teacher": self.opened.teacher_identity()})  # fmt: skip
        if self.context.name:
            return plan
        datas = [pair.data.artifact.name for pair in self.opened.pairs]
        name = artifacts.default_name([self.recipe.name, *datas], plan)
        return replace(plan, name=name)

    def _agree(self, decided: tuple[bool, dict[str, str]] | None) -> tuple[bool, dict[str, str]]:
        """Whether the run is already done, and what of it is damaged: as the main process found it."""
        from mmkd_cli.training.distribution import from_main

        agreed: tuple[bool, dict[str, str]] = from_main(decided)
        return agreed

    def _work(self, folder: Path, done: bool, damage: Mapping[str, str]) -> dict[str, Any]:
        from mmkd_cli.training.distribution import wait
        from mmkd_cli.training.loop import train

        artifact = artifacts.read(folder)
        if done:
            console.say(f"{artifact.label} is already done: {folder}")
            return self._document(artifact, "already done")
        if "metrics.jsonl" in damage and self.main:  # cut to a checkpoint's length it would stay damaged: begin anew
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        trainable = self._build()
        with paths.enough_room(folder, lambda: self._bytes_left(folder, trainable)):
            trained = train(trainable, self.config.train, folder, device=self.device, mix=self.config.mix,
                            workers=self._workers(), evaluate=self._bench(trainable))  # fmt: skip
            if self.main:
                artifact = self._finish(artifact, trainable, trained, damage)
        wait()
        return self._document(artifact, "repaired" if damage else "done", skipped_steps=trained.skipped)

    def _build(self) -> Trainable:
        from mmkd_cli.training.randomness import seed_all

        self.data: list[TrainingData] = self.opened.training_data(str(self.device))
        seed_all(self.config.train.seed, "build")
        return self.recipe.build(self.data, str(self.device))

    def _bytes_left(self, folder: Path, trainable: Trainable) -> int:
        """Of checkpoints and model, at most."""
        from mmkd_cli.training.checkpoints import bytes_left

        trained, kept = _counted(trainable)["trainable"], self.config.train.checkpoints_kept
        return bytes_left(folder / "checkpoints", trainable.model, trained, kept)

    def _workers(self) -> int:
        """A live teacher can't be sent to worker processes: its own data loader uses them."""
        return 0 if self.opened.live else self.context.workers

    def _bench(self, trainable: Trainable) -> Callable[[int], Mapping[str, float]] | None:
        name = self.config.eval_bench
        if name is None:
            return None
        from mmkd_cli.benches.runner import default_split, open_bench, score

        model: Any = trainable.model
        pair, data = self.opened.pairs[0], self.data[0]
        bench = open_bench(name)
        asked = getattr(bench, "asks", "embed_images")
        if not any(hasattr(type(model), way) for way in ((asked,) if isinstance(asked, str) else asked)):
            raise UserError(f"--eval-bench {name} asks what this student does not say: leave it out")
        if not bench.needs_data:
            raise UserError(f"--eval-bench {name} reads files of its own: `mmkd evaluate` the run with it afterwards")
        split = "val" if "val" in pair.data.splits else default_split(bench, pair.data.splits)
        given = BenchInput(model=model, data=pair.data, split=split, targets=data.targets, metrics_only=True,
                           device=str(self.device), workers=self.context.workers)  # fmt: skip
        return lambda epoch: score(name, given).metrics

    def _finish(
        self, artifact: Artifact, trainable: Trainable, trained: Trained, damage: Mapping[str, str]
    ) -> Artifact:  # fmt: skip
        from mmkd_cli.reports.training import write_run_report
        from mmkd_cli.training.model_card import model_card

        folder = artifact.path
        trainable.save(folder)
        paths.write_atomic(folder / "config.toml", configs.to_toml(self.config, self.stage))
        last = {name: round(value, 6) for name, value in trained.last.items()}
        content = {"rows": sum(feed.rows for feed in trainable.feeds), "steps": trained.steps,
                   "skipped_steps": trained.skipped, "parameters": _counted(trainable), "last": last,
                   **({"kept": trained.kept} if trained.kept else {}), **self.recipe.content(trainable)}  # fmt: skip
        paths.write_atomic(folder / "README.md", model_card(artifact, content))
        write_run_report(folder)
        kept = [p for p in (folder / "model").rglob("*") if p.is_file()]
        kept += [folder / n for n in ("heads.safetensors", "metrics.jsonl", "config.toml", "README.md", "report.html")]
        files = {p.relative_to(folder).as_posix(): FileRecord.of(p) for p in sorted(kept) if p.is_file()}
        hashed = {n: r.xxh3_128 for n, r in files.items() if n.endswith(".safetensors") or n == "metrics.jsonl"}
        for name, made in hashed.items():
            if damage and artifact.files[name].xxh3_128 != made:
                raise Refused(f"{artifact.label}: {name} was made again with other bytes: `mmkd rm` it and train anew")
        finished = artifacts.finish(artifact, content=content, files=files, hashed=hashed,
                                    rejected=self.opened.rejected(), started=self.started)  # fmt: skip
        size = sum(record.bytes for record in files.values())
        repaired = f"repaired {', '.join(sorted(damage))} of" if damage else "made"
        console.say(
            f"{repaired} {artifact.label} in {folder}: {trained.steps:,} steps, {content['rows']:,} rows, {size:,} "
            f"bytes, {time.time() - self.started:,.1f} s; " + ", ".join(f"{k} {v:.4g}" for k, v in last.items())
        )
        return finished

    def _document(self, artifact: Artifact, status: str, **more: Any) -> dict[str, Any]:
        finished = {"fingerprint": artifact.fingerprint} if artifact.manifest else {}
        return {"kind": "run", "name": artifact.name, "path": str(artifact.path), "status": status,
                "request": artifact.plan["request"], **finished, **artifact.content,
                "bytes": sum(record.bytes for record in artifact.files.values()),
                "seconds": round(time.time() - self.started, 3), **more}  # fmt: skip


def described(counts: Counts) -> dict[str, Any]:
    """What `mmkd show FILE.toml` says of a configuration's parameters."""
    return {
        "parameters": {"total": counts.total, "trainable": counts.trainable},
        "teacher_parameters": counts.teacher,
        **({"parts": {n: {"total": a, "trainable": b} for n, (a, b) in counts.parts.items()}} if counts.parts else {}),
    }


def open_process(device: str) -> torch.device:
    """This process's device; of several processes the first one speaks."""
    from mmkd_cli.training import distribution
    from mmkd_cli.training.devices import open_device

    opened = open_device(device)
    if distribution.rank() > 0:
        console.LEVEL.quiet = True
    return opened


def _content(file: str, hashes: Path) -> str:
    """SHA-256 of a file or folder; of what is not there (a hub's id) its name."""
    return sha256_file(Path(file), hashes) if Path(file).exists() else file


def named_runs(chosen: Any, config: Any, root: Path) -> tuple[Any, dict[str, Artifact]]:
    """Runs that keys of a method or a task name, opened, by the keys' last words; the configuration with their folders.

    Refused where one is not finished, or is damaged.
    """
    found: dict[str, Artifact] = {}
    for dotted, name in (chosen.runs(config) if hasattr(chosen, "runs") else {}).items():
        table, key_ = dotted.split(".")
        run = artifacts.open_artifact(root, name, "run")
        changed = getattr(config, table).model_copy(update={key_: str(run.path.absolute())})
        config, found[key_] = config.model_copy(update={table: changed}), run
    return config, found


def trains_teacher(chosen: Any, config: Any) -> bool:
    """Whether a method or task makes the teacher's tower a part of its student."""
    return bool(chosen.trains_teacher(config)) if hasattr(chosen, "trains_teacher") else False


def _counted(trainable: Trainable) -> dict[str, int]:
    sizes = [(p.numel(), p.requires_grad) for p in trainable.model.parameters()]
    return {"total": sum(n for n, _ in sizes), "trainable": sum(n for n, trained in sizes if trained)}
