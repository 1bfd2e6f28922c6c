"""S-SMKE's text encoder: the first blocks of BERT, or of data2vec 2.0's text model (SHRe and Sx3HRe before the thesis).

Each gives [B, L, D] after each block (`layers`) and is saved in its own layout, its tokenizer beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmkd_cli.architectures.d2v2 import TextEncoder, init_bert_parameters
from mmkd_cli.architectures.d2v2_checkpoints import load_text_checkpoint
from mmkd_cli.architectures.gpt2_bpe import bpe_files
from mmkd_cli.architectures.text_layers import BERT_BASE, TextLayers, text_config
from mmkd_cli.architectures.transformers_folder import open_tokenizer
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.students.beginnings import encoder_of_run, encoder_run
from mmkd_cli.students.d2v2_text import BpeTokenizer, D2v2Text, check_width, load_model, tokenizer_folder
from mmkd_cli.students.tokenizers import FixedLengthTokenizer


def build_text(config: Any) -> tuple[TextLayers | D2v2Text, Any]:
    """The encoder with its first weights, and its tokenizer. config: of the student `s-smke`."""
    return (empty_text(config) if config.init == "random" else _first(config)), _tokenizer(config, _folder(config))


def empty_text(config: Any) -> TextLayers | D2v2Text:
    """Random weights, on the meta device under it."""
    if config.text == "transformers":
        return TextLayers.of(text_config(config.text_weights or BERT_BASE), config.depth, config.dropout)
    model = TextEncoder(config.sizes, config.dropout)
    init_bert_parameters(model)
    return D2v2Text(model)


def load_text(folder: Path, config: Any) -> tuple[TextLayers | D2v2Text, Any]:
    """What lies in a run's folder of texts."""
    d2v2 = config.text == "d2v2"
    return D2v2Text(load_model(folder, config.dropout)) if d2v2 else TextLayers.load(folder), _tokenizer(config, folder)


def text_files(config: Any) -> dict[str, str]:
    """Key -> file or folder whose content decides the first weights."""
    named = {}
    if config.text == "d2v2":
        folder = _folder(config)
        named = {f"student.tokenizer/{name}": str(folder / name) for name in bpe_files(folder)}
    elif config.tokenizer is not None:
        named = {"student.tokenizer": config.tokenizer}
    if config.text_weights is not None:
        place = config.text_weights if config.text == "d2v2" else str(hub_folder(config.text_weights))
        named["student.text_weights"] = place
    return named


def _folder(config: Any) -> Path:
    """Where the tokenizer lies: as named, in the run that the student begins with, or beside the weights."""
    if config.tokenizer is None and config.init_text is not None:
        return encoder_run(config.init_text, "text", config.text).path / "model"
    if config.text == "d2v2":
        return tokenizer_folder(config.tokenizer, config.text_weights)
    if config.tokenizer is not None:
        return Path(config.tokenizer)
    if config.text_weights is None:
        raise UserError("student.text_weights is needed: a folder or id of BERT, for its blocks and tokenizer")
    return hub_folder(config.text_weights)


def _tokenizer(config: Any, folder: Path) -> Any:
    if config.text == "d2v2":
        return BpeTokenizer(folder, config.max_tokens)
    return FixedLengthTokenizer(open_tokenizer(folder), config.max_tokens)


def _first(config: Any) -> TextLayers | D2v2Text:
    """Of a run, of a folder or of a checkpoint."""
    if config.init_text is not None:
        found = encoder_of_run(config.init_text, "text", config.width, config.depth, config.text)
        if config.text == "d2v2":
            found.blocks = found.blocks[: config.depth]
            return D2v2Text(found)
        return TextLayers.load(Path(config.init_text) / "model", range(config.depth), config.dropout)
    if config.text_weights is None:
        what = "data2vec 2.0's text checkpoint" if config.text == "d2v2" else "a folder or id of BERT"
        raise UserError(f"student.text_weights is needed: {what}; or student.init_text")
    if config.text == "transformers":
        return TextLayers.load(hub_folder(config.text_weights), range(config.depth), config.dropout)
    made = load_text_checkpoint(
        Path(config.text_weights), depth=config.depth, heads=config.heads, dropout=config.dropout
    )
    check_width(made.sizes, config.width, config.text_weights)
    return D2v2Text(made)
