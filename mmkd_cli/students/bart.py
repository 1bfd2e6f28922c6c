"""BART with two linear maps to and from CLIP's joint space (VLKD): its encoder embeds texts, its decoder sees pictures.

B rows, L tokens, d_b BART's width, d_c CLIP's. Where the decoder attends to the picture is our choice: the paper's
text was not to be had. A text alone goes through BART as transformers has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from mmkd_cli.architectures.transformers_folder import (
    load_pretrained,
    open_config,
    open_tokenizer,
    quiet_transformers,
)
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, PictureTransform, Teacher, Tokenize
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.students.alignment import read_heads, save_heads
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.projections import new_linear
from mmkd_cli.students.seq2seq import Written
from mmkd_cli.students.text import pooled, trimmed
from mmkd_cli.students.tokenizers import FixedLengthTokenizer

Pool = Literal["eos", "bos", "mean"]
_POOLING = {"eos": "eos", "bos": "cls", "mean": "mean"}
_SIZES: Mapping[str, Mapping[str, int]] = {
    "large": {},
    "base": {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072,
             "decoder_ffn_dim": 3072, "encoder_attention_heads": 12, "decoder_attention_heads": 12},
}  # fmt: skip
"""What differs from transformers' BartConfig, which is facebook/bart-large."""


class BartStudentConfig(Config):
    """Keys of the student `bart`."""

    name: str = key("bart", "the student")
    size: Literal["large", "base"] = key(
        "large", "which of facebook/bart-large, bart-base, where no weights are named", source="[P] VLKD: BART, 407 M"
    )
    weights: str | None = key(
        None, "folder or hub id of a BART of transformers (None: facebook/bart-SIZE)", identity=False
    )
    max_tokens: int = key(64, "length of a text with its special tokens", unit="tokens", source="[U] 64", ge=4)
    dropout: float | None = key(
        None,
        "dropout, attention and activation dropout (None: what the folder says)",
        source="[U] BART's own",
        ge=0,
        lt=1,
    )


class Maps(NamedTuple):
    """What VLKD adds. width: d_c. image_signal: of the teacher. image_scale: length of v before W_d, None sqrt(d_c)."""

    width: int
    image_signal: str
    pool: Pool = "eos"
    bias: bool = False
    image_scale: float | None = None
    log_scale: float | None = None
    """Logarithm of a learnt factor of the contrastive loss; None without one."""


class Said(NamedTuple):
    """text [B, d_c], not normalised. logits [B, L, V] of the clean text's tokens: labels and mask [B, L]; or None."""

    text: Tensor | None
    logits: Tensor | None
    labels: Tensor
    mask: Tensor


class Bart(nn.Module):
    """BART, W_e (`text_map`) and W_d (`image_map`). As a dual encoder: the teacher's picture beside W_e's text."""

    Config: ClassVar[type] = BartStudentConfig
    layers: tuple[str, ...] = ("embedding",)

    def __init__(self, bart: Any, tokenizer: Any, maps: Maps, max_tokens: int, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.bart, self.maps, self.image_signal = bart, maps, maps.image_signal
        width = int(bart.config.d_model)
        self.text_map = new_linear(width, maps.width, bias=maps.bias)
        self.image_map = new_linear(maps.width, width, bias=maps.bias)
        self.log_scale = nn.Parameter(torch.tensor(maps.log_scale)) if maps.log_scale is not None else None
        self._tokenizer = FixedLengthTokenizer(tokenizer, max_tokens) if tokenizer is not None else None
        self._loaded_from: Path | None = None
        self._teacher = LiveTeacher(teacher)

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(cls, config: BartStudentConfig, maps: Maps) -> Self:
        """BART with its weights, new maps."""
        folder = hub_folder(_named(config))
        found = _config(folder)
        bart = _weights(folder, config)
        tokenizer = open_tokenizer(folder)
        if tokenizer.mask_token_id is None or len(tokenizer) > found.vocab_size:
            raise UserError(
                f"{folder}: the tokenizer has no mask token, or more tokens ({len(tokenizer):,}) than the model "
                f"({found.vocab_size:,}): name a whole folder of BART"
            )
        if len(tokenizer("").input_ids) != 2 or tokenizer.padding_side != "right":
            raise UserError(f"{folder}: the tokenizer is not BART's, <s> text </s> with padding behind: name another")
        return cls(bart, tokenizer, maps, config.max_tokens)

    @classmethod
    def empty(cls, config: BartStudentConfig, maps: Maps) -> Self:
        """The student on the meta device; without a folder's name no file is asked for."""
        found = _config(hub_folder(config.weights)) if config.weights else BartConfig(**_SIZES[config.size])
        with torch.device("meta"):
            return cls(BartForConditionalGeneration(found), None, maps, config.max_tokens)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. teacher: for pictures."""
        keys = BartStudentConfig.model_validate(config["student"])
        tensors, about = read_heads(folder)
        bart = _weights(folder / "model", keys)
        student = cls(bart, open_tokenizer(folder / "model"), Maps(**about), keys.max_tokens, teacher)
        student.load_state_dict({**student.state_dict(), **tensors})
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: BartStudentConfig) -> dict[str, str]:
        """Key -> folder or hub id whose content decides BART's first weights."""
        return {"student.weights": str(hub_folder(_named(config)))}

    # ------------------------------------------------------------------------------------------ running
    def forward(self, batch: Batch, *, embeds: bool = True, writes: bool = True, share_pass: bool = False) -> Said:
        """batch: input_ids, attention_mask, noisy_ids, noisy_mask int64 [B, L], the picture's signal [B, d_c].

        embeds: ask for the text's vector, of the clean text, or with share_pass of the noisy one. writes: ask the
        decoder, which sees the picture and the noisy text, for the clean one.
        """
        ids, mask = self._trimmed(batch["input_ids"], batch["attention_mask"])
        noisy_ids, noisy_mask = self._trimmed(batch["noisy_ids"], batch["noisy_mask"])
        text = logits = None
        # the text's vector comes first: a pass that asks for nothing else draws the same dropout for it
        noisy = self.encode(noisy_ids, noisy_mask) if share_pass else None
        if embeds:
            states, of = (noisy, noisy_mask) if share_pass else (self.encode(ids, mask), mask)
            text = self.text_map(pooled(states, of, _POOLING[self.maps.pool]))
        if writes:
            noisy = self.encode(noisy_ids, noisy_mask) if noisy is None else noisy
            states, of = self.memory(noisy, noisy_mask, batch[self.image_signal])
            logits = self.decode(states, of, self._shifted(ids))
        return Said(text, logits, ids, mask)

    def write(self, batch: Batch) -> Written:
        """What the decoder says of each target's tokens, beside its source and its picture.

        batch: source_ids, source_mask int64 [B, L], target_ids, target_mask [B, T], the picture's signal [B, d_c].
        """
        source, seen = self._trimmed(batch["source_ids"], batch["source_mask"])
        ids, mask = self._trimmed(batch["target_ids"], batch["target_mask"])
        states, seen = self.memory(self.encode(source, seen), seen, batch[self.image_signal])
        return Written(self.decode(states, seen, self._shifted(ids)), ids, mask)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [B, L], [B, L] -> BART's encoder states [B, L, d_b]."""
        states: Tensor = self.bart.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states

    def memory(self, states: Tensor, attention_mask: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder attends to: [W_d v ; states] [B, 1 + L, d_b], and its mask [B, 1 + L].

        image [B, d_c]: the picture's vector of any length; v has the length image_scale.
        """
        scale = self.maps.width**0.5 if self.maps.image_scale is None else self.maps.image_scale
        seen = self.image_map(scale * F.normalize(image.float(), dim=1)).unsqueeze(1).to(states.dtype)
        return torch.cat([seen, states], dim=1), F.pad(attention_mask, (1, 0), value=1)

    def decode(self, states: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Logits [B, T, V] of what comes after each of decoder_input_ids [B, T], beside a memory [B, M, d_b]."""
        logits: Tensor = self.bart(
            encoder_outputs=BaseModelOutput(last_hidden_state=states), attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids, use_cache=False,
        ).logits  # fmt: skip
        return logits

    def _shifted(self, ids: Tensor) -> Tensor:
        start = torch.full_like(ids[:, :1], self.bart.config.decoder_start_token_id)
        return torch.cat([start, ids[:, :-1]], dim=1)

    @staticmethod
    def _trimmed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Without columns of padding alone; elsewhere than on a CPU asking for lengths would wait for the device."""
        return trimmed(ids, mask) if ids.device.type == "cpu" else (ids, mask)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of BART, of the two maps, and the learnt scale, where there is one."""
        maps = [*self.text_map.parameters(), *self.image_map.parameters()]
        return {"bart": [*self.bart.parameters()], "maps": maps,
                "scale": [self.log_scale] if self.log_scale is not None else []}  # fmt: skip

    # ------------------------------------------------------------------------------------------ dual encoder
    def identity(self) -> dict[str, Any]:
        assert self._loaded_from is not None, "a student is identified by its folder"
        folder = self._loaded_from
        return {"student": "bart", "model": sha256_file(folder / "model"),
                "heads": sha256_file(folder / "heads.safetensors")}  # fmt: skip

    @property
    def picture_transform(self) -> PictureTransform:
        return self._teacher.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        return self.fixed_length

    @property
    def language_model(self) -> Any:
        """transformers' BART, which writes texts."""
        return self.bart

    @property
    def tokenizer(self) -> Any:
        """transformers' own."""
        return self.fixed_length.tokenizer

    @property
    def fixed_length(self) -> FixedLengthTokenizer:
        """The tokenizer, every text padded or cut to max_tokens; `tokenizer` of it is transformers'."""
        assert self._tokenizer is not None, "a student on the meta device has no tokenizer"
        return self._tokenizer

    @torch.no_grad()
    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, d_c]: the teacher's vector, cached or of pixels through the live teacher."""
        self._check_layer(layer)
        return self._teacher.signal(batch, self.image_signal, self.text_map.weight.device).float()

    @torch.no_grad()
    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, d_c] of token ids."""
        self._check_layer(layer)
        device = self.text_map.weight.device
        ids, mask = self._trimmed(batch["input_ids"].to(device), batch["attention_mask"].to(device))
        vectors: Tensor = self.text_map(pooled(self.encode(ids, mask), mask, _POOLING[self.maps.pool]))
        return vectors

    def save(self, folder: Path) -> None:
        """Write model/ as transformers reads it, and the maps as heads.safetensors."""
        with quiet_transformers():
            self.bart.save_pretrained(folder / "model")
        if self._tokenizer is not None:
            self._tokenizer.save(folder / "model")
        ours = {name: value for name, value in self.state_dict().items() if not name.startswith("bart.")}
        save_heads(folder, ours, self.maps._asdict())

    def _check_layer(self, layer: str | None) -> None:
        if layer is not None and layer not in self.layers:
            raise UserError(f"layer {layer!r} is not one of this student's{nearest(layer, self.layers)}")


def _named(config: BartStudentConfig) -> str:
    return config.weights or f"facebook/bart-{config.size}"


def _weights(folder: Path, config: BartStudentConfig) -> Any:
    """transformers' BART of a folder, with the dropout that was asked for."""
    kinds = ("dropout", "attention_dropout", "activation_dropout")
    options = {} if config.dropout is None else dict.fromkeys(kinds, config.dropout)
    positions = _config(folder).max_position_embeddings
    if positions < config.max_tokens:
        raise UserError(
            f"student.max_tokens {config.max_tokens} is more than the {positions} positions of {folder}: make it "
            "smaller"
        )
    return load_pretrained(BartForConditionalGeneration, folder, **options)


def _config(folder: Path) -> Any:
    found = open_config(folder)
    if found.model_type != "bart":
        raise UserError(f"{folder} is a {found.model_type!r}, not a BART: name a folder of BART")
    return found
