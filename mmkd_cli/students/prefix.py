"""A frozen causal language model that goes on from a picture: two vectors of CLIP's, mapped to its input width.

The prefix is the picture's embedding and the text encoder's output for an `<IMG>` token, as the user's summary of VLKD
has it; it trains no maps, and without them the language model writes noise. B rows, L tokens, d CLIP's width, w the
language model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from mmkd_cli.architectures.language_model import LanguageModel
from mmkd_cli.architectures.transformers_folder import load_pretrained, open_tokenizer, quiet_transformers
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, PictureTransform, Teacher, Tokenize
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.students.alignment import read_heads, save_heads
from mmkd_cli.students.dual_encoders import check_layer
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.projections import new_linear
from mmkd_cli.students.text import trimmed

PREFIX = 2
"""Vectors that the language model goes on from: the picture's and the token's."""


class PrefixConfig(Config):
    """Keys of the student `prefix`."""

    name: str = key("prefix", "the student")
    weights: str = key(
        "openai-community/gpt2", "folder or hub id of a causal model of transformers", source="[S] gpt2", identity=False
    )
    max_tokens: int = key(64, "length of a text with its end", unit="tokens", source="[U] 64", ge=2)


class Written(NamedTuple):
    """Logits [B, L, V] of a text's tokens, which are labels [B, L] where mask [B, L] is 1."""

    logits: Tensor
    labels: Tensor
    mask: Tensor


class EndedTokenizer:
    """`core.contracts.Tokenize`: a causal model's tokens with its end behind them, which also pads to max_tokens."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no end token: a text could not end")
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_tokens]."""
        end = int(self.tokenizer.eos_token_id)
        ids = torch.full((len(texts), self.max_tokens), end)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(self.tokenizer(list(texts), verbose=False)["input_ids"]):
            kept = (own[:-1] if own and own[-1] == end else own)[: self.max_tokens - 1]
            ids[row, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
            mask[row, : len(kept) + 1] = 1
        return {"input_ids": ids, "attention_mask": mask}


class Prefix(nn.Module):
    """A language model and two maps. As a dual encoder it is its CLIP, cached or live."""

    Config: ClassVar[type] = PrefixConfig
    layers: tuple[str, ...] = ("embedding",)

    def __init__(
        self, lm: Any, tokenizer: Any, max_tokens: int, width: int, image_signal: str, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.lm, self.image_signal = lm.requires_grad_(False), image_signal
        inner = int(lm.get_input_embeddings().weight.shape[1])
        self.image_map, self.token_map = (new_linear(width, inner, bias=True) for _ in range(PREFIX))
        self.register_buffer("token", torch.zeros(width))
        self._tokenizer = EndedTokenizer(tokenizer, max_tokens) if tokenizer is not None else None
        self._loaded_from: Path | None = None
        self._teacher = LiveTeacher(teacher)

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(
        cls, config: PrefixConfig, width: int, image_signal: str, token: Tensor, teacher: Teacher | None = None
    ) -> Self:
        """The language model with its weights, new maps. token [d]: what the text encoder says of `<IMG>`."""
        language_model = _causal(config)
        positions = getattr(language_model.config, "max_position_embeddings", None)
        if positions is not None and config.max_tokens + PREFIX - 1 > positions:
            raise UserError(
                f"student.max_tokens {config.max_tokens} and the prefix are more than the {positions} positions of "
                f"{language_model.folder}: make it smaller"
            )
        lm, tokenizer = language_model.load(), language_model.tokenizer
        student = cls(lm, tokenizer, config.max_tokens, width, image_signal, teacher)
        student.token = token.float()
        return student

    @classmethod
    def empty(cls, config: PrefixConfig, width: int, image_signal: str) -> Self:
        """The student on the meta device."""
        with torch.device("meta"):
            return cls(_causal(config).build(), None, config.max_tokens, width, image_signal)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. teacher: for pictures."""
        keys = PrefixConfig.model_validate(config["student"])
        tensors, about = read_heads(folder)
        lm = load_pretrained(AutoModelForCausalLM, folder / "model")
        tokenizer, width = open_tokenizer(folder / "model"), len(tensors["token"])
        student = cls(lm, tokenizer, keys.max_tokens, width, about["image_signal"], teacher)
        student.load_state_dict({**student.state_dict(), **tensors})
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: PrefixConfig) -> dict[str, str]:
        """Key -> folder or hub id of the language model."""
        return {"student.weights": str(_causal(config).folder)}

    # ------------------------------------------------------------------------------------------ running
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.lm.eval()
        return self

    def forward(self, batch: Batch) -> Written:
        """batch: input_ids, attention_mask int64 [B, L], the picture's signal [B, d]."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if ids.device.type == "cpu":  # elsewhere asking for lengths would wait for the device
            ids, mask = trimmed(ids, mask)
        embedded = torch.cat([self.begin(batch[self.image_signal]), self.lm.get_input_embeddings()(ids[:, :-1])], 1)
        seen = F.pad(mask[:, :-1], (PREFIX, 0), value=1)
        logits = self.lm(inputs_embeds=embedded, attention_mask=seen, use_cache=False).logits
        return Written(logits[:, PREFIX - 1 :], ids, mask)

    def begin(self, image: Tensor) -> Tensor:
        """image [B, d], of any length -> [B, 2, w]. Both of CLIP's vectors are brought to the length sqrt(d)."""
        both = torch.stack([image.float(), self.token.expand(len(image), -1)], dim=1)
        both = F.normalize(both, dim=2) * both.shape[2] ** 0.5
        return torch.stack([self.image_map(both[:, 0]), self.token_map(both[:, 1])], dim=1)

    def maps(self) -> list[nn.Parameter]:
        """What is trained."""
        return [*self.image_map.parameters(), *self.token_map.parameters()]

    # ------------------------------------------------------------------------------------------ dual encoder
    def identity(self) -> dict[str, Any]:
        assert self._loaded_from is not None, "a student is identified by its folder"
        folder = self._loaded_from
        return {"student": "prefix", "model": sha256_file(folder / "model"),
                "heads": sha256_file(folder / "heads.safetensors")}  # fmt: skip

    @property
    def picture_transform(self) -> PictureTransform:
        return self._teacher.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        """CLIP's, of the texts that it embeds."""
        return self._teacher.tokenize

    @property
    def language_model(self) -> Any:
        """transformers' model, which writes texts."""
        return self.lm

    @property
    def tokenizer(self) -> Any:
        """The language model's own."""
        return self.ended.tokenizer

    @property
    def ended(self) -> EndedTokenizer:
        """The texts that it learns to write, as tokens."""
        assert self._tokenizer is not None, "a student on the meta device has no tokenizer"
        return self._tokenizer

    @torch.no_grad()
    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, d]: CLIP's vector, cached or of pixels."""
        check_layer(layer, self.layers)
        return self._teacher.signal(batch, self.image_signal, self.token.device).float()

    @torch.no_grad()
    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, d]: CLIP's vector of its token ids."""
        check_layer(layer, self.layers)
        return self._teacher.signal(batch, "text_embedding", self.token.device).float()

    def save(self, folder: Path) -> None:
        """Write model/ as transformers reads it, and the maps and the token's vector as heads.safetensors."""
        with quiet_transformers():
            self.lm.save_pretrained(folder / "model")
        self.tokenizer.save_pretrained(folder / "model")
        ours = {name: value for name, value in self.state_dict().items() if not name.startswith("lm.")}
        save_heads(folder, ours, {"image_signal": self.image_signal})


def _causal(config: PrefixConfig) -> LanguageModel:
    named = PrefixConfig.model_fields["weights"].default
    found = LanguageModel(config.weights, config.max_tokens, "cut", "gpt2" if config.weights == named else None)
    if found.kind != "causal":
        raise UserError(f"{config.weights} is a {found.kind} model: name a folder of a causal one, which goes on")
    return found
