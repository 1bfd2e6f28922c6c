"""The text half of a run as a folder of transformers: its text embeddings and the blocks that texts alone go through.

So the thesis fine-tunes its students on GLUE: what both modalities share is left out, and BERT's pooler is put back.
Source: public repository TimCares/EV-LP, src/models/S_SMKE.py, text_classification.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn
from transformers import AutoModel

from mmkd_cli.architectures.d2v2_transformers import as_transformers, transformers_tokenizer
from mmkd_cli.architectures.state_dicts import misfit
from mmkd_cli.architectures.transformers_folder import load_pretrained, read_json
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.d2v2_text import load_model
from mmkd_cli.students.text_folder import save_model
from mmkd_cli.students.two_modalities import open_student


@contextmanager
def text_half(run: Path) -> Iterator[Path]:
    """A folder of transformers with the run's text model and tokenizer. data2vec 2.0's blocks are written into a
    temporary one, of the same function; UserError where the run has none that transformers could run."""
    folder = run / "model"
    kind = read_json(folder / "config.json").get("model_type")
    if kind == "s-smke":
        folder = folder / "text"
        kind = read_json(folder / "config.json").get("model_type")
    if kind == "data2vec2-image":
        raise UserError(f"run {run.name!r} reads pictures: name a run of texts")
    if kind == "s-smke" and read_json(folder / "config.json").get("token_types") == "before":
        raise UserError(f"run {run.name!r} has token types, which no text model of transformers adds: name another run")
    if kind not in ("data2vec2-text", "mm-d2v2"):
        yield folder
        return
    model = _of_text(folder) if kind == "data2vec2-text" else _of_both(run)
    with TemporaryDirectory() as made:
        save_model(model, transformers_tokenizer(folder, model.config.max_position_embeddings - 2), Path(made))
        yield Path(made)


def attach_pooler(model: Any, folder: Path) -> None:
    """Give a model of transformers the pooler of another folder's; UserError where one of them has none of its size."""
    pooler: nn.Module | None = getattr(model.base_model, "pooler", None)
    given: nn.Module | None = getattr(load_pretrained(AutoModel, folder), "pooler", None)
    if pooler is None or given is None or (wrong := misfit(pooler, given.state_dict())):
        lacks = "the model" if pooler is None else str(folder) if given is None else ""
        why = f"{lacks} has no pooler" if lacks else f"{folder}'s does not fit: {wrong}"
        raise UserError(f"student.pooler: {why}: name a folder of the model's own family, as BERT's, or leave it out")
    pooler.load_state_dict(given.state_dict())


def _of_text(folder: Path) -> Any:
    """Of a student of texts alone."""
    dropout = 0.0  # [C] as it was distilled; student.dropout sets it
    found = load_model(folder, dropout)
    return as_transformers(found.embed, [(block, block.attn) for block in found.blocks], found.sizes, dropout)


def _of_both(run: Path) -> Any:
    """Of an MM-D2V2: its text embeddings and specific blocks, without the shared ones."""
    found: Any = open_student(run)
    if found.type_norm is not None:
        raise UserError(f"run {run.name!r} has token types, which no text model of transformers adds: name another run")
    blocks = [(one.text, one.image.attn if one.shared_attention else one.text.attn) for one in found.specific]
    if not blocks:
        raise UserError(f"run {run.name!r} shares all its blocks: there is no text half to fine-tune")
    return as_transformers(found.embed["text"], blocks, found.config.sizes, found.config.dropout)
