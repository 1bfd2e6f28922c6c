"""Language models in transformers' layout: their kind, texts as windows of tokens, logits at the places of targets.

A target is a place in a window of W tokens. Of a causal model place i is token i and says what token i + 1 is, so that
L tokens have L - 1 targets; of an encoder-decoder likewise, its encoder given a mask in place of the whole text
(infilling with one span: it knows no more of the text than a causal model does; a tokenizer without masks gives it an
empty text). Of a masked model place i is the
masked token i itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from mmkd_cli.architectures.transformers_folder import TOKENIZER_FILES, load_pretrained, open_tokenizer
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file, sha256_json
from mmkd_cli.core.hub import hub_folder

Kind = Literal["causal", "masked", "encoder-decoder"]
LongTexts = Literal["cut", "window"]
AUTO_MODELS: dict[Kind, Any] = {
    "causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "encoder-decoder": AutoModelForSeq2SeqLM,
}  # fmt: skip
_POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert", "data2vec-text", "xlm-roberta-xl", "mpnet")
"""Model types that count positions from the padding's id on."""
SENTINEL = "<extra_id_0>"
"""T5's masks are numbered, and its decoder says the number before the span."""


class TokenWindows:
    """A tokenizer whose texts become windows of at most `length` tokens, side by side (`core.contracts.Tokenize`).

    long: `cut` keeps a text's first window; `window` reads all of it: whole, a text is tokenized once and its tokens
    cut, each window beginning with the last token before it; else each window has special tokens of its own.
    """

    def __init__(self, tokenizer: Any, length: int, long: LongTexts, whole: bool) -> None:
        self.tokenizer, self.length, self.long, self.whole = tokenizer, length, long, whole

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids, attention_mask, special_tokens_mask int64 [B, windows * length], each window padded to `length`;
        windows: of the longest text of these."""
        rows, coded = self._sliced(texts) if self.long == "window" and self.whole else self._truncated(texts)
        places, counts = [], [0] * len(texts)
        for row in rows:
            places.append((row, counts[row]))
            counts[row] += 1
        shape = (len(texts), max(counts, default=1), self.length)
        found = {name: torch.zeros(shape, dtype=torch.int64)
                 for name in ("input_ids", "attention_mask", "special_tokens_mask")}  # fmt: skip
        for name, values in found.items():
            for place, window in zip(places, coded[name], strict=True):
                values[place][: len(window)] = torch.tensor(window, dtype=torch.int64)
        return {name: values.flatten(1) for name, values in found.items()}

    def _truncated(self, texts: Sequence[str]) -> tuple[Sequence[int], Any]:
        """Windows by the tokenizer: text and content of each."""
        all_of_it = {"return_overflowing_tokens": True} if self.long == "window" else {}
        coded = self.tokenizer(
            list(texts), truncation=True, max_length=self.length, return_special_tokens_mask=True, **all_of_it
        )
        return coded.get("overflow_to_sample_mapping", range(len(texts))), coded

    def _sliced(self, texts: Sequence[str]) -> tuple[Sequence[int], dict[str, list[list[int]]]]:
        """Windows of all tokens of a text: text and content of each."""
        coded = self.tokenizer(list(texts), return_special_tokens_mask=True, verbose=False)
        cuts = [(row, first) for row, ids in enumerate(coded["input_ids"])
                for first in range(0, max(1, len(ids) - 1), self.length - 1)]  # fmt: skip
        sliced = {name: [values[row][first : first + self.length] for row, first in cuts]
                  for name, values in coded.items()}  # fmt: skip
        return [row for row, _ in cuts], sliced


class LanguageModel:
    """A folder (or hub id) of a causal, masked or encoder-decoder model. published: the model type whose sizes it has
    where the files of a hub's id are not here."""

    def __init__(self, name: str, length: int, long: LongTexts, published: str | None = None) -> None:
        self.name, self.long, self.published = name, long, published
        self._length = length

    @cached_property
    def folder(self) -> Path:
        return hub_folder(self.name)

    @cached_property
    def config(self) -> Any:
        try:
            return AutoConfig.from_pretrained(self.folder, local_files_only=True)
        except UserError:
            if self.published is None:
                raise
            return AutoConfig.for_model(self.published)  # transformers' defaults are the published model's

    @cached_property
    def kind(self) -> Kind:
        """By the class that wrote the folder; where that is a body without a head, by what the model type can be."""
        config = self.config
        wrote, model_type = (config.architectures or [""])[0], config.model_type
        if config.is_encoder_decoder and model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return "encoder-decoder"
        for kind, names in (
            ("masked", MODEL_FOR_MASKED_LM_MAPPING_NAMES),
            ("causal", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        ):
            if wrote in names.values():
                return kind  # type: ignore[return-value]
        if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            return "masked"
        if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return "causal"
        raise UserError(f"{self.name} is a {model_type!r}: name a folder of a causal, masked or encoder-decoder model")

    @cached_property
    def length(self) -> int:
        """Tokens of a window: those asked for, or as many as the model has positions for."""
        positions = getattr(self.config, "max_position_embeddings", None) or self._length
        if self.config.model_type in _POSITIONS_AFTER_PAD:
            positions -= self.config.pad_token_id + 1
        if self.kind == "encoder-decoder":
            positions -= 2  # what its decoder is given first
        return int(min(self._length, positions))

    @property
    def vocabulary_size(self) -> int:
        """Of its logits."""
        return int(self.config.get_text_config().vocab_size)

    @cached_property
    def tokenizer(self) -> Any:
        return open_tokenizer(self.folder)

    @cached_property
    def windows(self) -> TokenWindows:
        """Windows of next tokens share one, so that every token of a text but the first is a target once."""
        return TokenWindows(self.tokenizer, self.length, self.long, whole=self.kind != "masked")

    def require_usable(self) -> None:
        """Refused before anything is computed: windows without room, and a tokenizer that can't make them."""
        if self.kind == "masked":
            _ = self.mask_id
            if self.long == "window" and not self.tokenizer.is_fast:
                raise UserError(
                    f"the tokenizer of {self.folder} is not of the library tokenizers, which cuts a masked model's "
                    "windows: set teacher.long=cut"
                )
        elif self.long == "window":
            return  # cut from a text's tokens, special ones among them
        special = self.tokenizer.num_special_tokens_to_add()
        if self.length <= special:
            raise UserError(
                f"windows of {self.length} tokens have no room beside the {special} special ones: set "
                f"teacher.max_tokens={special + 1} or more"
            )

    def tokenizer_identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Size, and one hash over its files."""
        files = [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).is_file()]
        hashes = {file.name: sha256_file(file, memory) for file in files}
        return {"size": len(self.tokenizer), "sha256": sha256_json(hashes)}

    @cached_property
    def mask_id(self) -> int:
        """What stands in a masked token's place."""
        if self.tokenizer.mask_token_id is None:
            raise UserError(f"the tokenizer of {self.folder} has no mask token, which a masked model needs")
        return int(self.tokenizer.mask_token_id)

    def build(self) -> nn.Module:
        """The model with random weights."""
        model: nn.Module = AUTO_MODELS[self.kind].from_config(self.config)
        return model

    def load(self) -> nn.Module:
        """The model with its weights."""
        model: nn.Module = load_pretrained(AUTO_MODELS[self.kind], self.folder)
        return model

    def logits(self, model: Any, ids: Tensor, mask: Tensor, targets: Tensor, rows: int) -> Iterator[Tensor]:
        """Logits at the targets, in order, some windows after others: float32 [T, V] each, T in all the targets' count.

        ids, mask int64 [windows, W], targets bool [windows, W]; rows: windows of one forward. Windows without targets
        are not read.
        """
        used = targets.any(dim=1)
        if not used.any():
            return
        for own_ids, own_mask, own in zip(*(x[used].split(rows) for x in (ids, mask, targets)), strict=True):
            yield self._forward(model, own_ids, own_mask, own)[own].float()

    def _forward(self, model: Any, ids: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """[windows, W, V]."""
        if self.kind == "encoder-decoder":
            first = torch.tensor(self._decoder_prefix, device=ids.device).expand(len(ids), -1)
            prompt = torch.tensor(self._prompt, device=ids.device).expand(len(ids), -1)
            said = model(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), decoder_input_ids=torch.cat([first, ids], 1),
                decoder_attention_mask=torch.cat([torch.ones_like(first), mask], 1), use_cache=False,
            )  # fmt: skip
            return said.logits[:, first.shape[1] :]
        if self.kind == "masked":
            ids = ids.masked_fill(targets, self.mask_id)
        return model(input_ids=ids, attention_mask=mask).logits

    @property
    def _sentinel(self) -> int | None:
        """T5's first mask, where there is no mask token."""
        found: int | None = self.tokenizer.get_vocab().get(SENTINEL)
        return found if self.tokenizer.mask_token_id is None else None

    @cached_property
    def _prompt(self) -> list[int]:
        """What the encoder reads: one mask, with the tokenizer's own ends; of a tokenizer without masks the ends."""
        text = self.tokenizer.mask_token or (SENTINEL if self._sentinel is not None else "")
        return list(self.tokenizer(text).input_ids) or self._start

    @property
    def _start(self) -> list[int]:
        start = self.config.decoder_start_token_id
        if start is None:
            raise UserError(f"{self.folder}/config.json has no decoder_start_token_id, which its decoder starts from")
        return [int(start)]

    @cached_property
    def _decoder_prefix(self) -> list[int]:
        return self._start if self._sentinel is None else [*self._start, self._sentinel]
