"""Models that answer a question by choosing among known answers, from the cells of a picture's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_cli.architectures.grids import GridTower
from mmkd_cli.architectures.mcan import Mcan
from mmkd_cli.architectures.pythia import Pythia
from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import Refused
from mmkd_cli.data.signals import GRID, GRID_MASK
from mmkd_cli.students.cells import by_picture
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.sight import TowerConfig, attach_tower, open_tower, save_tower, seen
from mmkd_cli.students.words import Words, word_vectors


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
    tower: TowerConfig = key(TowerConfig(), "the image tower")


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
        self.tower: GridTower | None = None

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
        attach_tower(model, open_tower(folder, model.config.tower, teacher))
        return model.eval()

    @staticmethod
    def files(config: GridAnswererConfig) -> dict[str, str]:
        """Key -> file whose content decides the first weights."""
        return {"student.glove": config.glove} if config.glove else {}

    def logits(self, batch: Batch) -> Tensor:
        """float32 [B, A] of input_ids, attention_mask [B, L], grid [B, K, C] and grid_mask [B, K], of P pictures
        [B, P, K, C] and [B, P, K]."""
        batch = seen(self, batch)
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
        save_tower(self, folder)
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
