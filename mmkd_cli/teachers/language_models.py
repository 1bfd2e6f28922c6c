"""Language models by transformers as teachers: the distribution of the token at each target, made small.

Signals are ragged over a text's targets (see architectures.language_model for what a target is): `target_positions`
says where they are in the text's windows; the two codecs' signals say what the model expects there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.architectures.language_model import LanguageModel, LongTexts, TokenWindows
from mmkd_cli.architectures.transformers_folder import folder_identity
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.teachers.token_codecs import against_dense, draw, pieces, top_k
from mmkd_cli.training.randomness import generator

CODECS = {"topk": ("topk_ids", "topk_logits", "log_z"), "sampled": ("sampled_ids", "sampled_weights")}
_SMALL_IDS = 1 << 16
_COMPARED = 128
"""Targets that are compared with the whole distribution at once, in float64: 51 MB a tensor of GPT-2's vocabulary."""


class LanguageModelConfig(Config):
    """A folder or hub id of transformers."""

    name: str = key("lm", "the teacher")
    weights: str = key(description="folder or hub id of a causal, masked or encoder-decoder model", identity=False)
    codec: Literal["topk", "sampled", "both"] = key(
        "topk", "stored when no signals are named: topk, largest logits and log Z; sampled, importance-weighted draws; "
        "both",
        source="[U] the smaller error a byte at k = 64",
    )  # fmt: skip
    topk: int = key(64, "logits that topk keeps of each distribution", source="[U] 262 bytes a token of GPT-2", ge=1)
    draws: int = key(
        24, "draws of each distribution that sampled keeps", source="[U] about a third of topk's bytes", ge=1
    )
    proposal: float = key(
        1.0,
        "sampled draws from p ** proposal; the weights keep it unbiased",
        source="[U] the distribution itself",
        gt=0,
    )
    temperature: float = key(
        1.0, "the distributions are softmax(logits / temperature): of log_z and of the draws",
        source="[U] 1; a method that distils at T needs T here", gt=0,
    )  # fmt: skip
    max_tokens: int = key(
        64,
        "length of a window, special tokens included (at most the model's positions)",
        source="[U] within CLIP's 77",
        ge=2,
        le=65536,
    )
    long: LongTexts = key(
        "cut", "longer texts: cut, their first window; window, all of their windows", source="[U] captions are short"
    )
    mask_ratio: float = key(
        0.15, "share of a text's tokens that a masked model sees masked", source="[P] BERT; [S]", gt=0, le=1
    )
    seed: int = key(0, "of masks and draws", source="[U]")


class LanguageModelTeacher:
    """`topk_*` and `log_z`, or `sampled_*`, with `target_positions`, of texts."""

    Config: ClassVar[type] = LanguageModelConfig
    published: ClassVar[str | None] = None
    """transformers' model type of the default weights."""

    def __init__(self, config: LanguageModelConfig) -> None:
        self.config = config
        named = type(config).model_fields["weights"].default
        self.language_model = LanguageModel(
            config.weights, config.max_tokens, config.long, self.published if config.weights == named else None
        )
        self.picture_transform = None
        self._model: Any = None
        self._device = "cpu"

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of configuration, weights and tokenizer; of the keys those that decide targets and the codec stored.
        Refused if unusable."""
        self.language_model.require_usable()
        masked = self.language_model.kind == "masked"
        kept = {"temperature", "long"} | ({"mask_ratio", "seed"} if masked else set())
        kept |= {"topk"} if self.config.codec != "sampled" else set()
        kept |= {"draws", "proposal", "seed"} if self.config.codec != "topk" else set()
        return {
            "library": "transformers",
            "kind": self.language_model.kind,
            "files": folder_identity(self.language_model.folder, memory, tokenizer=True),
            "tokenizer": self.language_model.tokenizer_identity(memory),
            "window": self.language_model.length,
            **self.config.model_dump(mode="json", include=kept),
        }

    def signals(self) -> dict[str, SignalSpec]:
        """float16 logits, up to one constant a token (the largest is 0): bfloat16's steps are eight times as large."""
        config, vocabulary = self.config, self.language_model.vocabulary_size
        if config.topk > vocabulary:
            raise UserError(f"teacher.topk={config.topk}: {config.weights} has {vocabulary} tokens: keep at most those")
        targets = self.language_model.length if config.long == "cut" else 0
        ids = "uint16" if vocabulary <= _SMALL_IDS else "uint32"
        places = "uint16" if config.long == "cut" else "uint32"

        def spec(name: str, shape: tuple[int, ...], dtype: str, default: bool = True) -> SignalSpec:
            return SignalSpec(name, "texts", (targets, *shape), ragged=True, dtype=dtype, default=default)

        top, sampled = config.codec != "sampled", config.codec != "topk"
        specs = [
            spec("target_positions", (), places), spec("topk_ids", (config.topk,), ids, top),
            spec("topk_logits", (config.topk,), "float16", top), spec("log_z", (), "float32", top),
            spec("sampled_ids", (config.draws,), ids, sampled),
            spec("sampled_weights", (config.draws,), "float16", sampled),
        ]  # fmt: skip
        return {one.name: one for one in specs}

    def storing(self, signals: Collection[str]) -> Self:
        """This teacher with the codec of these signals. Refused unless they are target_positions and all of one codec
        or of both: parts say nothing."""
        begun = [codec for codec, names in CODECS.items() if {*names} & {*signals}] or ["topk"]
        wanted = ("target_positions", *(name for codec in begun for name in CODECS[codec]))
        if missing := [name for name in wanted if name not in signals]:
            raise UserError(
                f"--signals {','.join(signals)} is part of a token distribution: add {','.join(missing)}, or leave "
                "--signals out"
            )
        codec = "both" if len(begun) > 1 else begun[0]
        return type(self)(self.config.model_copy(update={"codec": codec}))

    @cached_property
    def tokenize(self) -> TokenWindows:
        return self.language_model.windows

    def parameters_count(self) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.language_model.build().parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        self._device = device
        model = self.language_model.load().eval().requires_grad_(False)
        self._model = model.to(device, getattr(torch, dtype))

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, list[Tensor]]:
        targets = self.targets(batch)
        counts = targets.sum(dim=1).tolist()
        said: dict[str, list[Tensor]] = {"target_positions": list(targets.nonzero()[:, 1].split(counts))}
        wanted = set(signals)
        uniform = self._uniform(batch, counts) if wanted & {*CODECS["sampled"]} else np.empty((0, 0))
        parts: list[dict[str, Tensor]] = []
        first = 0
        if wanted - said.keys():
            for logits in self.logits(batch, targets):
                part: dict[str, Tensor] = {}
                if wanted & {*CODECS["topk"]}:
                    part |= top_k(logits, self.config.topk, self.config.temperature)
                if wanted & {*CODECS["sampled"]}:
                    own = uniform[first : first + len(logits)]
                    part |= draw(logits, own, self.config.temperature, self.config.proposal)
                first += len(logits)
                parts.append(part)
        specs = self.signals()
        for name in wanted - said.keys():
            kind = torch.int64 if name.endswith("_ids") else torch.float32
            none = torch.empty((0, *specs[name].shape[1:]), dtype=kind)
            joined = torch.cat([part[name] for part in parts]) if parts else none
            said[name] = list(joined.split(counts))
        return {name: said[name] for name in signals}

    def logits(self, batch: Batch, targets: Tensor) -> Iterator[Tensor]:
        """Of the targets of a batch, in order, in parts: float32 [T, V]."""
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        flat = [value.reshape(-1, self.language_model.length).to(self._device)
                for value in (batch["input_ids"], batch["attention_mask"], targets)]  # fmt: skip
        yield from self.language_model.logits(self._model, *flat, rows=len(targets))

    @torch.no_grad()
    def divergences(self, batch: Batch, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How far a cache's values of a batch's targets are from the whole distribution: names to float64 [T].

        stored: signal -> [T, ...], of all rows of the batch one after another; where both codecs are stored what is
        of the draws is named `sampled_`. control_kl: of this model against itself, its batch cut in two. Whatever the
        batch's windows, no more is held of dense logits than two forwards'.
        """
        targets, rows = self.targets(batch), len(batch["row"])
        if not torch.equal(targets.nonzero()[:, 1], stored["target_positions"]):
            raise Refused(
                "the cache's target positions are not those of its teacher: its texts or tokenizer are others"
            )
        middle = (rows + 1) // 2
        halves = (
            {name: value if isinstance(value, str) else value[part] for name, value in batch.items()}
            for part in (slice(0, middle), slice(middle, rows))
        )
        again = (part for half in halves for part in self.logits(half, self.targets(half)))
        found: dict[str, list[Tensor]] = {}
        first = 0
        for logits, other in zip(*(pieces(parts, _COMPARED) for parts in (self.logits(batch, targets), again)),
                                 strict=True):  # fmt: skip
            own = {name: value[first : first + len(logits)].to(logits.device) for name, value in stored.items()}
            first += len(logits)
            for name, values in self._divergences(logits, other, own).items():
                found.setdefault(name, []).append(values)
        return {name: torch.cat(values) for name, values in found.items()}

    def _divergences(self, logits: Tensor, again: Tensor, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of some targets: logits and again [T, V], the same in another batch shape; stored: signal -> [T, ...]."""
        one, other = ((x.double() / self.config.temperature).log_softmax(dim=1) for x in (logits, again))
        control = (one.exp() * (one - other)).sum(dim=1)
        found = against_dense(logits, stored, self.config.temperature)
        if {"topk_ids", "sampled_ids"} <= stored.keys():
            drawn = {name: stored[name] for name in CODECS["sampled"]}
            own = against_dense(logits, drawn, self.config.temperature)
            found |= {f"sampled_{name}": value for name, value in own.items()}
        return {**found, "control_kl": control}

    def targets(self, batch: Batch) -> Tensor:
        """Where a batch's targets are: bool [B, windows * W]."""
        if self.language_model.kind == "masked":
            return self._masked(batch)
        mask = batch["attention_mask"].reshape(-1, self.language_model.length).bool()
        followed = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
        return (mask & followed).view(batch["attention_mask"].shape)

    def _masked(self, batch: Batch) -> Tensor:
        """A share of each text's tokens that are not special, at least one, drawn by split and row."""
        free = (batch["attention_mask"].bool() & ~batch["special_tokens_mask"].bool()).numpy()
        chosen = np.zeros(free.shape, dtype=bool)
        for place, row in enumerate(batch["row"].tolist()):
            (places,) = free[place].nonzero()
            if len(places):
                count = max(1, round(self.config.mask_ratio * len(places)))
                drawn = generator(self.config.seed, "masks", batch["split"], row).choice(places, count, replace=False)
                chosen[place, drawn] = True
        return torch.from_numpy(chosen)

    def _uniform(self, batch: Batch, counts: Sequence[int]) -> np.ndarray:
        """float64 [targets, draws], drawn by split and row: no draw depends on who computes it."""
        keys = zip(batch["row"].tolist(), counts, strict=True)
        return np.concatenate([
            generator(self.config.seed, "draws", batch["split"], row).random((count, self.config.draws))
            for row, count in keys
        ])  # fmt: skip


class Gpt2Config(LanguageModelConfig):
    """GPT-2, 124 M parameters."""

    name: str = key("gpt2", "the teacher")
    weights: str = key("openai-community/gpt2", "folder or hub id", source="[S] gpt2", identity=False)


class Gpt2(LanguageModelTeacher):
    """A causal model."""

    Config: ClassVar[type] = Gpt2Config
    published: ClassVar[str | None] = "gpt2"


class BertConfig(LanguageModelConfig):
    """BERT base, 110 M parameters."""

    name: str = key("bert", "the teacher")
    weights: str = key("google-bert/bert-base-uncased", "folder or hub id", source="[U] the base one", identity=False)


class Bert(LanguageModelTeacher):
    """A masked model."""

    Config: ClassVar[type] = BertConfig
    published: ClassVar[str | None] = "bert"


class BartConfig(LanguageModelConfig):
    """BART large, 406 M parameters."""

    name: str = key("bart", "the teacher")
    weights: str = key("facebook/bart-large", "folder or hub id", source="[P2] VLKD: large", identity=False)


class Bart(LanguageModelTeacher):
    """An encoder-decoder."""

    Config: ClassVar[type] = BartConfig
    published: ClassVar[str | None] = "bart"
