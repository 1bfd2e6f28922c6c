"""Words and marks of instructions as numbers, with a beginning and an end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

PAD, UNKNOWN, BEGIN, END = range(4)
_PIECES = re.compile(r"(?:\w|[\u0900-\u0963\u0966-\u0dff\u200c\u200d])+|[^\w\s]")
"""A word, or a mark. The signs of India's scripts are part of their words, which \\w does not know."""


def pieces_of(text: str) -> list[str]:
    """Words and marks in lower case."""
    return _PIECES.findall(text.lower())


class InstructionWords:
    """`core.contracts.Tokenize`: 0 pads, 1 is any other word, 2 begins, 3 ends, then the words in their order.

    max_words: of a text, its beginning and end among them; the end stands there however long a text is.
    """

    def __init__(self, words: Sequence[str], max_words: int) -> None:
        self.words, self.max_words = list(words), max_words
        self._number = {word: place for place, word in enumerate(words, END + 1)}

    @classmethod
    def of(cls, texts: Iterable[str], least: int, max_words: int) -> InstructionWords:
        """Words that are there so often, the commonest first."""
        counts = Counter(piece for text in texts for piece in pieces_of(text))
        kept = [word for word, count in counts.items() if count >= least]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)), max_words)

    def __len__(self) -> int:
        return len(self.words) + END + 1

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_words]."""
        ids = torch.full((len(texts), self.max_words), PAD)
        for row, text in enumerate(texts):
            own = [self._number.get(piece, UNKNOWN) for piece in pieces_of(text)][: self.max_words - 2]
            ids[row, : len(own) + 2] = torch.tensor([BEGIN, *own, END])
        return {"input_ids": ids, "attention_mask": (ids != PAD).long()}

    def text_of(self, ids: Iterable[int]) -> str:
        """Words up to the end; the beginning and what pads are left out."""
        said = []
        for number in ids:
            if number == END:
                break
            if number > END:
                said.append(self.words[number - END - 1])
        return " ".join(said)
