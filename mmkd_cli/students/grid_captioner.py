"""The 6+6 transformer that writes captions from a grid (CLIP-ViL Direct): pre-norm, no positions of cells.

It is transformers' Pegasus with another front: cells come through a linear map, and have no positions. B rows, K cells
of C channels, T tokens, V words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import PegasusConfig, PegasusForConditionalGeneration, PreTrainedTokenizerFast

from mmkd_cli.architectures.grids import GridTower
from mmkd_cli.architectures.transformers_folder import quiet_transformers
from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import Refused
from mmkd_cli.data.signals import GRID, GRID_MASK
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.sight import TowerConfig, attach_tower, open_tower, save_tower, seen

END, UNKNOWN = "<end>", "<unk>"
"""The end also pads and begins, as in the authors' code, where it is 0."""


class GridCaptionerConfig(Config):
    """Keys of the student `grid-captioner`."""

    name: str = key("grid-captioner", "the student")
    width: int = key(512, "of the transformer", source="[C] CLIP-ViL Direct: 512", ge=2)
    layers: int = key(6, "of the encoder, and of the decoder", source="[C] 6", ge=1)
    heads: int = key(8, "of attention", source="[C] 8", ge=1)
    feed: int = key(2048, "of the feed-forward", source="[C] 2048", ge=1)
    dropout: float = key(0.1, "of attention, feed-forward and embeddings", source="[C] 0.1", ge=0, lt=1)
    cells_dropout: float = key(0.5, "of the cells' map", source="[C] drop_prob_lm 0.5", ge=0, lt=1)
    max_words: int = key(16, "longest caption that is learnt", unit="words", source="[C] 16", ge=1)
    mask_padding: bool = key(True, "cells outside of a padded picture are not seen", source="[U]")
    tower: TowerConfig = key(TowerConfig(), "the image tower")


class _NoPositions(nn.Module):
    """In the place of the encoder's positions: cells are a set."""

    def forward(self, shape: Any, *args: Any, **kwargs: Any) -> float:
        return 0.0


class CaptionTokenizer:
    """Words of captions as numbers: lower case, marks left out. `tokenizer` is transformers' own."""

    def __init__(self, words: Sequence[str], max_words: int) -> None:
        vocabulary = {word: number for number, word in enumerate((END, UNKNOWN, *words))}
        made = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        made.normalizer = normalizers.Lowercase()
        made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}']+"), "removed")
        made.decoder = decoders.Fuse()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token=END, eos_token=END, bos_token=END, unk_token=UNKNOWN
        )
        self.words, self.max_words = list(words), max_words

    @classmethod
    def split(cls, text: str) -> list[str]:
        """The words of a caption."""
        empty = cls((), 1).tokenizer.backend_tokenizer
        return [word for word, _ in empty.pre_tokenizer.pre_tokenize_str(empty.normalizer.normalize_str(text))]

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_words + 1]: a caption's words and its end."""
        ids = torch.zeros(len(texts), self.max_words + 1, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]):
            kept = own[: self.max_words]
            ids[row, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
            mask[row, : len(kept) + 1] = 1
        return {"input_ids": ids, "attention_mask": mask}


class GridCaptioner(nn.Module):
    """Trained from new weights."""

    Config: ClassVar[type] = GridCaptionerConfig
    image_signal: str | None = GRID
    layers: tuple[str, ...] = ()

    def __init__(
        self, config: GridCaptionerConfig, words: Sequence[str], channels: int, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.tokenize = CaptionTokenizer(words, config.max_words)
        self.tokenizer = self.tokenize.tokenizer
        self.cells = nn.Sequential(nn.Linear(channels, config.width), nn.ReLU(), nn.Dropout(config.cells_dropout))
        shape = {"encoder_layers": config.layers, "decoder_layers": config.layers, "encoder_ffn_dim": config.feed,
                 "decoder_ffn_dim": config.feed, "encoder_attention_heads": config.heads,
                 "decoder_attention_heads": config.heads}  # fmt: skip
        self.language_model = PegasusForConditionalGeneration(PegasusConfig(
            vocab_size=len(words) + 2, d_model=config.width, dropout=config.dropout,
            attention_dropout=config.dropout, activation_dropout=config.dropout, activation_function="relu",
            scale_embedding=True, tie_word_embeddings=False, max_position_embeddings=64, pad_token_id=0,
            eos_token_id=0, bos_token_id=0, decoder_start_token_id=0, forced_eos_token_id=None, **shape,
        ))  # fmt: skip
        inner: Any = self.language_model.model
        inner.encoder.embed_positions = _NoPositions()
        inner.encoder.embed_tokens = inner.shared = nn.Identity()  # no word is read: tables of nothing
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and parameter.requires_grad and "embed_positions" not in name:
                nn.init.xavier_uniform_(parameter)
        self.live = LiveTeacher(teacher)
        self.tower: GridTower | None = None

    @classmethod
    def empty(cls, config: GridCaptionerConfig, words: int, channels: int) -> Self:
        """On the meta device."""
        with torch.device("meta"):
            return cls(config, [str(n) for n in range(words)], channels)

    @classmethod
    def load(
        cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None, *, tower: bool = True
    ) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. tower: with its own, if any."""
        said = paths.read_json(folder / "model" / "words.json")
        model = cls(GridCaptionerConfig.model_validate(config["student"]), said["words"], said["channels"], teacher)
        try:
            model.load_state_dict(load_file(folder / "model" / "model.safetensors"))
        except RuntimeError as error:
            raise Refused(f"{folder}/model does not fit its own configuration: {error}") from None
        if tower:
            attach_tower(model, open_tower(folder, model.config.tower, teacher))
        return model.eval()

    @staticmethod
    def files(config: GridCaptionerConfig) -> dict[str, str]:
        """No file decides the first weights."""
        return {}

    def memory(self, grid: Tensor, grid_mask: Tensor) -> Tensor:
        """What the decoder attends to, [B, K, D], of grid [B, K, C] and grid_mask bool [B, K]."""
        encoder = self.language_model.model.encoder
        states: Tensor = encoder(inputs_embeds=self.cells(grid), attention_mask=grid_mask.long()).last_hidden_state
        return states

    def write(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B * S, T, V] of target_ids [B, S, T], these and target_mask, [B * S, T], S captions of a picture."""
        targets, mask = batch["target_ids"].flatten(0, 1), batch["target_mask"].flatten(0, 1)
        batch = seen(self, batch)
        memory = self.memory(batch[GRID], batch[GRID_MASK])
        return self.write_from(memory, batch[GRID_MASK], targets, mask), targets, mask

    def write_from(self, memory: Tensor, grid_mask: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Logits [B * S, T, V] of targets [B * S, T], S texts of each picture one after another, from `memory`."""
        many = len(targets) // len(memory)
        begun = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
        logits: Tensor = self.language_model(
            encoder_outputs=(memory.repeat_interleave(many, 0),), decoder_input_ids=begun, use_cache=False,
            attention_mask=grid_mask.long().repeat_interleave(many, 0), decoder_attention_mask=mask,
        ).logits  # fmt: skip
        return logits

    @torch.no_grad()
    def caption(self, grids: Batch, **options: Any) -> list[str]:
        """What transformers' `generate` writes of each picture; unknown words are never written."""
        device = next(self.parameters()).device
        grid, mask = grids[GRID].to(device), grids[GRID_MASK].to(device)
        written = self.generate_ids(grid, mask, **options)
        return [self.text_of(ids) for ids in written.tolist()]

    def generate_ids(self, grid: Tensor, mask: Tensor, **options: Any) -> Tensor:
        """int64 [B, T]: the start, words, their end."""
        from transformers.modeling_outputs import BaseModelOutput

        states = BaseModelOutput(last_hidden_state=self.memory(grid, mask))  # type: ignore[arg-type]
        with quiet_transformers():
            written: Tensor = self.language_model.generate(
                encoder_outputs=states, attention_mask=mask.long(), bad_words_ids=[[1]], **options
            )
        return written

    def text_of(self, ids: Sequence[int]) -> str:
        """Words between the start and the first end."""
        every, words = (END, UNKNOWN, *self.tokenize.words), []
        for number in ids[1:]:
            if not number:
                break
            words.append(every[number])
        return " ".join(words)

    def save(self, folder: Path) -> None:
        """Write model/: weights, and what numbers of words mean."""
        place = folder / "model"
        place.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()
                 if not name.startswith("tower.")}  # fmt: skip
        save_tower(self, folder)
        save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        paths.write_json(place / "words.json", {"words": self.tokenize.words, "channels": self.channels})
