"""The loss on validation rows: each part, averaged over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from mmkd_cli.core.contracts import Feed, Trainable
from mmkd_cli.training import distribution
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.devices import widest_float
from mmkd_cli.training.gradients import prepare
from mmkd_cli.training.loader import cut, rows_in, shares, to_device
from mmkd_cli.training.randomness import seed_all
from mmkd_cli.training.sampler import GlobalBatch, Part


class InOrder:
    """The rows of one feed in their order, in batches, the last one smaller. Stands where a Sampler does."""

    def __init__(self, feed: Feed, batch_size: int) -> None:
        self._rows, self._batch_size = feed.rows, batch_size
        self.steps_per_epoch = -(-feed.rows // batch_size)

    def batches(self, step: int) -> tuple[GlobalBatch]:
        first = step * self._batch_size
        last = min(first + self._batch_size, self._rows)
        return (GlobalBatch(0, step, last - first, (Part(0, np.arange(first, last), 0),)),)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, without gradients; in training mode again afterwards."""
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


class Validation:
    """Runs a trainable's validation feeds. Whole batches go to the processes in turn, so that a joint loss is the
    same for any number of them."""

    def __init__(
        self, trainable: Trainable, config: TrainConfig, device: torch.device, precision: str, workers: int
    ) -> None:
        self._trainable, self._config, self._device, self._workers = trainable, config, device, workers
        self._lowered = precision == "bfloat16"

    def __call__(self) -> dict[str, float]:
        """`val/NAME` for each loss and report, and `val/loss`; with several feeds `val/FEED/NAME`, and where two
        streams read one data set `val/STREAM/FEED/NAME`."""
        found: dict[str, float] = {}
        feeds = self._trainable.validation
        unique = len({feed.name for feed in feeds}) == len(feeds)
        with evaluating(self._trainable.model):
            for feed in feeds:
                prefix = "val/" if len(feeds) == 1 else f"val/{feed.name if unique else f'{feed.stream}/{feed.name}'}/"
                means, losses = self._feed(feed)
                weights = self._trainable.weights
                total = sum(weights.get(name, 1.0) * means[name] for name in losses)
                found.update({prefix + "loss": total, **{prefix + name: value for name, value in means.items()}})
        return found

    def _feed(self, feed: Feed) -> tuple[dict[str, float], list[str]]:
        """Means of a feed, and which of them are losses."""
        wide = widest_float(self._device)
        order = InOrder(feed, self._config.batch_size)
        steps = range(distribution.rank(), order.steps_per_epoch, distribution.processes())
        sums: dict[str, Tensor] = {}
        losses: dict[str, None] = {}
        for (share,) in shares(order, [feed], steps, workers=self._workers):
            size = rows_in(share.batch)
            pieces = self._config.micro_batch_size or size
            gathered: list[dict[str, Tensor]] = []
            values: dict[str, Tensor] = {}
            seed_all(self._config.seed, "validation", share.whole.step)
            batch = prepare(self._trainable, to_device(share.batch, self._device), self._lowered)
            counts = self._trainable.counts(batch)
            for first in range(0, size, pieces):
                seed_all(self._config.seed, "validation", share.whole.step, first)
                with torch.autocast(self._device.type, torch.bfloat16, enabled=self._lowered):
                    out = self._trainable.forward(cut(batch, first, min(first + pieces, size)))
                gathered.append(out.gathered)
                losses.update(dict.fromkeys(out.row_losses))
                for name, value in {**out.row_losses, **out.report}.items():
                    values[name] = values.get(name, 0.0) + value.to(wide).sum()
            if gathered[0]:
                joined = {name: torch.cat([piece[name] for piece in gathered]) for name in gathered[0]}
                seed_all(self._config.seed, "validation", share.whole.step)
                joint = self._trainable.joint_losses(joined)
                losses.update(dict.fromkeys(joint))
                values.update({name: value.to(wide) * size for name, value in joint.items()})
            for name, value in values.items():
                pair = torch.stack([value, value.new_tensor(float(counts.get(name, size)))])
                sums[name] = sums.get(name, 0.0) + pair
        return _means(sums, list(losses), torch.zeros(2, dtype=wide, device=self._device))


def _means(sums: dict[str, Tensor], losses: list[str], nothing: Tensor) -> tuple[dict[str, float], list[str]]:
    """Sum over count of each name, over processes; a process without a batch learns the names from the others.

    sums: name -> [2]; nothing: zeros like these.
    """
    if distribution.processes() > 1:
        names, losses = distribution.from_main((list(sums), losses))
        table = torch.stack([sums.get(n, nothing) for n in names])
        sums = dict(zip(names, distribution.sum_of(table), strict=True))
    return {name: float(pair[0] / pair[1]) for name, pair in sums.items()}, losses
