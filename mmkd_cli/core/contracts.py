"""The protocols that the rooms of the house meet by. Shapes: B rows of a batch, N rows of the global batch.

Stages meet on disk; inside a stage these are the seams. Nothing here imports torch when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from mmkd_cli.core.paths import check_name

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor, nn

Batch = dict[str, Any]
"""Names to tensors (or lists of str), all with the batch's rows first."""


# ------------------------------------------------------------------------------------------------ running a stage
@dataclass(frozen=True)
class StageContext:
    """How a stage runs: nothing here decides what it makes.

    root: of all artifacts. name: of the artifact, None for the default made from the request. device: auto, cpu, cuda,
    cuda:1, mps. workers: processes that decode pictures. shard: (K, N), this process's share of a cache's shards.
    """

    root: Path
    name: str | None = None
    device: str = "auto"
    workers: int = 0
    dry_run: bool = False
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.name is not None:  # before it is joined to the root: a name must not lead out of it
            check_name(self.name)


# ------------------------------------------------------------------------------------------------ pictures
@dataclass(frozen=True)
class View:
    """One augmented view of a picture: a crop in fractions of the stored picture, a flip, colour factors."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


class PictureTransform(Protocol):
    """From a picture to a model's input. Picklable (worker processes run it)."""

    def __call__(self, image: Image, view: View | None = None) -> Tensor:
        """uint8 [3, H, W]. With a view its crop replaces the evaluation crop."""
        ...

    def normalize(self, pixels: Tensor, dtype: Any) -> Tensor:
        """uint8 [B, 3, H, W] on any device to the model's range: (x / 255 - mean) / std."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything that changes what a model sees."""
        ...


Tokenize = Callable[[Sequence[str]], dict[str, "Tensor"]]
"""Texts to input_ids [B, L] and attention_mask [B, L] (1 where a token is), int64, L fixed."""


# ------------------------------------------------------------------------------------------------ teachers
@dataclass(frozen=True)
class SignalSpec:
    """What a teacher says about each row of a table.

    shape: of one row's value; () for a number a row. ragged: the first axis varies by row (shape[0]: its bound, or 0).
    dtype: the kind that is stored when none is asked for. default: stored when no signals are named. along: signals
    without which this one can't be read, stored wherever it is.
    """

    name: str
    table: str
    shape: tuple[int, ...]
    ragged: bool = False
    dtype: str = "bfloat16"
    default: bool = True
    along: tuple[str, ...] = ()


@runtime_checkable
class Teacher(Protocol):
    """A frozen model and the signals that it gives. `Teacher(config)` is cheap: no weights are read.

    One that is also asked for what depends on the student says so in `not_cacheable`, a sentence.
    """

    Config: ClassVar[type]

    def __init__(self, config: Any) -> None: ...

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """What decides its answers: architecture, SHA-256 of the weights (noted in `memory`), transform, options."""
        ...

    def signals(self) -> dict[str, SignalSpec]:
        """All that it can say, by name; needs no weights."""
        ...

    @property
    def picture_transform(self) -> PictureTransform | None: ...

    @property
    def tokenize(self) -> Tokenize | None: ...

    def parameters_count(self) -> int:
        """Parameters, counted without weights."""
        ...

    def load(self, device: str, dtype: str = "float32") -> None:
        """Read the weights. dtype is the compute precision: float32 or bfloat16."""
        ...

    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        """Signals of a batch, [B, ...] each (ragged ones: a list of B tensors), float32 or the compute precision.

        batch: "row" int64 [B], "id" list[str], "split" str always; of pictures "pixels" uint8 [B, 3, H, W], or where
        the transform gives several sizes a list of [3, H, W]; what `tokenize` gave for text tables. Runs under no_grad;
        does not depend on what else is in the batch.
        """
        ...


class Ragged(NamedTuple):
    """Values of several rows, one after another: values [sum of lengths, ...], offsets int64 [rows + 1]."""

    values: Tensor
    offsets: Tensor

    def padded(self, length: int = 0) -> Tensor:
        """[rows, longest, ...], zeros behind each row's end; `length` pads to so many instead. Integers as int64.

        A row's mask is `arange(longest) < offsets.diff()[:, None]`.
        """
        values = self.values if self.values.is_floating_point() else self.values.long()
        lengths = self.offsets.diff()
        longest = length or (int(lengths.max()) if len(lengths) else 0)
        out = values.new_zeros((len(lengths), longest, *values.shape[1:]))
        places = lengths.new_tensor(range(longest))
        out[places < lengths[:, None]] = values
        return out


@runtime_checkable
class Targets(Protocol):
    """Teacher signals of training rows, from a cache or from a live teacher: the same numbers.

    n_views: augmented views a picture, 0 where the teacher saw each picture through its evaluation transform.
    """

    specs: Mapping[str, SignalSpec]
    n_views: int

    def view_of(self, row: int, view: int) -> View:
        """The crop, flip and colours of a picture's view; only where n_views is not 0."""
        ...

    def gather(
        self, signals: Sequence[str], rows: np.ndarray, views: np.ndarray | None = None
    ) -> dict[str, Tensor | Ragged]:
        """Signals of one table's rows, in the stored dtype: [len(rows), ...] each, ragged ones as `Ragged`.

        Where n_views is not 0, a picture's signal has all its views, [len(rows), n_views, ...], or the one that
        `views` picks for each row; everything else takes no notice of `views`.
        """
        ...


# ------------------------------------------------------------------------------------------------ students
@runtime_checkable
class DualEncoder(Protocol):
    """Pictures and texts to vectors that a dot product compares: our runs, open_clip, transformers, two halves.

    image_signal: None where pictures are the input; else the teacher signal that it starts from (a cache serves it,
    or `teacher`, live). layers: the outputs that can be asked for, the last is the default.
    """

    image_signal: str | None
    layers: tuple[str, ...]

    def identity(self) -> dict[str, Any]: ...

    @property
    def picture_transform(self) -> PictureTransform: ...

    @property
    def tokenize(self) -> Tokenize: ...

    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, D], not normalised. batch: "pixels" uint8 [B, 3, H, W], or the signal by its name."""
        ...

    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, D], not normalised, of what `tokenize` gave."""
        ...


class LatentDenoiser(Protocol):
    """A text-to-image diffusion model in parts, frozen. Latents are [C, h, w] = `latent_shape`, of pictures S px wide.

    timesteps: how many there are, from 0 on.
    """

    def identity(self) -> dict[str, Any]: ...

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...

    @property
    def picture_size(self) -> int: ...

    @property
    def timesteps(self) -> int: ...

    def latents(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """pixels [B, 3, S, S] from -1 to 1 -> [B, C, h, w]: the mean, or with noise of that shape a sample, scaled."""
        ...

    def text_states(self, texts: Sequence[str]) -> Tensor:
        """[B, L, D]."""
        ...

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """latents, noise [B, C, h, w], timesteps int64 [B] -> [B, C, h, w]."""
        ...

    def noise_in(self, noisy: Tensor, timesteps: Tensor, text_states: Tensor) -> Tensor:
        """The noise that it finds: float32 [B, C, h, w]."""
        ...


class Counts(NamedTuple):
    """Parameters of a training set-up, without and with what is frozen; the teacher apart.

    parts: name -> total and trainable of each, where the set-up has several.
    """

    total: int
    trainable: int
    teacher: int
    parts: Mapping[str, tuple[int, int]] = {}


# ------------------------------------------------------------------------------------------------ training
class Position(NamedTuple):
    """Where a batch lies: everything random about it is a pure function of this and the seed."""

    epoch: int
    step: int
    first: int
    """Place of this share's first row in the global batch."""


class Feed(Protocol):
    """Training rows of one data set.

    stream: feeds of one stream are mixed; a step takes a batch of each stream, and the first one makes the epoch.
    """

    name: str
    rows: int
    weight: float
    stream: str

    def load(self, rows: np.ndarray, at: Position) -> Batch:
        """CPU tensors (or lists of str) of these rows, each of one shape a row whatever the rows are: ragged signals
        padded to a fixed length, with a mask. Pictures of several sizes are a list of tensors. Runs in worker processes
        or on the prefetch thread; picklable."""
        ...


@dataclass
class Outputs:
    """What a trainable says of its share of a batch.

    row_losses: name -> one value a row (or a token): the loss is their sum over the global batch divided by its count.
    gathered: name -> [B, ...]: collected, with gradient, over micro-batches and processes in the global batch's order,
    and handed to `joint_losses`. report: name -> one value a row, averaged and logged only.
    """

    row_losses: dict[str, Tensor] = field(default_factory=dict)
    gathered: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, Tensor] = field(default_factory=dict)


class Trainable(Protocol):
    """What the training loop drives: a method's or a task's model, data and losses. A class of it says what it needs.

    The sum of all losses times their weights is minimised. Losses are float32. Everything that training changes lives
    in `model` (banks and averages as buffers or frozen submodules), so that a checkpoint of it is complete.
    frozen: modules beside the model that never change (a UNet): moved to its device, in no checkpoint and no run.
    A batch comes from the feeds of one stream; its keys tell which. Each loss has its name in one stream only.
    measured: parameters that `before_step` sets; where there are any, each loss's share in their gradient is logged.
    content: for the manifest.
    """

    model: nn.Module
    feeds: Sequence[Feed]
    validation: Sequence[Feed] = ()
    frozen: Sequence[nn.Module] = ()
    weights: Mapping[str, float] = MappingProxyType({})
    """Loss name -> weight; 1.0 where absent."""
    measured: Sequence[Tensor] = ()
    content: Mapping[str, Any] = MappingProxyType({})

    def prepare(self, batch: Batch) -> Batch:
        """What the losses need beyond the share of a batch, on its device: texts that the model samples, rewards.

        Runs once a share without gradients, before `counts` and `forward`; in validation, too (`model.training` tells).
        What it adds has the batch's rows first.
        """
        return batch

    def forward(self, batch: Batch) -> Outputs:
        """Run `model(batch)` for a share of the batch, on its device. Called in training and in validation."""
        ...

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """Loss name -> how many values a share contributes, for losses that do not count rows (tokens)."""
        return {}

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Losses of the whole global batch, from what was gathered: scalars."""
        return {}

    def before_step(self, step: int) -> None:
        """Set what depends on the step: weights, which parameters have gradients."""
        return

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        """Clamp a scale, update a bank or an average. `gathered` is detached."""
        return

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: params, lr, weight_decay; each trainable parameter exactly once.

        A group may have `train`, keys of the training table that it has for its own: optimizer, momentum, betas, eps,
        schedule, warmup_ratio, warmup_steps, drops, drop_factor, clip_norm (None: its gradient is not bounded).
        """
        ...

    def save(self, folder: Path) -> None:
        """Write `model/` in the model's own library's layout, and heads.safetensors, into the run's folder."""
        ...


class Method(Protocol):
    """What `distill --method` names.

    One that runs parts of the teacher beside the student, of which no signal is cached, says `runs_teacher = True`:
    the teacher's files must then be those that the caches were made with. One whose student has the teacher's tower as
    a part that is trained says so by `trains_teacher(config)`. One that reads the teacher's tokenizer
    alone says `reads_tokenizer = True`. One may have `if_cached`, as `signals`: what it reads of a data set of which
    `signals` names nothing, where a cache of it is named; `repairs(config)`, name -> sentence, for the manifest; and
    `runs(config)`, dotted key -> the run that it names, which the stage opens and gives by its folder; those of
    `of_other_teachers`, by the keys' last words, may be of another teacher than the caches.
    """

    Config: ClassVar[type]

    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Teacher signals that it needs of a data set with these tables; () for none. `config`: the stage's."""
        ...

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> file, folder or hub id whose content decides the first weights; enters the request by hash."""
        ...

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> Trainable:
        """The trainable, weights loaded. `config` is the whole stage config: method, student, teacher, train tables."""
        ...

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters of what it would build, on the meta device: no weights, no network."""
        ...


class FinetuneTask(Protocol):
    """What `finetune --task` names: as a method, and what it starts from.

    trains: student -> the students of runs that it can start from, none where it starts from nothing; `fresh`, if a
    task has it, names students that may start from a run and need none. stage_defaults of its Config name the usual
    student; one that reads pictures does so in its feeds, one that reads a teacher's signals names them in `signals`.
    `runs` and `trains_teacher` are as a method's.
    """

    Config: ClassVar[type]
    trains: ClassVar[Mapping[str, Collection[str]]]

    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """As a method's."""
        ...

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> file that decides the first weights or the rows, beside those of the student."""
        ...

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], start: Path | None, device: str) -> Trainable:
        """The trainable, weights loaded. start: the run's folder, None where the student's own keys say all."""
        ...

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """As a method's."""
        ...

    @classmethod
    def writes(cls, config: Any) -> Mapping[str, Mapping[str, str]]:
        """Task of `generate` -> its keys as the model was trained for them; `config`: the task's own table."""
        ...


class Table(Protocol):
    """Rows of a split's table, on disk (a datasets.Dataset is one)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True)
class TrainingData:
    """One opened data set of a distillation.

    tables(split) -> {table name: Table}. targets(split) -> the teacher's signals of that split, None without a teacher.
    rejected(split, table): rows that must not be used.
    """

    name: str
    weight: float
    splits: tuple[str, ...]
    tables: Callable[[str], Mapping[str, Table]]
    targets: Callable[[str], Targets | None]
    rejected: Callable[[str, str], np.ndarray]


# ------------------------------------------------------------------------------------------------ writing
class TextItem(NamedTuple):
    """What a text is written for. source: what the model reads. prefix: how a decoder must begin.

    wanted: whether a text is to be written at all. image_row: of the images table, -1 without a picture; more_rows: of
    further pictures. asked: what a person would be shown beside the text.
    """

    id: str
    source: str
    prefix: str = ""
    image_row: int = -1
    asked: str = ""
    more_rows: tuple[int, ...] = ()
    wanted: bool = True


class Task(Protocol):
    """What `generate --task` names. Rows are those of `table` unless files of its own hold the items.

    sees: whether each text is about a picture. file: the official result file's name; JSON lines, or values parted by
    commas with no header, where it ends so.
    inputs: what `generate` is given in place of data: image, question, prompt.
    """

    Config: ClassVar[type]
    table: ClassVar[str]
    sees: ClassVar[bool]
    file: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any) -> None: ...

    def files(self) -> Mapping[str, str]:
        """Key -> file of its own that holds items; enters the request by hash."""
        ...

    def rows(self, tables: Mapping[str, Table]) -> int: ...

    def items(self, tables: Mapping[str, Table], first: int, last: int) -> Sequence[TextItem]:
        """Of the rows [first, last)."""
        ...

    def one(self, text: str) -> TextItem:
        """The item of a question or a prompt (of a caption there is neither)."""
        ...

    def text_of(self, item: TextItem, written: str) -> str:
        """The caption, answer or text in what the model wrote after the prefix."""
        ...

    def official(self, row: str, text: str) -> dict[str, Any]:
        """An item of the result file. row: the item's id."""
        ...


Heat = Callable[[str, Sequence[int], Sequence["Image"]], list["Image"]]
"""A question, the rows of its pictures, the pictures -> these with what the model looked at drawn over them."""


# ------------------------------------------------------------------------------------------------ benches
@dataclass
class BenchInput:
    """What a bench may score: a model, on prepared data or on the bench's own files; ready embeddings; a result file.

    What is not given is None.

    heat: of the model that wrote the answers of `predictions`, where it is there and the data are those that it saw.
    layer: the model's output to measure, None for its own default. precision: float32 or bfloat16, of the forward.
    metrics_only: no intervals, items or page (a callback in training).
    """

    model: DualEncoder | None = None
    denoiser: LatentDenoiser | None = None
    data: Any = None
    split: str | None = None
    heat: Heat | None = None
    targets: Callable[[str], Targets | None] | None = None
    embeddings: Mapping[str, np.ndarray] | None = None
    predictions: Path | None = None
    layer: str | None = None
    precision: str = "float32"
    metrics_only: bool = False
    device: str = "cpu"
    batch_size: int = 64
    workers: int = 0


@dataclass
class Scores:
    """A bench's result. metrics: names and units of the bench's table. items: one JSON object an item, streamed to
    predictions.jsonl. page: blocks for reports.page (see there). official: whether the items are the published ones;
    None where that is not asked."""

    metrics: dict[str, float]
    counts: dict[str, int]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    by: dict[str, dict[str, float]] = field(default_factory=dict)
    quoted: list[dict[str, Any]] = field(default_factory=list)
    items: Iterable[dict[str, Any]] = ()
    page: list[Any] = field(default_factory=list)
    official: bool | None = None


class Bench(Protocol):
    """What `evaluate --bench` names. Files that it reads are keys of its Config, which flags of the same names set.

    One that scores result files (`--predictions`) says `reads_predictions = True`, and by `tables` which tables of
    prepared data hold its references where no --annotations are named (with `needs_data` it also scores models), by
    `written_by` which task of `generate` writes such files. One whose scores depend on tools that may be absent has
    `scorer() -> {what: name}`, which enters the request and the result. One that asks its model for something else than
    vectors of pictures and texts names that method in `asks`.
    """

    Config: ClassVar[type]
    default_split: ClassVar[str]
    """Where prepared data have it; of a bench's own files what they are called."""

    def __init__(self, config: Any) -> None: ...

    @property
    def needs_data(self) -> bool:
        """Whether it scores on prepared data; else its own files hold the items (a class attribute will do)."""
        ...

    def files(self) -> Mapping[str, str]:
        """Key -> file or folder whose content decides the scores; enters the request by hash, never by path.

        UserError where one is named and not there.
        """
        ...

    def estimate(self, given: BenchInput) -> tuple[int, float]:
        """Rows that `run` would put through the model, and seconds for all of them, from a few. Writes nothing."""
        ...

    def run(self, given: BenchInput) -> Scores: ...


# ------------------------------------------------------------------------------------------------ data sources
@dataclass(frozen=True)
class SourceTable:
    """One table of a split, before it is written: `rows` of them, read by range so that work can be cut.

    features: datasets.Features. read(first, last) yields the rows [first, last) as dictionaries; a picture is its
    bytes or path under "image" and is decoded, checked and resized by the stage. A row that can't be used also has
    `problem`, a few words saying why.
    """

    name: str
    split: str
    rows: int
    features: Any
    read: Callable[[int, int], Iterator[dict[str, Any]]]


class Source(Protocol):
    """An official format. `Source(config)` looks at its files; missing ones are all counted before any work."""

    Config: ClassVar[type]

    def __init__(self, config: Any) -> None: ...

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of annotation files, the listing of names and sizes; no paths."""
        ...

    def missing(self) -> Iterator[str]:
        """Files that are named and not there; reading their rows gives no picture."""
        ...

    def tables(self) -> Sequence[SourceTable]: ...
