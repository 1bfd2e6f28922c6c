"""data2vec 2.0 as a teacher: fairseq's image or text checkpoint, which one its own tensors say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from mmkd_cli.architectures.d2v2 import ImageEncoder, Sizes, TextEncoder
from mmkd_cli.architectures.d2v2_checkpoints import (
    checkpoint_sizes,
    load_image_checkpoint,
    load_text_checkpoint,
    modality_of,
)
from mmkd_cli.architectures.gpt2_bpe import Gpt2Bpe
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.pictures import Transform
from mmkd_cli.losses.layer_mean import layer_mean

CROP_SHARE = 0.875  # 256 to 224, as its fine-tuning evaluates


class D2v2Config(Config):
    """A checkpoint of fairseq's examples/data2vec."""

    name: str = key("d2v2", "the teacher")
    weights: str | None = key(None, "file: base_imagenet.pt or nlp_base.pt", identity=False)
    modality: Literal["image", "text"] = key(
        "image", "the kind of model, where the file is not there to say it", source="[P] MM-D2V2", identity=False
    )
    heads: int | None = key(None, "attention heads (default: the file's, else one per 64 of width)", ge=1)
    tokenizer: str | None = key(
        None, "folder of encoder.json, vocab.bpe and dict.txt (default: the folder of the weights)", identity=False
    )
    max_tokens: int = key(64, "length of a text, special tokens included", source="[C] TimCares/MasterThesis", ge=2)
    eos: bool = key(False, "whether a text ends in </s>", source="[C] TimCares/MasterThesis: `<s>` in front alone")
    layer_tap: Literal["ffn", "block"] = key(
        "ffn", "what of each block layer_mean is of: its feed-forward part before the residual sum, or its output",
        source="[C] TimCares/MasterThesis with fairseq: ffn; its release with timm: block", absent="ffn",
    )  # fmt: skip


class D2v2:
    """Of images `image_cls`, `image_tokens`; of texts `text_embedding`: token 0 of the last block, normed.

    Of both `layer_mean` (losses.layer_mean), all tokens; the mean's own norm over channels is left to who reads it.
    """

    Config: ClassVar[type] = D2v2Config

    def __init__(self, config: D2v2Config) -> None:
        self.config = config
        self._model: ImageEncoder | TextEncoder | None = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _file(self) -> Path | None:
        """The weights, where they are on this machine."""
        return Path(self.config.weights) if self.config.weights and Path(self.config.weights).is_file() else None

    def _weights_file(self) -> Path:
        if self._file is None:
            named = f"weights {self.config.weights} are not there" if self.config.weights else "it needs weights"
            raise UserError(
                f"teacher d2v2: {named}: get base_imagenet.pt or nlp_base.pt of fairseq, and name it by --weights FILE"
            )
        return self._file

    @cached_property
    def _modality(self) -> str:
        return modality_of(self._file) if self._file else self.config.modality

    @cached_property
    def _sizes(self) -> Sizes:
        return checkpoint_sizes(self._file, self._modality, self.config.heads) if self._file else Sizes()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Sizes, SHA-256 of the weights, and transform or tokenizer."""
        seen = {"tokenizer": self.tokenize.identity()} if self.tokenize else {}
        if self.picture_transform:
            seen = {"transform": self.picture_transform.identity()}
        file = self._weights_file()
        if self.config.layer_tap != "ffn":
            seen["layer_tap"] = self.config.layer_tap
        return {"library": "d2v2", "modality": self._modality, "sizes": asdict(self._sizes), **seen,
                "weights_sha256": sha256_file(file, memory)}  # fmt: skip

    def signals(self) -> dict[str, SignalSpec]:
        width = self._sizes.width
        if self._modality == "text":
            length = self.config.max_tokens
            return {
                "text_embedding": SignalSpec("text_embedding", "texts", (width,)),
                "layer_mean": SignalSpec("layer_mean", "texts", (length, width), ragged=True, default=False),
            }
        tokens = 1 + (self._sizes.image_size // self._sizes.patch_size) ** 2
        return {
            "image_cls": SignalSpec("image_cls", "images", (width,)),
            "image_tokens": SignalSpec("image_tokens", "images", (tokens, width), default=False),
            "image_mean": SignalSpec("image_mean", "images", (width,), default=False),
            "layer_mean": SignalSpec("layer_mean", "images", (tokens, width), default=False),
        }

    @cached_property
    def picture_transform(self) -> Transform | None:
        if self._modality != "image":
            return None
        size = self._sizes.image_size
        return Transform(
            (size, size), "shortest", int(size / CROP_SHARE), "bicubic", IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        )

    @cached_property
    def tokenize(self) -> Gpt2Bpe | None:
        if self._modality != "text":
            return None
        if self.config.max_tokens > self._sizes.max_tokens:
            raise UserError(
                f"teacher.max_tokens={self.config.max_tokens}: the model has {self._sizes.max_tokens} positions"
            )
        folder = Path(self.config.tokenizer) if self.config.tokenizer else self._weights_file().parent
        return Gpt2Bpe(folder, self.config.max_tokens, self.config.eos)

    def parameters_count(self) -> int:
        with torch.device("meta"):
            model = (ImageEncoder if self._modality == "image" else TextEncoder)(self._sizes)
        return sum(parameter.numel() for parameter in model.parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        load = load_image_checkpoint if self._modality == "image" else load_text_checkpoint
        model = load(self._weights_file(), heads=self.config.heads)
        self._device, self._dtype = device, getattr(torch, dtype)
        self._model = model.eval().requires_grad_(False).to(device, self._dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        if self.picture_transform is not None:
            given = (self.picture_transform.normalize(batch["pixels"].to(self._device), self._dtype),)
        else:
            given = (batch["input_ids"].to(self._device), batch["attention_mask"].to(self._device))
        model: Any = self._model
        tokens: Tensor | None = None

        def tapped() -> Iterator[Tensor]:
            nonlocal tokens
            for block in model.layers(*given):
                tokens = block.x
                yield block.ffn if self.config.layer_tap == "ffn" else block.x

        said: dict[str, Any] = {}
        if "layer_mean" in signals:
            attend = None if self.picture_transform is not None else given[1].bool()
            mean = layer_mean(tapped(), attend)
            said["layer_mean"] = mean if attend is None else [row[own] for row, own in zip(mean, attend, strict=True)]
        else:
            tokens = model(*given)
        assert tokens is not None
        said |= {"image_cls": tokens[:, 0], "image_tokens": tokens, "text_embedding": tokens[:, 0]}
        if "image_mean" in signals:
            said["image_mean"] = tokens.mean(dim=1)
        return {name: said[name] for name in signals}
