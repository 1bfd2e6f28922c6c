"""CIDEr-D with the references indexed once: a score of captions, and a reward in training (Vedantam et al. 2015).

As the official scorer counts (pycocoevalcap, cider/cider_scorer.py): n-grams of 1 to 4 words weighted by tf * (log N -
log df), the candidate's clipped to the reference's, a Gaussian penalty (sigma 6) on the difference of lengths, which it
counts in bigrams, the mean over n and references, times 10. N and the document frequencies are those of the items
given: a subset scores otherwise, and one item alone scores 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 4
SIGMA = 6.0
# An n-gram is known by the number of its first n - 1 words and that of its last: both in one integer.
WORD_BITS = 31

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class CiderD:
    """references: of each of N items its tokenised captions (words between spaces), at least one each."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        if not references or not all(references):
            raise ValueError("CIDEr-D needs items, and at least one reference of each")
        self._counts = np.array([len(captions) for captions in references], dtype=np.int64)
        self._first = self._counts.cumsum() - self._counts
        self._vocabulary: dict[str, int] = {}
        words, lengths = _numbered([caption for captions in references for caption in captions], self._vocabulary)
        self._bigrams = np.maximum(lengths - 1, 0)
        item = np.repeat(np.arange(len(references)), self._counts)
        self._orders: list[_Order] = []
        for caption, keys in _grams(words, lengths, self._orders):
            self._orders.append(_Order.of(caption, keys, item, len(references)))

    def score(self, candidates: Sequence[str], items: Ints | Sequence[int] | None = None) -> Floats:
        """[B]: each candidate by its item's references. items [B]: their places, None: one of each, in their order."""
        item = np.arange(len(self._counts)) if items is None else np.asarray(items, dtype=np.int64)
        if len(item) != len(candidates):
            raise ValueError(f"{len(candidates)} candidates for {len(item)} items")
        words, lengths = _numbered(candidates, dict(self._vocabulary))
        # A pair is a candidate and one of its references: that of number r is pair r + shift.
        counts = self._counts[item]
        candidate = np.repeat(np.arange(len(item)), counts)
        shift = counts.cumsum() - counts - self._first[item]
        reference = np.arange(len(candidate)) - shift[candidate]
        cosine = np.zeros(len(candidate))
        for order, (row, keys) in zip(self._orders, _grams(words, lengths, self._orders), strict=True):
            row, gram, times = _counted(row, order.numbers(keys))
            weight = times * order.weights(gram)
            norm = np.sqrt(np.bincount(row, weight**2, len(item)))[candidate] * order.norm[reference]
            entry, place = order.shared(item[row], gram)
            shared = order.weight[place]
            pair = order.caption[place] + shift[row[entry]]
            product = np.bincount(pair, np.minimum(weight[entry], shared) * shared, len(candidate))
            cosine += product / np.where(norm > 0, norm, 1)
        longer = np.maximum(lengths - 1, 0)[candidate] - self._bigrams[reference]
        penalised = cosine * np.exp(-(longer**2) / (2 * SIGMA**2))
        return 10 / LONGEST * np.bincount(candidate, penalised, len(item)) / counts


@dataclass(frozen=True)
class _Order:
    """N-grams of one length in the references. known [g]: their keys in ascending order, a place is a number.

    log_items: log N. idf [g]. norm [references]. Then of each n-gram of each reference: owner, which is item * g +
    number, ascending; caption, the reference; weight, its tf * idf.
    """

    known: Ints
    log_items: float
    idf: Floats
    norm: Floats
    owner: Ints
    caption: Ints
    weight: Floats

    @classmethod
    def of(cls, caption: Ints, keys: Ints, item: Ints, items: int) -> _Order:
        """caption, keys [occurrences]; item [references]."""
        known = np.unique(keys)
        caption, gram, times = _counted(caption, np.searchsorted(known, keys))
        owner = item[caption] * len(known) + gram
        frequency = np.bincount(np.unique(owner) % max(len(known), 1), minlength=len(known))
        log_items = float(np.log(items))
        idf = log_items - np.log(frequency)
        weight = times * idf[gram]
        order = np.argsort(owner, kind="stable")
        norm = np.sqrt(np.bincount(caption, weight**2, len(item)))
        return cls(known, log_items, idf, norm, owner[order], caption[order], weight[order])

    def numbers(self, keys: Ints) -> Ints:
        """Of n-grams by their keys; those that no reference has are numbered from g on."""
        place = np.searchsorted(self.known, keys)
        new = place == len(self.known)
        new[~new] = self.known[place[~new]] != keys[~new]
        place[new] = len(self.known) + np.unique(keys[new], return_inverse=True)[1]
        return place

    def weights(self, gram: Ints) -> Floats:
        """Those that no reference has count as if one item had them."""
        weights = np.full(len(gram), self.log_items)
        seen = gram < len(self.known)
        weights[seen] = self.idf[gram[seen]]
        return weights

    def shared(self, item: Ints, gram: Ints) -> tuple[Ints, Ints]:
        """(place in `gram`, place in `owner`) of each n-gram that a reference of its item has as well."""
        seen = np.flatnonzero(gram < len(self.known))
        key = item[seen] * len(self.known) + gram[seen]
        start, stop = (np.searchsorted(self.owner, key, side) for side in ("left", "right"))
        times = stop - start
        within = np.arange(times.sum()) - np.repeat(times.cumsum() - times, times)
        return np.repeat(seen, times), np.repeat(start, times) + within


def _numbered(captions: Sequence[str], vocabulary: dict[str, int]) -> tuple[Ints, Ints]:
    """(numbers of all words one after another, words of each caption); new words are added to the vocabulary."""
    split = [caption.split() for caption in captions]
    numbers = [vocabulary.setdefault(word, len(vocabulary)) for words in split for word in words]
    return np.array(numbers, dtype=np.int64), np.array([len(words) for words in split], dtype=np.int64)


def _grams(words: Ints, lengths: Ints, orders: Sequence[_Order]) -> Iterator[tuple[Ints, Ints]]:
    """(caption, key) of every n-gram, n from 1 on. orders[n - 1] numbers them before n + 1 is asked for."""
    caption = np.repeat(np.arange(len(lengths)), lengths)
    left = lengths.cumsum()[caption] - np.arange(len(words))  # words from here to the caption's end
    keys, numbers = words, np.zeros_like(words)
    for n in range(1, LONGEST + 1):
        here = np.flatnonzero(left >= n)
        if n > 1:
            keys = (numbers[here] << WORD_BITS) | words[here + n - 1]
        yield caption[here], keys
        if n < LONGEST:
            numbers[here] = orders[n - 1].numbers(keys)


def _counted(caption: Ints, gram: Ints) -> tuple[Ints, Ints, Ints]:
    """(caption, n-gram, occurrences) of each n-gram of each caption."""
    span = int(gram.max()) + 1 if len(gram) else 1
    both, times = np.unique(caption * span + gram, return_counts=True)
    return both // span, both % span, times
