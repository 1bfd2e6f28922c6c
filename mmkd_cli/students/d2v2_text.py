"""data2vec 2.0's text model as a student's text encoder: its embeddings and first blocks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import Sizes, TextEncoder, init_bert_parameters
from mmkd_cli.architectures.d2v2_checkpoints import TEXT_NAMES, load_text_checkpoint
from mmkd_cli.architectures.gpt2_bpe import Gpt2Bpe
from mmkd_cli.architectures.state_dicts import load_strictly
from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.text_config import TextEncoderConfig

VOCABULARY = 50265


class BpeTokenizer:
    """`core.contracts.Tokenize`: GPT-2's BPE, `<s>` in front and nothing behind, as in the notes' code."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        self._bpe = Gpt2Bpe(folder, max_tokens)

    def __call__(self, texts: Any) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_tokens]."""
        return self._bpe(texts)

    def save(self, folder: Path) -> None:
        """Copy its files beside the model."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self._bpe.files:
            shutil.copyfile(self._bpe.folder / name, folder / name)


class D2v2Text(nn.Module):
    """The text model behind the interface that student text encoders share."""

    def __init__(self, model: TextEncoder) -> None:
        super().__init__()
        self.model = model
        self.width = model.sizes.width

    @property
    def embeddings(self) -> nn.Module:
        """Token and position tables and their norm."""
        return self.model.embed

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [B, L], [B, L] -> [B, L, width]."""
        hidden: Tensor = self.model(input_ids, attention_mask)
        return hidden

    def layers(self, input_ids: Tensor, attention_mask: Tensor, offset: Tensor | None = None) -> tuple[Tensor, ...]:
        """The output of each block, [B, L, width]. offset [width]: added to what the embeddings give."""
        x, found = self.model.embed(input_ids, attention_mask), []
        x = x if offset is None else x + offset
        for block in self.model.blocks:
            x = block(x, attention_mask.bool())
            found.append(x)
        return tuple(found)

    def save(self, folder: Path) -> None:
        """Write model.safetensors with fairseq's names, and config.json with the sizes."""
        folder.mkdir(parents=True, exist_ok=True)
        ours = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        save_file({_fairseq_name(name): value for name, value in ours.items()}, folder / "model.safetensors")
        sizes = self.model.sizes
        paths.write_json(
            folder / "config.json",
            {
                "model_type": "data2vec2-text",
                "width": sizes.width,
                "depth": len(self.model.blocks),
                "heads": sizes.heads,
                "mlp_width": sizes.mlp_width,
                "vocabulary": sizes.vocabulary,
                "max_tokens": sizes.max_tokens,
            },
        )


def build(config: TextEncoderConfig) -> tuple[D2v2Text, BpeTokenizer]:
    """The encoder with its first weights, and its tokenizer."""
    tokenizer = BpeTokenizer(tokenizer_folder(config.tokenizer, config.text_weights), config.max_tokens)
    if config.init == "random":
        model = TextEncoder(_sizes(config), config.dropout)
        init_bert_parameters(model)
        return D2v2Text(model), tokenizer
    if config.text_weights is None:
        raise UserError(
            "student.text_weights is needed: the file of data2vec 2.0's text model, or set student.init=random"
        )
    model = load_text_checkpoint(
        Path(config.text_weights), depth=config.depth, heads=config.heads, dropout=config.dropout
    )
    check_width(model.sizes, config.width, config.text_weights)
    return D2v2Text(model), tokenizer


def empty(config: TextEncoderConfig) -> D2v2Text:
    """The encoder on the meta device."""
    with torch.device("meta"):
        return D2v2Text(TextEncoder(_sizes(config), config.dropout))


def load(folder: Path, config: TextEncoderConfig) -> tuple[D2v2Text, BpeTokenizer]:
    """What `save` of both wrote into `folder`."""
    return D2v2Text(load_model(folder, config.dropout)), BpeTokenizer(folder, config.max_tokens)


def load_model(folder: Path, dropout: float) -> TextEncoder:
    """The text model in a run's folder, its weights under fairseq's names or ours."""
    sizes = {name: value for name, value in paths.read_json(folder / "config.json").items() if name != "model_type"}
    model = TextEncoder(Sizes(**sizes), dropout)
    names = {_fairseq_name(name): name for name in model.state_dict()}
    state = {names.get(name, name): value for name, value in load_file(folder / "model.safetensors").items()}
    load_strictly(model, state, "data2vec 2.0's text model", folder)
    return model


def tokenizer_folder(tokenizer: str | None, weights: str | None) -> Path:
    """The folder of GPT-2's BPE: the one named, else the one that the weights lie in."""
    if tokenizer is not None:
        return Path(tokenizer)
    if weights is None:
        raise UserError("student.tokenizer is needed: a folder with GPT-2's BPE (encoder.json, vocab.bpe, dict.txt)")
    return Path(weights).parent


def check_width(sizes: Sizes, width: int, weights: str) -> None:
    """UserError unless a checkpoint has the width that the config says."""
    if sizes.width != width:
        raise UserError(f"student.width is {width}, {weights} has {sizes.width}: set student.width={sizes.width}")


def _sizes(config: TextEncoderConfig) -> Sizes:
    return Sizes(
        width=config.width, depth=config.depth or 12, heads=config.heads, mlp_width=4 * config.width,
        vocabulary=config.vocabulary or VOCABULARY,
    )  # fmt: skip


def _fairseq_name(name: str) -> str:
    prefix = next(theirs for theirs, ours in TEXT_NAMES.items() if name.startswith(ours))
    return prefix + name.removeprefix(TEXT_NAMES[prefix])
