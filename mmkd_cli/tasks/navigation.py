"""Fine-tuning: an agent learns to follow instructions through houses, by imitation and by its own walks (EnvDrop)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.walks import Houses, Views
from mmkd_cli.metrics.navigation import navigation_scores
from mmkd_cli.students.envdrop import EnvDrop
from mmkd_cli.students.instructions import InstructionWords
from mmkd_cli.students.navigators import Navigator, Thinned
from mmkd_cli.students.observing import Steps
from mmkd_cli.students.speaker import Speaker
from mmkd_cli.students.walking import draw, imitate, search
from mmkd_cli.tasks.walking_feed import InstructedWalks, Place, SampledWalks, usual_signal, views_of
from mmkd_cli.training.optim import decay_groups
from mmkd_cli.training.randomness import generator, seed_all

VALIDATION = ("val", "val_seen", "val_unseen")
COUNTED = 987
"""Words that are counted where no data say them: R2R's that occur five times."""

AUGMENTED = "augmented"
"""Stream of paths without instructions."""

RECIPE: dict[str, Any] = {
    "max_steps": 80_000, "batch_size": 64, "peak_lr": 1e-4, "eps": 1e-8, "weight_decay": 0.0, "schedule": "constant",
    "warmup_ratio": 0.0, "momentum": 0.0, "clip_norm": 40.0, "validate_every": 2000,
}  # fmt: skip
"""[C] EnvDrop, as CLIP-ViL has it; its validations are twenty times as many."""


class NavigationTuningConfig(Config):
    """Keys of tasks about walks."""

    name: str = key("", "the task")
    signal: str | None = key(
        None, "teacher signal: `views` of viewpoints, or one of their pictures (None: image_embedding where the data "
        "have pictures, else views)", source="[C] CLIP-ViL: pooled, 36 views a viewpoint",
    )  # fmt: skip
    least: int = key(5, "words that the training instructions have so often", source="[C] EnvDrop: 5", ge=1)
    language: str = key("", "only instructions whose language begins so, as en of RxR", source="[C] CLIP-ViL: one "
                        "model a language")  # fmt: skip
    route: Literal["shortest", "path"] = key(
        "shortest", "the way that is learnt: the shortest one to the goal, or the path that was meant",
        source="[C] CLIP-ViL",
    )  # fmt: skip
    feature_dropout: float = key(0.3, "of the pictures' features", source="[C] EnvDrop: 0.3, with a speaker 0.4", ge=0,
                                 lt=1)  # fmt: skip


class R2rTuningConfig(NavigationTuningConfig):
    """Keys of the task `r2r`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "envdrop"}, "train": {**RECIPE, "optimizer": "rmsprop"},
    }  # fmt: skip

    name: str = key("r2r", "the task")
    imitation_weight: float = key(0.2, "of the steps along the route", source="[C] CLIP-ViL: 0.2; of RxR 0.4", ge=0)
    policy_weight: float = key(1.0, "of the agent's own walks; 0: imitation alone", source="[C] EnvDrop", ge=0)
    critic_weight: float = key(0.5, "of the critic's squared error, times policy_weight", source="[C] EnvDrop", ge=0)
    entropy_weight: float = key(0.01, "of the steps' entropy, times policy_weight", source="[C] EnvDrop", ge=0)
    gamma: float = key(0.9, "discount of a step's reward", source="[C] EnvDrop", ge=0, le=1)
    most_actions: int = key(35, "steps of a walk", source="[C] EnvDrop: 35", ge=1)
    environment_dropout: bool = key(
        False, "of paths that the speaker describes: the same channels are dropped in all views, steps and walks of a "
        "batch", source="[C] EnvDrop: with a speaker",
    )  # fmt: skip
    speaker: str | None = key(
        None, "RUN of r2r-speaker: it says instructions of paths that nobody was asked about",
        source="[C] EnvDrop: back-translation", identity=False,
    )  # fmt: skip
    augmented_weight: float = key(0.6, "imitation_weight of such paths", source="[C] EnvDrop: 0.6", ge=0)
    augmented_rows: int = key(178_000, "such paths, drawn by the seed from the training houses", unit="paths",
                              source="[C] EnvDrop: about 178,000", ge=1)  # fmt: skip


class NavigationTuning(Trainable):
    """`core.contracts.FinetuneTask` and its `Trainable`; a task is this with its student and `forward`."""

    Config: ClassVar[type] = NavigationTuningConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    fresh: ClassVar[tuple[str, ...]] = ("envdrop", "speaker")
    student: ClassVar[type[Navigator]]

    def __init__(
        self, model: Any, config: Any, houses: Houses, views: Views, feeds: Sequence[InstructedWalks],
        validation: Sequence[InstructedWalks],
    ) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.steps = Steps(houses, views, model.config.angle_width)
        self.feeds: list[Any] = list(feeds)
        self.validation = list(validation)
        self._seed = self._step = 0
        self.content = {"words": len(model.tokenize.words), "viewpoints": len(houses)}

    # ------------------------------------------------------------------------------------------ task
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The views."""
        return (config.task.signal or usual_signal(tables),)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """No file decides the first weights."""
        return {}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Self:
        """A new student, its words those of the training instructions, or the one of a run; feeds of `train` and of
        what there is of `val`, `val_seen`, `val_unseen`."""
        task = config.task
        trained = [Place.of(one, "train", task.language) for one in data]
        held = [Place.of(one, split, task.language) for one in data for split in VALIDATION
                if split in one.splits and one.targets(split) is not None]  # fmt: skip
        signal = task.signal or usual_signal(data[0].tables("train"))
        houses, views, first = views_of([*trained, *held], signal)
        channels = Steps(houses, views, config.student.angle_width).channels
        seed_all(config.train.seed, "new weights")
        if start is None:
            said = (text for place in trained
                    for text in place.table[place.rows.tolist()].column("instruction").to_pylist())  # fmt: skip
            words = InstructionWords.of(said, task.least, config.student.max_words).words
            model = cls.student(config.student, words, channels, signal)
        else:
            model = cls.student.load(start, {"student": config.student.model_dump(mode="json")})
        require_seen(model, channels, signal)
        several = len(data) > 1
        made = [
            place.feed(houses, row, task.route, model.tokenize,
                       f"{place.data.name}-{place.split}" if several else place.split)
            for place, row in zip([*trained, *held], first, strict=True)
        ]  # fmt: skip
        cut = len(trained)
        return cls(model.to(device), task, houses, views, made[:cut], made[cut:])

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device, with about R2R's words; the teacher's beside them."""
        if teacher is None:
            raise UserError("the views' width comes from the teacher: name one ([teacher] name=..., or a cache)")
        offered = teacher.signals()
        signal = config.task.signal or ("views" if "views" in offered else "image_embedding")
        if signal not in offered:
            raise UserError(f"teacher gives no signal {signal!r}{nearest(signal, offered)}")
        model = cls.student.empty(config.student, COUNTED, offered[signal].shape[-1])
        size = sum(parameter.numel() for parameter in model.parameters())
        return Counts(size, size, teacher.parameters_count())

    @classmethod
    def writes(cls, config: Any) -> Mapping[str, Mapping[str, Any]]:
        """Nothing of its own."""
        return {}

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        raise NotImplementedError

    def thinned(self, device: torch.device) -> Thinned:
        """Features are dropped one by one in training."""
        rate, training = self.config.feature_dropout, self.model.training
        return lambda pictures: F.dropout(pictures, rate, training)

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices; tables and biases without decay."""
        return decay_groups(self.model, self.model.parameters(), peak_lr, weight_decay)

    def save(self, folder: Path) -> None:
        """The student writes its own files."""
        self.model.save(folder)


class R2rTuning(NavigationTuning):
    """The agent."""

    Config: ClassVar[type] = R2rTuningConfig
    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {"envdrop": ("envdrop",)}
    student: ClassVar[type[Navigator]] = EnvDrop

    @property
    def weights(self) -> Mapping[str, float]:  # type: ignore[override]
        """Of the losses of imitation and of own walks."""
        task = self.config
        parts = {"policy": 1.0, "critic": task.critic_weight, "entropy": task.entropy_weight}
        own = {name: task.policy_weight * one for name, one in parts.items()}
        augmented = {f"{AUGMENTED}_{name}": one for name, one in own.items()}
        return {"imitation": task.imitation_weight, **own, f"{AUGMENTED}_imitation": task.augmented_weight, **augmented}

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The critic's gradient is not bounded."""
        agent = [p for name, p in self.model.named_parameters() if not name.startswith("critic.")]
        return [
            *decay_groups(self.model, agent, peak_lr, weight_decay),
            *({**group, "train": {"clip_norm": None}}
              for group in decay_groups(self.model, self.model.critic.parameters(), peak_lr, weight_decay)),
        ]  # fmt: skip

    @classmethod
    def runs(cls, config: Any) -> dict[str, str]:
        """The speaker."""
        return {"task.speaker": config.task.speaker} if config.task.speaker else {}

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Self:
        """As every task of walks; with a speaker also a feed of paths without instructions."""
        made, task = super().build(config, data, start, device), config.task
        made._seed = config.train.seed
        if task.speaker is None:
            return made
        speaker = Speaker.of(_model_of(task.speaker)).to(device)
        require_seen(speaker, made.model.channels, made.model.image_signal)
        known = sum(len(one.tables("train")["viewpoints"]) for one in data)
        made.frozen = (speaker,)
        made.feeds.append(SampledWalks(AUGMENTED, 1.0, made.steps.houses, known, task.augmented_rows,
                                       config.train.seed))  # fmt: skip
        return made

    @classmethod
    def writes(cls, config: R2rTuningConfig) -> Mapping[str, Mapping[str, Any]]:
        """Instructions of the same language."""
        return {name: {"language": config.language} for name in ("r2r", "rxr")}

    def forward(self, batch: Batch) -> Outputs:
        """In training `imitation` of each row; `policy`, `critic` and `entropy` divided by the steps that the share's
        walks took; `reward`; of paths without instructions the same, `augmented_` before their names. In validation
        `imitation`, and what the likeliest walks come to: `success`, `spl`, `ndtw`, and `error` in metres."""
        task, model = self.config, self.model
        route, view, goal = (batch[name].cpu() for name in ("route", "view", "goal"))
        spoken = "input_ids" not in batch
        thinned = self.environment(batch["goal"].device) if spoken else self.thinned(batch["goal"].device)
        given = self._spoken(route, view, thinned) if spoken else batch
        read = model.reader(
            given["input_ids"].to(batch["goal"].device), given["attention_mask"].to(batch["goal"].device)
        )
        outputs, training = Outputs(), torch.is_grad_enabled()
        if (task.augmented_weight if spoken else task.imitation_weight) or not training:
            outputs.row_losses["imitation"] = imitate(model, read, self.steps, route, view, thinned, task.most_actions)
        if not training:
            outputs.report = self._walked(read, view, batch["path"].cpu())
        elif task.policy_weight:
            drawn = draw(model, read, self.steps, route[:, 0], view, goal, thinned, most=task.most_actions,
                         gamma=task.gamma)  # fmt: skip
            share = len(goal) / drawn.steps.sum()
            outputs.row_losses |= {name: getattr(drawn, name) * share for name in ("policy", "critic", "entropy")}
            outputs.report = {"reward": drawn.reward}
        if spoken:
            outputs.row_losses, outputs.report = (
                {f"{AUGMENTED}_{name}": value for name, value in values.items()}
                for values in (outputs.row_losses, outputs.report)
            )
        return outputs

    @torch.no_grad()
    def _spoken(self, route: Tensor, view: Tensor, thinned: Thinned) -> Batch:
        """Instructions that the speaker gives, who sees the same environment as the agent, or all of it."""
        (speaker,) = self.frozen
        seen = thinned if self.config.environment_dropout else lambda pictures: pictures
        said: Batch = self.model.tokenize(speaker.say(speaker.watch(self.steps, route, view, seen)))
        return said

    def before_step(self, step: int) -> None:
        """The environment that a batch of paths without instructions is walked in."""
        self._step = step

    def environment(self, device: torch.device) -> Thinned:
        """With `environment_dropout` one mask of the channels, whatever part of the step's batch this is."""
        rate = self.config.feature_dropout
        if not (self.config.environment_dropout and self.model.training):
            return self.thinned(device)
        kept = generator(self._seed, "environment dropout", self._step).random(self.model.channels) >= rate
        mask = torch.from_numpy(kept / (1 - rate)).float().to(device)
        return lambda pictures: pictures * mask

    def _walked(self, read: Any, view: Tensor, paths: Tensor) -> dict[str, Tensor]:
        """Of each row. paths int64 [B, P]: those that were meant."""
        houses, most = self.steps.houses, self.config.most_actions
        walked = search(self.model, read, self.steps, paths[:, 0], view, beams=1, most=most)
        found = []
        for row, path in enumerate(paths.tolist()):
            first, distances = houses.within(path[0])
            meant = [node - first for node in path if node >= 0]
            found.append(navigation_scores(distances, [node - first for node, _ in walked.of(row)], meant))
        names = {"success": "SR", "spl": "SPL", "ndtw": "nDTW", "error": "NE"}
        return {
            name: torch.tensor([one[key] for one in found], device=read.state.device) for name, key in names.items()
        }


def _model_of(run: str) -> Path:
    """The model of a run's folder; UserError where there is none."""
    place = Path(run).expanduser() / "model"
    if not (place / "words.json").is_file():
        raise UserError(f"task.speaker={run} holds no model of a speaker: name the folder of a run of r2r-speaker")
    return place


def require_seen(model: Navigator, channels: int, signal: str) -> None:
    """UserError where a model sees other views than the data give."""
    if (model.channels, model.image_signal) != (channels, signal):
        raise UserError(
            f"the model sees {model.image_signal!r} of width {model.channels}, the data give {signal!r} of {channels}: "
            "name a cache of its own teacher, or set task.signal"
        )
