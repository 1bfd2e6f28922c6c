"""The training loop: `train(trainable, config, folder)` takes a run's folder from any checkpoint to the last step."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmkd_cli.core import console
from mmkd_cli.core.contracts import Trainable
from mmkd_cli.core.errors import Interrupted, UserError, nearest
from mmkd_cli.training import checkpoints, distribution
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.devices import compute_precision, deterministic
from mmkd_cli.training.gradients import Gradients
from mmkd_cli.training.interruption import StopSignal
from mmkd_cli.training.loader import Shares, shares
from mmkd_cli.training.metrics_log import MetricsLog, whole_lines
from mmkd_cli.training.normalization import average_running_statistics
from mmkd_cli.training.optim import Optimizer, Schedule, parameter_groups
from mmkd_cli.training.randomness import seed_all
from mmkd_cli.training.sampler import Streams
from mmkd_cli.training.tracking import open_tracker
from mmkd_cli.training.validation import Validation, evaluating

Evaluate = Callable[[int], Mapping[str, float]]
"""Called with the epochs done; its numbers go to evaluations.jsonl."""


@dataclass(frozen=True)
class Trained:
    """What a run did. steps: in all. seconds: of this call. skipped: steps left out. last: the last step's numbers.

    kept: of the validation whose weights the model has now; none where they are the last step's.
    """

    steps: int
    rows: int
    seconds: float
    skipped: int
    last: dict[str, float] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)


def total_steps(config: TrainConfig, sampler: Streams) -> int:
    """max_steps, or epochs times the steps of one."""
    return config.max_steps or config.epochs * sampler.steps_per_epoch


def train(
    trainable: Trainable, config: TrainConfig, folder: Path, *, device: torch.device, mix: str = "concat",
    workers: int = 0, evaluate: Evaluate | None = None,
) -> Trained:  # fmt: skip
    """Train to the last step, from the newest checkpoint in `folder`. Writes metrics.jsonl and checkpoints/.

    Interrupted after SIGTERM, UserError where a loss is not finite. On a CPU the same call gives the same bits,
    however often it was killed.
    """
    return _Run(trainable, config, folder, device, mix, workers, evaluate).run()


@dataclass(frozen=True)
class Probe:
    """What a run would cost. bytes: of its checkpoints and model. total, trainable: parameters."""

    steps: int
    steps_per_epoch: int
    seconds: float
    seconds_per_step: float
    bytes: int
    total: int
    trainable: int


def probe(
    trainable: Trainable, config: TrainConfig, *, device: torch.device, mix: str = "concat", workers: int = 0
) -> Probe:
    """Time a few training steps (the first is left out, the median counts). Writes nothing; changes the trainable."""
    run = _Run(trainable, config, Path(), device, mix, workers, None)
    run.model.train()
    times = [time.monotonic()]
    for step in shares(run.sampler, trainable.feeds, range(min(6, run.total)), workers=workers):
        run.step(step)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic())
    spans = [b - a for a, b in pairwise(times)]
    per_step = statistics.median(spans[1:] or spans)
    sizes = [(p.numel(), p.requires_grad) for p in run.model.parameters()]
    trained = sum(n for n, grad in sizes if grad)
    size = checkpoints.bytes_needed(run.model, trained, config.checkpoints_kept + run.best.wanted)
    return Probe(run.total, run.sampler.steps_per_epoch, per_step * run.total, per_step, size,
                 sum(n for n, _ in sizes), trained)  # fmt: skip


class _Run:
    def __init__(
        self, trainable: Trainable, config: TrainConfig, folder: Path, device: torch.device, mix: str, workers: int,
        evaluate: Evaluate | None,
    ) -> None:  # fmt: skip
        self.trainable, self.config, self.folder, self.device = trainable, config, folder, device
        self.workers, self.evaluate = workers, evaluate
        self.main = distribution.rank() == 0
        self.model = trainable.model.to(device)
        for module in trainable.frozen:
            module.to(device).eval().requires_grad_(False)
        if config.gradient_checkpointing:
            _checkpoint_activations(self.model)
        self.sampler = Streams(trainable.feeds, config.batch_size, config.seed, mix, config.drop_last)
        self.total = total_steps(config, self.sampler)
        groups = parameter_groups(self.model, trainable.parameter_groups(config.peak_lr, config.weight_decay), config)
        self.optimizer = Optimizer(groups)
        self.parameters: list[Tensor] = [p for group in self.optimizer.groups for p in group.params]
        free = {id(p) for group in groups for p in group.params if config.clip_norm and not group.config.clip_norm}
        self.bounded = [p for p in self.parameters if id(p) not in free]
        self.unbounded = [p for p in self.parameters if id(p) in free]
        self.schedule = Schedule(self.optimizer, self.total)
        precision = compute_precision(config.precision, device)
        self.gradients = Gradients(trainable, self.parameters, config, device, precision)
        self.validate = Validation(trainable, config, device, precision, workers)
        self.best = _Best(config, trainable, folder / "checkpoints")
        self.metrics = MetricsLog(folder / "metrics.jsonl", self.main, self.sampler, trainable.feeds)
        self.skipped = 0

    def run(self) -> Trained:
        started, rows = time.monotonic(), 0
        first = self._resume()
        if self.config.track and self.main:
            self.metrics.track = open_tracker(self.config.track, self.folder, first)
        self.model.train()
        steps = shares(
            self.sampler, self.trainable.feeds, range(first, self.total), workers=self.workers,
            rank=distribution.rank(), processes=distribution.processes(), pin=self.device.type == "cuda",
        )  # fmt: skip
        with (
            deterministic(self.device),
            StopSignal() as stop,
            console.progress("training", self.total if self.main else 0, "steps", first) as meter,
        ):
            if first:
                self._after_epoch(first)
            for done, step in enumerate(steps, first + 1):
                self.step(step)
                rows += sum(share.whole.size for share in step)
                flush = done % self.config.log_every == 0 or done == self.total
                if flush:
                    self.metrics.flush()
                if self.main:
                    meter.advance(1, self._note())
                stopping = (flush or self.device.type == "cpu") and distribution.any_of(stop.asked, self.device)
                self._at(done, stopping)
                if stopping and done < self.total:
                    steps.close()
                    raise Interrupted(
                        f"stopped after step {done} of {self.total}, checkpoint written: "
                        "run the same command again to go on"
                    )
        kept = self.best.load(self.model)
        return Trained(self.total, rows, time.monotonic() - started, self.skipped, self.metrics.last_step(), kept)

    def _resume(self) -> int:
        """Load the newest checkpoint; steps done before."""
        place = self.folder / "checkpoints"
        if self.main:
            checkpoints.sweep(place)
            trainable_count = sum(p.numel() for p in self.parameters)
            checkpoints.require_room(
                place, self.model, trainable_count, self.config.checkpoints_kept + self.best.wanted
            )
        distribution.wait()
        record = checkpoints.restore(place, self.model, self.optimizer)
        if record is not None and record.processes != distribution.processes():
            console.warn(
                f"the run began with {record.processes} processes and goes on with {distribution.processes()}: "
                "its losses will differ in their last digits"
            )
        if self.main:
            checkpoints.cut(self.folder / "metrics.jsonl", record.metrics_bytes if record else 0)
        distribution.wait()
        self.skipped = record.skipped if record else 0
        return record.step if record else 0

    def step(self, shares: Shares) -> None:
        batch = shares[0].whole
        lr = self.schedule.set(batch.step)
        self.trainable.before_step(batch.step)
        said = self.gradients(shares)
        if self.trainable.measured:
            said.report.update(self.gradients.loss_shares(shares, self.trainable.measured, said.losses))
        checked = {"loss": self.gradients.weighted(said.losses), **said.losses}
        if self.config.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.config.clip_value)
        gradients, others = ([p.grad for p in part if p.grad is not None] for part in (self.bounded, self.unbounded))
        if self.config.clip_norm is not None or self.config.on_nan == "skip":
            norm = nn.utils.get_total_norm(gradients)
            checked["grad_norm"] = norm
            finite = [*checked.values(), *([nn.utils.get_total_norm(others)] if others else [])]
            if self.config.on_nan == "skip" and not bool(torch.stack(finite).isfinite().all()):
                self.skipped += 1
                self.metrics.skipped(batch, lr)
                self.optimizer.zero_grad()
                return
            if self.config.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(self.bounded, self.config.clip_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        seed_all(self.config.seed, "after", batch.step)
        self.trainable.after_step(batch.step, said.gathered)
        self.metrics.step(batch, lr, checked, said.report)

    def _at(self, done: int, stopping: bool) -> None:
        """What happens after some steps: validation, a checkpoint, the bench."""
        epoch_ends = done % self.sampler.steps_per_epoch == 0 or done == self.total
        saves = epoch_ends or stopping or done % self.config.checkpoint_every == 0
        every = self.config.validate_every
        validates = self.config.validation and self.trainable.validation
        validates = validates and (done % every == 0 if every else epoch_ends)
        validates = validates or (self.best.wanted and done == self.total)
        if saves or validates:
            average_running_statistics(self.model)
        if validates:
            line = {"step": done, "epoch": (done - 1) // self.sampler.steps_per_epoch, **self.validate()}
            self.metrics.add(line)
            if self.main:
                self.best.seen(self.model, done, line)
            console.say(f"step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in line.items() if k.startswith("val/")))
        if saves:
            self.metrics.flush()
            if self.main:
                record = checkpoints.Record(done, self.metrics.bytes(), self.skipped, distribution.processes())
                place = self.folder / "checkpoints"
                checkpoints.save(place, self.model, self.optimizer, record, self.config.checkpoints_kept)
            distribution.wait()
        if epoch_ends and not stopping:
            self._after_epoch(done)

    def _after_epoch(self, done: int) -> None:
        """Run the bench at an epoch's end, unless an earlier start of this run already did."""
        if self.evaluate is None or (done % self.sampler.steps_per_epoch and done != self.total):
            return
        with distribution.main_works() as main:
            path = self.folder / "evaluations.jsonl"
            if main and not any(line["step"] == done for line in whole_lines(path)):
                with evaluating(self.model):
                    scores = dict(self.evaluate(-(-done // self.sampler.steps_per_epoch)))
                line: dict[str, Any] = {"step": done, **scores}
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line, allow_nan=False) + "\n")
                console.say(f"step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))

    def _note(self) -> str:
        return " ".join(f"{name} {value:.4g}" for name, value in list(self.metrics.last.items())[:4])


class _Best:
    """`train.keep`: the weights of the validation where a number was least or most."""

    def __init__(self, config: TrainConfig, trainable: Trainable, folder: Path) -> None:
        self.sign, self.name = {"min": -1.0, "max": 1.0}.get(config.keep[:3], 0.0), config.keep[4:]
        self.wanted, self.folder = self.sign != 0, folder
        if self.wanted and not (config.validation and trainable.validation):
            raise UserError(f"train.keep={config.keep} needs a validation: the data have no val split, or it is off")

    def seen(self, model: nn.Module, step: int, line: Mapping[str, Any]) -> None:
        """Keep the weights of a validation that is better than all before it."""
        if not self.wanted:
            return
        if self.name not in line:
            raise UserError(f"train.keep: validation has no {self.name!r}{nearest(self.name, line)}")
        value, before = float(line[self.name]), checkpoints.best_so_far(self.folder)
        if before is None or self.sign * value > self.sign * before.value:
            checkpoints.save_best(self.folder, model, checkpoints.Best(step, value))

    def load(self, model: nn.Module) -> dict[str, float]:
        if not self.wanted:
            return {}
        best = checkpoints.load_best(self.folder, model)
        return {"step": best.step, self.name: best.value}


def _checkpoint_activations(model: nn.Module) -> None:
    """Switch on gradient checkpointing wherever a module of the model offers it (transformers, timm, open_clip)."""
    found = False
    for module in model.modules():
        for switch in ("gradient_checkpointing_enable", "set_grad_checkpointing"):
            if hasattr(module, switch):
                getattr(module, switch)()
                found = True
    if not found:
        raise UserError(f"{type(model).__name__} has no gradient checkpointing: set train.gradient_checkpointing=false")
