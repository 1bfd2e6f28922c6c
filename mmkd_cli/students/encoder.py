"""One modality's encoder: some of the blocks of data2vec 2.0's image or text model, or of a transformers text model.

Variants A, B and B' of Cares' thesis (public repository TimCares/MasterThesis, src/models/image_kd.py, text_kd.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from safetensors.torch import load_file, save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import ImageEncoder, Sizes, init_bert_parameters
from mmkd_cli.architectures.d2v2 import TextEncoder as D2v2TextEncoder
from mmkd_cli.architectures.d2v2_checkpoints import load_image_checkpoint, load_text_checkpoint
from mmkd_cli.architectures.gpt2_bpe import bpe_files
from mmkd_cli.architectures.state_dicts import load_strictly
from mmkd_cli.architectures.text_layers import BERT_BASE, TextLayers, text_config
from mmkd_cli.architectures.transformers_folder import open_tokenizer
from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.data.pictures import Transform
from mmkd_cli.losses.layer_mean import layer_mean
from mmkd_cli.students.d2v2_text import VOCABULARY, BpeTokenizer, check_width, tokenizer_folder
from mmkd_cli.students.text import trimmed
from mmkd_cli.students.tokenizers import FixedLengthTokenizer

Modality = Literal["image", "text"]
Tap = Literal["ffn", "block"]


class EncoderConfig(Config):
    """Keys of the student `encoder`."""

    name: str = key("encoder", "the student")
    modality: Modality = key("image", "what it reads: pictures, or texts", source="[P] A")
    text: Literal["d2v2", "transformers"] = key(
        "transformers", "of texts: data2vec 2.0's blocks, or a transformers encoder's", source="[P] B: BERT; B': d2v2"
    )
    weights: str | None = key(
        None, "checkpoint of data2vec 2.0, folder or hub id of transformers (None: the teacher's)", identity=False
    )
    tokenizer: str | None = key(None, "folder of the tokenizer (None: the one that the weights lie in)", identity=False)
    init: Literal["pretrained", "random"] = key("pretrained", "blocks of the weights, or random", source="[P] A, B")
    depth: int = key(6, "blocks", unit="layers", source="[P] A, B: 6 of 12", ge=1)
    blocks: Literal["first", "alternate"] = key(
        "first", "which blocks of the weights: the first ones, or every second one from the first on",
        source="[P] A, B: first; alternate is DistilBERT's",
    )  # fmt: skip
    width: int = key(768, "width of data2vec 2.0; the feed-forward is four times it", source="[P] base", ge=8)
    heads: int = key(12, "attention heads of data2vec 2.0", source="[P] base", ge=1)
    image_size: int = key(224, "side of a picture", unit="px", source="[P] 224", ge=16)
    patch_size: int = key(16, "side of a patch", unit="px", source="[P] data2vec 2.0 base", ge=1)
    vocabulary: int = key(VOCABULARY, "tokens of data2vec 2.0", source="[P] data2vec 2.0 base", ge=4)
    max_tokens: int | None = key(
        None, "length of a text with its special tokens (None: the teacher's)", source="[P] the teacher's tokens", ge=2
    )
    dropout: float = key(0.0, "dropout in all blocks", source="[C] the models run as in evaluation", ge=0, lt=1)

    @property
    def kept(self) -> list[int]:
        """Numbers of the blocks, from 0."""
        return [place * (1 if self.blocks == "first" else 2) for place in range(self.depth)]

    @property
    def sizes(self) -> Sizes:
        """Of data2vec 2.0's architecture, cut to the student's depth."""
        return Sizes(
            width=self.width, depth=self.depth, heads=self.heads, mlp_width=4 * self.width, image_size=self.image_size,
            patch_size=self.patch_size, vocabulary=self.vocabulary,
        )  # fmt: skip

    def beside(self, teacher: Any) -> EncoderConfig:
        """With the teacher's weights and length of texts where it names none of its own."""
        given = {name: getattr(teacher, name, None) for name in ("weights", "max_tokens")
                 if getattr(self, name) is None}  # fmt: skip
        return self.model_copy(update=given)


class Encoder(nn.Module):
    """The student; it gives the mean of its layers."""

    Config: ClassVar[type] = EncoderConfig

    def __init__(self, config: EncoderConfig, body: Any, tokenizer: Any = None) -> None:
        super().__init__()
        self.config, self.body = config, body
        self._tokenizer = tokenizer

    @property
    def width(self) -> int:
        return int(self.body.width if isinstance(self.body, TextLayers) else self.body.sizes.width)

    @classmethod
    def build(cls, config: EncoderConfig) -> Self:
        """The student before its first step. config: `beside` its teacher."""
        tokenizer = _tokenizer(config) if config.modality == "text" else None
        return cls(config, _pretrained(config) if config.init == "pretrained" else _random(config), tokenizer)

    @classmethod
    def empty(cls, config: EncoderConfig) -> Self:
        """The student on the meta device: sizes without weights."""
        with torch.device("meta"):
            return cls(config, _random(config))

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its tables `student` and `teacher`."""
        keys = EncoderConfig.model_validate(config["student"])
        if keys.max_tokens is None and keys.modality == "text":
            keys = keys.model_copy(update={"max_tokens": config["teacher"]["max_tokens"]})
        model = folder / "model"
        if keys.modality == "image":
            body: Any = ImageEncoder(keys.sizes, keys.dropout)
            load_strictly(body, load_file(model / "model.safetensors"), "a student of pictures", model)
            return cls(keys, body).eval()
        keys = keys.model_copy(update={"weights": str(model), "tokenizer": str(model)})
        if keys.text == "d2v2":
            body = D2v2TextEncoder(keys.sizes, keys.dropout)
            load_strictly(body, load_file(model / "model.safetensors"), "a student of texts", model)
        else:
            body = TextLayers.load(model)
        return cls(keys, body, _tokenizer(keys)).eval()

    @staticmethod
    def files(config: EncoderConfig) -> dict[str, str]:
        """Key -> file or folder whose content decides the student's first weights. config: `beside` its teacher."""
        named, bert = {}, config.modality == "text" and config.text == "transformers"
        if config.weights is not None and (bert or config.init == "pretrained"):  # of a random BERT the sizes
            named["student.weights"] = str(hub_folder(config.weights)) if bert else config.weights
        if config.modality == "text" and config.text == "d2v2":
            folder = tokenizer_folder(config.tokenizer, config.weights)
            named |= {f"student.tokenizer/{name}": str(folder / name) for name in bpe_files(folder)}
        elif config.modality == "text" and config.tokenizer is not None:
            named["student.tokenizer"] = config.tokenizer
        return named

    def forward(self, batch: Batch, tap: Tap) -> Tensor:
        """The mean of the layers, float32 [B, L, D], zeros where padding is.

        batch: "pixels" uint8 [B, 3, H, W], or input_ids and attention_mask [B, L]; on a CPU L is then the longest
        text's. tap: what of each block is meant.
        """
        device = next(self.body.parameters()).device
        if self.config.modality == "image":
            pixels = self.picture_transform.normalize(batch["pixels"].to(device), torch.float32)
            return layer_mean(_tapped(self.body.layers(pixels), tap))
        input_ids, attention_mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        if device.type == "cpu":  # where asking for the longest text waits for nothing
            input_ids, attention_mask = trimmed(input_ids, attention_mask)
        layers = self.body.layers(input_ids, attention_mask)
        return layer_mean(layers if self.config.text == "transformers" else _tapped(layers, tap), attention_mask.bool())

    def image_encoder(self) -> ImageEncoder:
        """The blocks of pictures; UserError where it reads texts."""
        if not isinstance(self.body, ImageEncoder):
            raise UserError("the student encoder of this run reads texts: name a run of --modality image")
        return self.body

    def parts_without_decay(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that weight-decay rules name: embedding tables, and the class token."""
        if self.config.modality == "image":
            return {"image_cls": [self.body.embed.cls_token]}
        return {"embeddings": [module.weight for module in self.body.modules() if isinstance(module, nn.Embedding)]}

    @property
    def picture_transform(self) -> Transform:
        """Short side and centre crop of 7/8, as data2vec 2.0 evaluates; ImageNet's mean and deviation."""
        side, mean, std = self.config.image_size, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        return Transform((side, side), "shortest", side * 8 // 7, "bicubic", mean, std)

    @property
    def tokenize(self) -> Any:
        assert self._tokenizer is not None, "a student on the meta device, or of pictures, has no tokenizer"
        return self._tokenizer

    def save(self, folder: Path) -> None:
        """Write model/: of transformers in its layout; of data2vec 2.0 weights, sizes and the tokenizer's files."""
        model = folder / "model"
        model.mkdir(parents=True, exist_ok=True)
        if self._tokenizer is not None:
            self._tokenizer.save(model)
        if isinstance(self.body, TextLayers):
            self.body.save(model)
            return
        state = {name: value.detach().cpu().contiguous() for name, value in self.body.state_dict().items()}
        save_file(state, model / "model.safetensors")
        paths.write_json(
            model / "config.json",
            {"model_type": f"data2vec2-{self.config.modality}", **asdict(self.body.sizes)},
        )


def _tapped(layers: Any, tap: Tap) -> Any:
    return (said.ffn if tap == "ffn" else said.x for said in layers)


def _random(config: EncoderConfig) -> Any:
    """Random weights: data2vec 2.0's by fairseq's rule, transformers' by its own."""
    if config.modality == "text" and config.text == "transformers":
        return TextLayers.of(text_config(config.weights or BERT_BASE), config.depth, config.dropout)
    body = (ImageEncoder if config.modality == "image" else D2v2TextEncoder)(config.sizes, config.dropout)
    init_bert_parameters(body)
    return body


def _pretrained(config: EncoderConfig) -> Any:
    if config.weights is None:
        raise UserError("student.weights is needed: the teacher names no file whose blocks the student could have")
    if config.modality == "text" and config.text == "transformers":
        return TextLayers.load(hub_folder(config.weights), config.kept, config.dropout)
    load = load_image_checkpoint if config.modality == "image" else load_text_checkpoint
    body: Any = load(Path(config.weights), heads=config.heads, dropout=config.dropout)
    check_width(body.sizes, config.width, config.weights)
    if config.kept[-1] >= len(body.blocks):
        raise UserError(
            f"{config.weights} has {len(body.blocks)} blocks, number {config.kept[-1] + 1} was asked for: "
            "make student.depth smaller"
        )
    body.blocks = nn.ModuleList(body.blocks[place] for place in config.kept)
    body.sizes = replace(body.sizes, depth=config.depth)
    return body


def _tokenizer(config: EncoderConfig) -> Any:
    assert config.max_tokens is not None, "a student of texts is built beside its teacher"
    if config.text == "d2v2":
        return BpeTokenizer(tokenizer_folder(config.tokenizer, config.weights), config.max_tokens)
    if config.tokenizer is None and config.weights is None:
        raise UserError("student.weights is needed: the folder or id of a transformers text encoder")
    folder = Path(config.tokenizer) if config.tokenizer else hub_folder(str(config.weights))
    return FixedLengthTokenizer(open_tokenizer(folder), config.max_tokens)
