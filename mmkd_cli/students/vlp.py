"""CLIP-ViL_p: a single stream of BERT over a text and the cells of its picture (LXMERT without its towers).

Cells get learnt tables of their row and column before they are projected; the pooled [CLS] has no tanh. A question of
two pictures is answered from both its pooled vectors, one with each (LXMERT's way). B rows, L tokens, K cells of C
channels, H BERT's width, V its vocabulary, A answers. Its other form, `two-tower`, is BERT alone beside one vector of D
numbers of the picture: words are told from the text, and the two meet in the heads of matching and answers. These have
a hidden layer: a linear map of both side by side would add what each says, and never compare them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import BertForPreTraining

from mmkd_cli.architectures.grids import GridTower
from mmkd_cli.architectures.transformers_folder import load_pretrained, open_config, open_tokenizer
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.data.signals import GRID, GRID_MASK
from mmkd_cli.metrics.vqa import normalized
from mmkd_cli.students.alignment import read_heads, save_heads
from mmkd_cli.students.cells import by_picture
from mmkd_cli.students.grid_answerers import Vocabulary, asked_batch
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.sight import TowerConfig, attach_tower, open_tower, save_tower, seen
from mmkd_cli.students.text_folder import first_folder, named, save_model

_EPS = 1e-12
"""Of BERT's norms."""
_STD = 0.02


class VlpStudentConfig(Config):
    """Keys of the student `vlp`."""

    name: str = key("vlp", "the student")
    arch: Literal["single-stream", "two-tower"] = key(
        "single-stream", "words and cells in one BERT; or BERT's [CLS] and the picture's vector, side by side",
        source="[P]; two-tower: [S]", absent="single-stream",
    )  # fmt: skip
    image_signal: str = key("image_embedding", "of two-tower: teacher signal of the picture, one vector",
                            source="[S] CLIP's pooled vector", absent="image_embedding")  # fmt: skip
    weights: str | None = key(
        None, "folder or hub id of a BERT (None: the run that training starts from)", identity=False
    )
    start: str | None = key(
        None, "RUN of the method vlp that pre-training goes on from: its stream, and its tower where that was trained",
        source="[C] CLIP-ViL Pretrain: its second stage", identity=False,
    )  # fmt: skip
    answer_head: bool = key(
        True, "the answers that a pre-trained run knows are taken over, others begin at 0", source="[C] VQA, GQA; of "
        "SNLI-VE not", absent=True,
    )  # fmt: skip
    max_tokens: int = key(20, "of a text, with its ends", unit="tokens", source="[C] CLIP-ViL Pretrain: 20", ge=3)
    positions: int = key(25, "rows, and columns, that a grid may have", source="[C] pos_num 25", ge=1)
    mask_padding: bool = key(True, "cells outside of a padded picture are not seen", source="[U] the paper's code sees "
                             "them")  # fmt: skip
    tower: TowerConfig = key(TowerConfig(), "the image tower")

    @property
    def start_folder(self) -> Path | None:
        """UserError where it is no run, or weights are named, too."""
        if self.start is None:
            return None
        folder = Path(self.start).expanduser()
        if not (folder / "heads.safetensors").is_file() or not (folder / "model").is_dir():
            raise UserError(f"student.start={self.start}: no folder of a finished run: name ROOT/runs/NAME")
        if self.weights is not None:
            raise UserError("student.weights and student.start both say where training starts: leave one of them out")
        return folder

    @property
    def signal(self) -> str:
        """That the pictures are seen by."""
        return GRID if self.arch == "single-stream" else self.image_signal


class Streamed(NamedTuple):
    """What is said of texts and pictures: states [B, L, H] of the tokens, pooled [B, H], of two towers [B, H + D]."""

    tokens: Tensor
    pooled: Tensor


class VlpTokenizer:
    """`core.contracts.Tokenize`: BERT's tokens, cut and padded to `max_tokens`."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_tokens]."""
        said = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.max_tokens, padding_side="right",
            return_tensors="pt", split_special_tokens=True,
        )  # fmt: skip
        return {name: said[name] for name in ("input_ids", "attention_mask")}


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.LayerNorm(hidden, eps=_EPS), nn.Linear(hidden, outputs)
    )


class Vlp(nn.Module):
    """BERT in its own layout, and beside it tables, projection and heads of ours."""

    Config: ClassVar[type] = VlpStudentConfig
    image_signal: str | None
    layers: tuple[str, ...] = ()

    def __init__(
        self, config: VlpStudentConfig, bert: Any, tokenizer: Any, channels: int, vocabulary: Vocabulary | None = None,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, self.channels, self.vocabulary = config, channels, vocabulary
        self.bert = bert
        self.tokenize = VlpTokenizer(tokenizer, config.max_tokens)
        width = pooled = bert.config.hidden_size
        self.image_signal, stream = config.signal, []
        if config.arch == "single-stream":
            self.rows, self.columns = (nn.Embedding(config.positions, channels) for _ in range(2))
            self.project, self.norm = nn.Linear(channels, width), nn.LayerNorm(width, eps=_EPS)
            self.drop = nn.Dropout(bert.config.hidden_dropout_prob)
            stream = [self.rows, self.columns, self.project]
        else:
            pooled += channels
            bert.bert.pooler.requires_grad_(False)  # [CLS] is taken as it is
        self.matches = nn.Linear(width, 2) if stream else _head(pooled, 2 * width, 2)
        self.answers = None
        if vocabulary is not None:
            self.answers = _head(vocabulary.pictures * pooled, 2 * width, len(vocabulary.answers))
        ours = [*stream, *self.matches.modules(), *(self.answers.modules() if self.answers is not None else [])]
        for module in ours:  # what BERT's file holds stays
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=_STD)
        bert.cls.seq_relationship.requires_grad_(False)  # of next sentences, which are not asked for
        self.live = LiveTeacher(teacher)
        self.tower: GridTower | None = None

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(
        cls, config: VlpStudentConfig, channels: int, vocabulary: Vocabulary | None = None, start: Path | None = None
    ) -> Self:
        """New, on BERT's weights; or a run's, with a new head for the vocabulary's answers."""
        folder = first_folder(config, start)
        bert = load_pretrained(BertForPreTraining, folder, new_head=True)
        model = cls(config, bert, open_tokenizer(folder), channels, vocabulary)
        if start is not None:
            state, about = read_heads(start)
            if about.get("channels") != channels:
                raise UserError(f"the run's cells have {about.get('channels')} channels, the data's {channels}: name a "
                                "cache of its own teacher")  # fmt: skip
            model._load_heads({n: value for n, value in state.items() if not n.startswith("answers.")}, start)
            if config.answer_head and about["answers"] and model.answers is not None:
                model._take_answers(state, about["answers"])
        return model

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`."""
        state, about = read_heads(folder)
        keys = VlpStudentConfig.model_validate(config["student"])
        vocabulary = Vocabulary((), about["answers"], about.get("pictures", 1)) if about["answers"] else None
        bert = load_pretrained(BertForPreTraining, folder / "model")
        model = cls(keys, bert, open_tokenizer(folder / "model"), about["channels"], vocabulary, teacher)
        model._load_heads(state, folder)
        attach_tower(model, open_tower(folder, keys.tower, teacher))
        return model.eval()

    @classmethod
    def empty(cls, config: VlpStudentConfig, channels: int, vocabulary: Vocabulary | None = None) -> Self:
        """On the meta device, of the folder's sizes."""
        found = open_config(first_folder(config, config.start_folder))
        with torch.device("meta"):
            return cls(config, BertForPreTraining(found), None, channels, vocabulary)

    @staticmethod
    def files(config: VlpStudentConfig) -> dict[str, str]:
        """Key -> folder or hub id whose content decides the first weights."""
        return {"student.weights": str(hub_folder(named(config)))} if config.weights else {}

    def _heads(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.state_dict().items() if not name.startswith(("bert.", "tower."))}

    def _load_heads(self, state: Mapping[str, Tensor], folder: Path) -> None:
        own = self._heads()
        for name, value in state.items():
            if name not in own or own[name].shape != value.shape:
                there = list(own[name].shape) if name in own else "nothing"
                raise Refused(f"{folder}/heads.safetensors does not fit: {name} is {list(value.shape)}, the student's "
                              f"is {there}: keep student.arch and student.positions as the run has them")  # fmt: skip
            own[name].copy_(value)

    @torch.no_grad()
    def _take_answers(self, state: Mapping[str, Tensor], known: Sequence[str]) -> None:
        """The head of a run that knows these answers: its layers, and the rows of answers that both have; others 0."""
        own = {name: value for name, value in self._heads().items() if name.startswith("answers.")}
        assert self.vocabulary is not None
        row = {normalized(answer): place for place, answer in enumerate(known)}  # as pre-training reads answers
        shared = [(place, row[said]) for place, one in enumerate(self.vocabulary.answers)
                  if (said := normalized(one)) in row]  # fmt: skip
        for name, value in own.items():
            given = state[name]
            if name.startswith(f"answers.{len(self.answers or ()) - 1}."):
                value.zero_()
                for place, there in shared:
                    value[place] = given[there]
            elif given.shape == value.shape:
                value.copy_(given)

    # ------------------------------------------------------------------------------------------ running
    def forward(self, batch: Batch) -> Streamed:
        """input_ids, attention_mask [B, L]; grid [B, K, C], grid_mask bool, cell_row, cell_column int64 [B, K], or the
        image signal [B, D]."""
        if self.config.arch == "two-tower":
            given = {name: batch[name] for name in ("input_ids", "attention_mask")}
            tokens = self.bert.bert(**given).last_hidden_state
            return Streamed(tokens, torch.cat([tokens[:, 0], batch[self.config.image_signal].to(tokens.dtype)], 1))
        if "cell_row" not in batch:
            raise UserError("student vlp needs to know where the cells lie: make a cache of them by --signals grid")
        places = [batch[name] for name in ("cell_row", "cell_column")]
        if not places[0].is_cuda and (most := max(int(place.max()) for place in places)) >= self.config.positions:
            raise UserError(f"a picture has {most + 1} rows or columns of cells, and student.positions is "
                            f"{self.config.positions}: cache smaller grids (--set teacher.grid.resize=pad --set "
                            "teacher.grid.height=384 --set teacher.grid.width=640), or set it")  # fmt: skip
        words, seen = batch["attention_mask"].bool(), batch[GRID_MASK]
        text = self.bert.bert.embeddings(input_ids=batch["input_ids"])
        cells = batch[GRID] + self.rows(batch["cell_row"]) + self.columns(batch["cell_column"])
        image = self.drop(self.norm(self.project(cells)))
        mask = torch.cat([words, seen], 1)[:, None, None, :]
        stream = torch.cat([text, image.to(text.dtype)], 1)
        bias = torch.zeros(mask.shape, dtype=stream.dtype, device=stream.device).masked_fill(~mask, -torch.inf)
        states = self.bert.bert.encoder(stream, attention_mask=bias).last_hidden_state
        pooled = self.bert.bert.pooler.dense(states[:, 0])
        return Streamed(states[:, : words.shape[1]], pooled)

    def word_logits(self, tokens: Tensor) -> Tensor:
        """[..., H] -> [..., V] by BERT's own head, tied to its table."""
        logits: Tensor = self.bert.cls.predictions(tokens)
        return logits

    def logits(self, batch: Batch) -> Tensor:
        """float32 [B, A]; of P pictures each name of the cells has [B, P, ...]."""
        assert self.answers is not None and self.vocabulary is not None, "a model tuned for answers has a head for them"
        batch = seen(self, batch)
        pooled = self(by_picture(batch, self.vocabulary.pictures)).pooled
        said: Tensor = self.answers(pooled.reshape(len(batch[GRID]), -1))
        return said.float()

    @torch.no_grad()
    def answer(self, questions: Sequence[str], grids: Batch) -> list[str]:
        """The likeliest answer to each question. grids: of each question's picture, as `forward` takes them."""
        if self.vocabulary is None:
            raise UserError("this run was pre-trained and knows no answers: `mmkd finetune --task vqa --model` it")
        given = asked_batch(self, questions, grids)
        return [self.vocabulary.answers[place] for place in self.logits(given).argmax(1).tolist()]

    @torch.no_grad()
    def attention(self, questions: Sequence[str], grids: Batch) -> Tensor:
        """The share of each cell in what [CLS] sees of its picture in the last layer, in the mean over the heads:
        float32 [B, K], of P pictures [B, P, K]; each sums to 1."""
        each = by_picture(asked_batch(self, questions, grids), self.vocabulary.pictures if self.vocabulary else 1)
        last, seen = self.bert.bert.encoder.layer[-1].attention.self, []
        hook = last.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        try:
            self(each)
        finally:
            hook.remove()
        states, heads = seen[0], self.bert.config.num_attention_heads
        query, keys = last.query(states[:, 0]).unflatten(1, (heads, -1)), last.key(states).unflatten(2, (heads, -1))
        scores = torch.einsum("bhd,bnhd->bhn", query, keys).float() / query.shape[-1] ** 0.5
        scores = scores[:, :, each["input_ids"].shape[1] :].masked_fill(~each[GRID_MASK][:, None], -torch.inf)
        return scores.softmax(2).mean(1).view(grids[GRID_MASK].shape)

    def save(self, folder: Path) -> None:
        """Write model/ as transformers reads it (BertForPreTraining), and heads.safetensors."""
        save_model(self.bert, self.tokenize.tokenizer, folder / "model")
        save_tower(self, folder)
        known = self.vocabulary or Vocabulary((), ())
        about = {"channels": self.channels, "answers": list(known.answers), "pictures": known.pictures}
        save_heads(folder, self._heads(), about)
