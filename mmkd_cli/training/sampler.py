"""Which rows make up which batch: a pure function of seed, step and the global batch's size.

`round_robin` takes each batch from one data set, in turn (weights: batches a turn); a data set that has given all its
rows waits for the next epoch. `concat` shuffles all rows together (weights: how often an epoch sees a row). Feeds of
several streams give a batch each at every step.
Nothing but arrays is held: an epoch's permutations of each data set's rows (one, or with a weight of w about w), and
one of its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mmkd_cli.core.contracts import Feed, Position
from mmkd_cli.core.errors import UserError
from mmkd_cli.training.randomness import permutation


class Part(NamedTuple):
    """Rows [k] of one feed that lie next to each other in a global batch, from place `first` on."""

    feed: int
    rows: np.ndarray
    first: int


class GlobalBatch(NamedTuple):
    """A step's rows of a stream, those of one feed together, in the order of the feeds."""

    epoch: int
    step: int
    size: int
    parts: tuple[Part, ...]
    stream: str = ""

    def position(self, part: Part) -> Position:
        return Position(self.epoch, self.step, part.first)

    def share(self, first: int, last: int) -> GlobalBatch:
        """Rows [first, last) of the batch; places stay those of the whole batch."""
        cut = []
        for feed, rows, start in self.parts:
            low, high = max(first - start, 0), min(last - start, len(rows))
            if low < high:
                cut.append(Part(feed, rows[low:high], start + low))
        return GlobalBatch(self.epoch, self.step, last - first, tuple(cut), self.stream)


class Batches(Protocol):
    """Step -> its global batches, one a stream."""

    def batches(self, step: int) -> tuple[GlobalBatch, ...]: ...


def slice_of(size: int, rank: int, processes: int) -> tuple[int, int]:
    """First and last (exclusive) place of a process's share of `size` rows."""
    return size * rank // processes, size * (rank + 1) // processes


class Streams:
    """Samplers of all streams. The first one's rows make the epoch; the others begin anew whenever they end."""

    def __init__(
        self, feeds: Sequence[Feed], batch_size: int, seed: int, mix: str = "concat", drop_last: bool = True
    ) -> None:
        self._samplers = [
            Sampler(feeds, batch_size, seed, mix, drop_last, stream)
            for stream in dict.fromkeys(feed.stream for feed in feeds)
        ]
        self.steps_per_epoch = self._samplers[0].steps_per_epoch

    def batches(self, step: int) -> tuple[GlobalBatch, ...]:
        """A global batch of each stream, for a step counted from 0 over all epochs."""
        return tuple(sampler.batch(step) for sampler in self._samplers)


class Sampler:
    """Batches of one stream's rows. `steps_per_epoch` is the same in all epochs; `batch(step)` costs one gather."""

    def __init__(
        self, feeds: Sequence[Feed], batch_size: int, seed: int, mix: str = "concat", drop_last: bool = True,
        stream: str = "",
    ) -> None:  # fmt: skip
        self._places = [place for place, feed in enumerate(feeds) if feed.stream == stream]
        feeds = [feeds[place] for place in self._places]
        self._rows = [feed.rows for feed in feeds]
        self._batch_size, self._seed, self._stream = batch_size, seed, stream
        for feed in feeds:
            if feed.rows < 1:
                raise UserError(f"data {feed.name!r} has no training rows: name a split that has some")
        mixed = mix == "concat" and len(feeds) > 1
        self._turns = None if mixed else self._turn_order([feed.weight for feed in feeds], drop_last)
        self._quota = [max(1, round(f.rows * f.weight)) for f in feeds] if mixed else self._rows
        self._starts = np.concatenate([[0], np.cumsum(self._quota)])
        if self._turns is None:
            total = int(self._starts[-1])
            self.steps_per_epoch = total // batch_size if drop_last else -(-total // batch_size)
        else:
            self.steps_per_epoch = len(self._turns)
        if self.steps_per_epoch == 0:
            raise UserError(
                f"train.batch_size {batch_size} is more than the {sum(self._quota)} training rows: "
                "give a smaller --batch-size, or set train.drop_last=false"
            )
        self._held: dict[tuple[int, int], np.ndarray] = {}

    def _turn_order(self, weights: Sequence[float], drop_last: bool) -> np.ndarray:
        """(feed, which of its batches) of each step of an epoch [steps, 2]: batch k of weight w is due at (k+1)/w."""
        batches = [n // self._batch_size if drop_last else -(-n // self._batch_size) for n in self._rows]
        feed = np.repeat(np.arange(len(batches)), batches)
        number = np.concatenate([np.arange(n) for n in batches])
        due = (number + 1) / np.asarray(weights)[feed]
        return np.stack([feed, number], axis=1)[np.lexsort((feed, due))]

    def batch(self, step: int) -> GlobalBatch:
        """The global batch of a step, counted from 0 over all epochs."""
        epoch, at = divmod(step, self.steps_per_epoch)
        if self._turns is not None:
            feed, number = (int(v) for v in self._turns[at])
            first, last = number * self._batch_size, min((number + 1) * self._batch_size, self._rows[feed])
            parts = [Part(self._places[feed], self._permuted(feed, epoch, range(epoch, epoch + 1))[first:last], 0)]
            return GlobalBatch(epoch, step, last - first, tuple(parts), self._stream)
        order = self._order(epoch)
        places = np.sort(order[at * self._batch_size : (at + 1) * self._batch_size])
        cuts = np.searchsorted(places, self._starts)
        parts = []
        for feed in range(len(self._rows)):
            drawn = places[cuts[feed] : cuts[feed + 1]] - self._starts[feed]
            if len(drawn):
                parts.append(Part(self._places[feed], self._drawn(feed, epoch, drawn), int(cuts[feed])))
        return GlobalBatch(epoch, step, len(places), tuple(parts), self._stream)

    def _drawn(self, feed: int, epoch: int, places: np.ndarray) -> np.ndarray:
        """Rows of the feed's endless stream of permutations, at these places (ascending) of an epoch's part of it."""
        rows, first = self._rows[feed], epoch * self._quota[feed]
        passes, within = np.divmod(places + first, rows)
        of_epoch = range(first // rows, (first + self._quota[feed] - 1) // rows + 1)
        out = np.empty(len(places), dtype=np.int64)
        for one in np.unique(passes):
            out[passes == one] = self._permuted(feed, int(one), of_epoch)[within[passes == one]]
        return out

    def _permuted(self, feed: int, number: int, of_epoch: range) -> np.ndarray:
        return self._hold(feed, number, of_epoch, self._rows[feed], "rows")

    def _order(self, epoch: int) -> np.ndarray:
        return self._hold(-1, epoch, range(epoch, epoch + 1), int(self._starts[-1]), "order")

    def _hold(self, feed: int, number: int, of_epoch: range, size: int, what: str) -> np.ndarray:
        """A permutation, computed once in an epoch: those of other epochs are let go."""
        found = self._held.get((feed, number))
        if found is None:
            for old in [k for k in self._held if k[0] == feed and k[1] not in of_epoch]:
                del self._held[old]
            found = self._held[feed, number] = permutation(size, self._seed, what + self._stream, feed, number)
        return found
