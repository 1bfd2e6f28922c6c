"""Models that answer a question by choosing among known answers, from the cells of a picture's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_cli.architectures.mcan import Mcan
from mmkd_cli.architectures.pythia import Pythia
from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Ragged, SignalSpec, Targets, Teacher, TrainingData
from mmkd_cli.core.errors import Refused, UserError, nearest
from mmkd_cli.data.signals import GRID, GRID_BOXES, GRID_MASK, GRID_SIZE, padded
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.words import Words, word_vectors

CELLS = (GRID, GRID_MASK, "cell_row", "cell_column")
"""Of a batch what is of a picture (`grid_batch`)."""
REGION_PLACES = 20
"""Rows, and columns, that regions' centres are told apart by: as many as the longer side of CLIP-ViL_p's grids has."""


class GridAnswererConfig(Config):
    """Keys that both have."""

    name: str = key("", "the student")
    max_words: int = key(14, "longest question", unit="words", source="[C] mmf: 14", ge=1)
    word_width: int = key(300, "of a word's vector", source="[C] GloVe 6B 300d", ge=1)
    glove: str | None = key(
        None, "file of word vectors, a word a line (None: random ones)", source="[U] no file is at hand", identity=False
    )
    mask_padding: bool = key(True, "cells outside of a padded picture are not seen", source="[U] the paper's code sees "
                             "them")  # fmt: skip


class PythiaConfig(GridAnswererConfig):
    """Keys of the student `pythia`."""

    name: str = key("pythia", "the student")
    text_width: int = key(1024, "of the LSTM", source="[C] mmf pythia", ge=2)
    width: int = key(5000, "of attention and fusion", source="[C] mmf pythia", ge=1)
    answer_width: int = key(300, "of the answers' text path", source="[C] mmf pythia", ge=1)


class McanConfig(GridAnswererConfig):
    """Keys of the student `mcan`."""

    name: str = key("mcan", "the student")
    width: int = key(512, "of words and cells", source="[P] arXiv 1906.10770: 512", ge=1)
    layers: int = key(6, "of words, and of cells", source="[P] arXiv 1906.10770: 6", ge=1)
    heads: int = key(8, "of attention", source="[P] arXiv 1906.10770: 8", ge=1)
    fused_width: int = key(1024, "of words and cells together", source="[P] arXiv 1906.10770: 1024", ge=1)
    dropout: float = key(0.1, "of attention and feed-forward", source="[P] arXiv 1906.10770: 0.1", ge=0, lt=1)


class Vocabulary(NamedTuple):
    """words: of questions. answers: that can be given. pictures: that one question is about."""

    words: Sequence[str]
    answers: Sequence[str]
    pictures: int = 1


class GridAnswerer(nn.Module):
    """A student is this with its network. It is trained from new weights; B questions, K cells of C channels.

    Of questions about P pictures each is seen with the question, and the answer is told from all of it (`by_picture`).
    """

    Config: ClassVar[type] = GridAnswererConfig
    image_signal: str | None = GRID
    layers: tuple[str, ...] = ()

    def __init__(self, config: Any, vocabulary: Vocabulary, channels: int, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.config, self.vocabulary, self.channels = config, vocabulary, channels
        self.tokenize = Words(vocabulary.words, config.max_words)
        glove = Path(config.glove).expanduser() if config.glove else None
        table, self.known_words = word_vectors(vocabulary.words, config.word_width, glove)
        self.net = self.network(config, table, channels, vocabulary)
        self.live = LiveTeacher(teacher)

    @classmethod
    def network(cls, config: Any, words: nn.Embedding, channels: int, vocabulary: Vocabulary) -> Any:
        """With `joint`, of a question and a picture [B, F], and `answer` of those of a question [B, P * F]."""
        raise NotImplementedError

    @classmethod
    def build(cls, config: Any, channels: int, vocabulary: Vocabulary, start: Path | None = None) -> Self:
        """New weights; it starts from no run."""
        return cls(config, vocabulary, channels)

    @classmethod
    def empty(cls, config: Any, channels: int, vocabulary: Vocabulary) -> Self:
        """On the meta device."""
        with torch.device("meta"):
            return cls(config.model_copy(update={"glove": None}), vocabulary, channels)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`."""
        said = paths.read_json(folder / "model" / "vocabulary.json")
        table = {**config["student"], "glove": None}  # the vectors are among the weights
        vocabulary = Vocabulary(said["words"], said["answers"], said.get("pictures", 1))
        model = cls(cls.Config.model_validate(table), vocabulary, said["channels"], teacher)
        state = load_file(folder / "model" / "model.safetensors")
        try:
            model.net.load_state_dict(state)
        except RuntimeError as error:
            raise Refused(f"{folder}/model does not fit its own configuration: {error}") from None
        return model.eval()

    @staticmethod
    def files(config: GridAnswererConfig) -> dict[str, str]:
        """Key -> file whose content decides the first weights."""
        return {"student.glove": config.glove} if config.glove else {}

    def logits(self, batch: Batch) -> Tensor:
        """float32 [B, A] of input_ids, attention_mask [B, L], grid [B, K, C] and grid_mask [B, K], of P pictures
        [B, P, K, C] and [B, P, K]."""
        each = by_picture(batch, self.vocabulary.pictures)
        joint = self.net.joint(each["input_ids"], each["attention_mask"], each[GRID], each[GRID_MASK])
        said: Tensor = self.net.answer(joint.reshape(len(batch[GRID]), -1))
        return said.float()

    @torch.no_grad()
    def answer(self, questions: Sequence[str], grids: Batch) -> list[str]:
        """The likeliest answer to each question. grids: `grid`, `grid_mask` of each question's picture."""
        given = asked_batch(self, questions, grids)
        return [self.vocabulary.answers[place] for place in self.logits(given).argmax(1).tolist()]

    @torch.no_grad()
    def attention(self, questions: Sequence[str], grids: Batch) -> Tensor:
        """The share of each cell in what is seen of a picture, float32 [B, K], of P pictures [B, P, K]; each sums to
        1."""
        each = by_picture(asked_batch(self, questions, grids), self.vocabulary.pictures)
        share: Tensor = self.net.attention(each["input_ids"], each["attention_mask"], each[GRID], each[GRID_MASK])
        return share.float().view(grids[GRID_MASK].shape)

    def save(self, folder: Path) -> None:
        """Write model/: weights, and what numbers of words and answers mean."""
        place = folder / "model"
        place.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.net.state_dict().items()}
        save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        said = {name: list(value) if name != "pictures" else value for name, value in self.vocabulary._asdict().items()}
        paths.write_json(place / "vocabulary.json", {**said, "channels": self.channels})


class PythiaAnswerer(GridAnswerer):
    """Pythia (CLIP-ViL's first head of VQA)."""

    Config: ClassVar[type] = PythiaConfig

    @classmethod
    def network(cls, config: PythiaConfig, words: nn.Embedding, channels: int, vocabulary: Vocabulary) -> Pythia:
        return Pythia(words, channels, len(vocabulary.answers), text=config.text_width, wide=config.width,
                      small=config.answer_width, pictures=vocabulary.pictures)  # fmt: skip


class McanAnswerer(GridAnswerer):
    """MCAN, the plain one."""

    Config: ClassVar[type] = McanConfig

    @classmethod
    def network(cls, config: McanConfig, words: nn.Embedding, channels: int, vocabulary: Vocabulary) -> Mcan:
        return Mcan(words, channels, len(vocabulary.answers), width=config.width, layers=config.layers,
                    heads=config.heads, fused=config.fused_width, dropout=config.dropout,
                    pictures=vocabulary.pictures)  # fmt: skip


def asked_batch(model: Any, questions: Sequence[str], grids: Batch) -> Batch:
    """What a model takes, on its device, of questions and the cells of their pictures."""
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in {**model.tokenize(questions), **grids}.items()}


def by_picture(batch: Batch, pictures: int) -> Batch:
    """A batch whose questions are about P pictures each, as B * P rows of a question and one of its pictures."""
    if pictures == 1:
        return batch
    return {
        name: value.flatten(0, 1) if name in CELLS else value.repeat_interleave(pictures, 0)
        for name, value in batch.items() if isinstance(value, Tensor)
    }  # fmt: skip


def grid_spec(data: TrainingData) -> SignalSpec:
    """Of a data set's grids; UserError where it has none."""
    targets = data.targets("train")
    if targets is None:
        raise UserError(f"data {data.name!r} comes without a teacher: name a cache of grids, or a teacher with --live")
    if GRID not in targets.specs:
        raise UserError(f"the teacher of data {data.name!r} gives no {GRID!r}{nearest(GRID, targets.specs)}")
    return targets.specs[GRID]


def grid_names(targets: Targets) -> list[str]:
    """Signals that a picture's cells are read from."""
    return [name for name in (GRID, GRID_SIZE, GRID_MASK, GRID_BOXES) if name in targets.specs]


def grid_batch(said: Mapping[str, Tensor | Ragged], cells: int, mask_padding: bool) -> Batch:
    """A cache's or a teacher's signals of B pictures as models take them, each padded to so many cells.

    `grid` float32 [B, cells, C], `grid_mask` bool [B, cells], and where sizes or boxes are known `cell_row` and
    `cell_column` int64 [B, cells], of a region those of its centre. UserError where a picture has more cells.
    """
    grid, sizes = said[GRID], said.get(GRID_SIZE)
    if isinstance(grid, Ragged):
        longest = int(grid.offsets.diff().max())
        there = torch.arange(cells) < grid.offsets.diff()[:, None]
        grid = grid.padded(max(cells, longest))
    else:
        longest = grid.shape[1]
        mask = said.get(GRID_MASK) if mask_padding else None
        there = grid.new_ones(grid.shape[:2], dtype=torch.bool) if mask is None else mask.bool().to(grid.device)  # type: ignore[union-attr]
        grid, there = F.pad(grid, (0, 0, 0, max(0, cells - longest))), F.pad(there, (0, max(0, cells - longest)))
    if longest > cells:
        raise UserError(
            f"a picture has {longest} cells, more than {cells}: cache the grids of all pictures at one size"
        )
    batch: Batch = {GRID: grid.float(), GRID_MASK: there}
    if isinstance(sizes, Tensor):
        columns = sizes[:, 1:].long().clamp(min=1).to(there.device)
        place = torch.arange(cells, device=there.device).expand(len(sizes), -1) * there  # 0 where there is no cell
        batch |= {"cell_row": place // columns, "cell_column": place % columns}
    if GRID_BOXES in said:
        corners = padded(said[GRID_BOXES], cells).float()
        corners = F.pad(corners, (0, 0, 0, cells - corners.shape[1]))
        places = ((corners[..., :2] + corners[..., 2:]) / 2 * REGION_PLACES).long().clamp(0, REGION_PLACES - 1)
        batch |= {"cell_row": places[..., 1] * there, "cell_column": places[..., 0] * there}
    return batch


def gathered_grids(targets: Targets, rows: np.ndarray, cells: int, mask_padding: bool) -> Batch:
    """Cells of the pictures in these rows, as models take them (`grid_batch`). rows: [B], or [B, P] of several each."""
    batch = grid_batch(targets.gather(grid_names(targets), rows.reshape(-1)), cells, mask_padding)
    return {name: value.unflatten(0, rows.shape) for name, value in batch.items()}
