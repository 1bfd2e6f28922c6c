"""Words of questions as numbers, for models that know no subwords; and word vectors from a GloVe file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmkd_cli.core.errors import UserError

PAD, UNKNOWN = 0, 1
_MARKS, _BREAKS = re.compile(r"[.,'!?\"()*#:;]"), re.compile(r"[-/]")


def words_of(text: str) -> list[str]:
    """Lower case; marks go, hyphens and slashes part words."""
    return _BREAKS.sub(" ", _MARKS.sub("", text.lower())).split()


class Words:
    """`core.contracts.Tokenize` by whole words: 0 pads, 1 is any other word, then the words in their order."""

    def __init__(self, words: Sequence[str], max_words: int) -> None:
        self.words, self.max_words = list(words), max_words
        self._number = {word: place for place, word in enumerate(words, UNKNOWN + 1)}

    @classmethod
    def of(cls, texts: Iterable[str], max_words: int) -> Words:
        """Every word of these texts, the commonest first."""
        counts = Counter(word for text in texts for word in words_of(text))
        return cls(sorted(counts, key=lambda word: (-counts[word], word)), max_words)

    def __len__(self) -> int:
        return len(self.words) + UNKNOWN + 1

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_words]; a text without a word is one unknown word."""
        ids = torch.full((len(texts), self.max_words), PAD)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            own = [self._number.get(word, UNKNOWN) for word in words_of(text)][: self.max_words] or [UNKNOWN]
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def word_vectors(words: Sequence[str], width: int, glove: Path | None) -> tuple[nn.Embedding, int]:
    """A table [len(words) + 2, width], nothing for padding, and how many words the file knew.

    glove: lines of a word and its numbers. UserError where its width is another.
    """
    table = nn.Embedding(len(words) + UNKNOWN + 1, width, padding_idx=PAD)
    known = 0
    if glove is None:
        return table, known
    place = {word: number for number, word in enumerate(words, UNKNOWN + 1)}
    with open(glove, encoding="utf-8") as file, torch.no_grad():
        for number, line in enumerate(file, 1):
            word, _, rest = line.partition(" ")
            if word not in place:
                continue
            try:
                vector = [float(one) for one in rest.split()]
            except ValueError:
                raise UserError(f"file {glove}, line {number}: numbers are needed behind {word!r}") from None
            if len(vector) != width:
                raise UserError(f"file {glove}, line {number}: {len(vector)} numbers, {width} are needed: set "
                                "student.word_width")  # fmt: skip
            table.weight[place[word]] = torch.tensor(vector)
            known += 1
    return table, known
