"""GPT-2's byte-level BPE with fairseq's numbering, as data2vec text and RoBERTa use it.

A folder holds either fairseq's files (encoder.json, vocab.bpe, dict.txt) or transformers' (vocab.json, merges.txt).
fairseq numbers tokens by dict.txt, whose entries are GPT-2's numbers by frequency, after `<s> <pad> </s> <unk>`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from mmkd_cli.architectures.d2v2 import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file

FAIRSEQ_FILES = ("encoder.json", "vocab.bpe", "dict.txt")
TRANSFORMERS_FILES = ("vocab.json", "merges.txt")
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")


class Gpt2Bpe:
    """Texts to ids: `<s>` in front, at most `max_tokens` in all, `</s>` at the end where `eos` is set.

    The text itself is coded as it stands: no space is put in front, nothing in it becomes a special token.
    """

    def __init__(self, folder: Path, max_tokens: int = 64, eos: bool = False) -> None:
        self.folder, self.max_tokens, self.eos = Path(folder), max_tokens, eos
        self.files, encoder, merges, self._ids = read_bpe(self.folder)
        self._tokenizer = Tokenizer(BPE(vocab=encoder, merges=merges))
        self._tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids, attention_mask int64 [B, max_tokens]."""
        input_ids = torch.full((len(texts), self.max_tokens), PAD_ID, dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        end = [EOS_ID] if self.eos else []
        for row, coded in enumerate(self._tokenizer.encode_batch(list(texts))):
            body = self._ids[np.asarray(coded.ids, dtype=np.int64)][: self.max_tokens - 1 - len(end)]
            ids = torch.tensor([BOS_ID, *body.tolist(), *end])
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def identity(self) -> dict[str, Any]:
        """SHA-256 of the files, length and end token."""
        hashes = {name: sha256_file(self.folder / name) for name in self.files}
        return {"bpe": "gpt2", "files": hashes, "max_tokens": self.max_tokens, "eos": self.eos}


def bpe_files(folder: Path) -> tuple[str, ...]:
    """Names of the BPE's files in a folder: fairseq's three, else transformers' two."""
    for files in (FAIRSEQ_FILES, TRANSFORMERS_FILES):
        if all((folder / name).is_file() for name in files):
            return files
    raise UserError(
        f"tokenizer folder {folder} holds neither {', '.join(FAIRSEQ_FILES)} nor {', '.join(TRANSFORMERS_FILES)}: "
        "put fairseq's three files of GPT-2's BPE there"
    )


def read_bpe(folder: Path) -> tuple[tuple[str, ...], dict[str, int], list[tuple[str, str]], np.ndarray]:
    """Files used, token -> its number in the BPE, merges, and the BPE's number -> id."""
    files = bpe_files(folder)
    encoder = _vocabulary(folder / files[0])
    lines = (folder / files[1]).read_text(encoding="utf-8").split("\n")
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines if line) if second
              and first != "#version:"]  # fmt: skip
    numbers = np.arange(max(encoder.values()) + 1, dtype=np.int64)
    if files is TRANSFORMERS_FILES:
        return files, encoder, merges, numbers
    ids = np.full(len(numbers), UNK_ID, dtype=np.int64)
    for place, line in enumerate((folder / "dict.txt").read_text(encoding="utf-8").splitlines()):
        number = line.split(" ")[0]
        if number.isdigit() and int(number) < len(ids):  # others are fairseq's fillers, `madeupword0000`
            ids[int(number)] = place + len(SPECIAL_TOKENS)
    return files, encoder, merges, ids


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or not content or not all(type(v) is int and v >= 0 for v in content.values()):
        raise UserError(f"{path} is no table of tokens to numbers")
    return content
