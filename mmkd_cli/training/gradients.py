"""The gradient of the whole global batch's loss, however the batch is cut over micro-batches and processes.

A loss of single rows adds up. A loss of the joint batch (contrastive) is differentiated as in GradCache (Gao et al.
2021, arXiv 2101.06983): embeddings of all pieces first; the loss on them as leaves; then each piece's forward pass
again, with the leaves' gradients sent back through it. One piece on one process needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmkd_cli.core.contracts import Batch, Outputs, Trainable
from mmkd_cli.training import distribution
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loader import Share, Shares, cut, rows_in, to_device
from mmkd_cli.training.normalization import RunningStatistics
from mmkd_cli.training.randomness import seed_all

Forward = Callable[[int], Outputs]
"""Runs the piece of that number."""


@dataclass
class StepLosses:
    """Losses and reports of a step: name -> scalar on the device. gathered: name -> [N, ...], detached."""

    losses: dict[str, Tensor]
    report: dict[str, Tensor]
    gathered: dict[str, Tensor]


class _Sums:
    """Sums of row values over the global batch's count. `counts`: of the names that do not count rows."""

    def __init__(self, size: int, counts: Mapping[str, Tensor | float]) -> None:
        self._size, self._counts = size, counts
        self.losses: dict[str, Tensor] = {}
        self.report: dict[str, Tensor] = {}

    def share_of(self, name: str, values: Tensor, rows: int) -> Tensor:
        """A piece's part of a mean over the global batch."""
        if name not in self._counts and values.shape != (rows,):
            raise ValueError(
                f"{name!r} has shape {list(values.shape)} for {rows} rows: "
                "give one value a row, or say in counts() how many there are"
            )
        return values.float().sum() / self._counts.get(name, self._size)

    def add(self, outputs: Outputs, rows: int) -> dict[str, Tensor]:
        """Note a piece's values; returns its part of each loss, with the graph."""
        parts = {name: self.share_of(name, values, rows) for name, values in outputs.row_losses.items()}
        for name, part in parts.items():
            self.losses[name] = self.losses.get(name, 0.0) + part.detach()
        for name, values in outputs.report.items():
            self.report[name] = self.report.get(name, 0.0) + self.share_of(name, values.detach(), rows)
        return parts


def prepare(trainable: Trainable, batch: Batch, lowered: bool) -> Batch:
    """What `Trainable.prepare` makes of a share on its device, without gradients; running statistics stay."""
    if type(trainable).prepare is Trainable.prepare:
        return batch
    device, before = next(trainable.model.parameters()).device, RunningStatistics(trainable.model)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=lowered):
        prepared = trainable.prepare(batch)
    before.restore()
    return prepared


class Gradients:
    """Runs forward and backward of a step's shares; leaves each parameter's .grad summed over processes."""

    def __init__(
        self, trainable: Trainable, parameters: Sequence[Tensor], config: TrainConfig, device: torch.device,
        precision: str,
    ) -> None:  # fmt: skip
        self._trainable, self._parameters, self._config = trainable, parameters, config
        self._device, self._lowered = device, precision == "bfloat16"
        self._alone: str | None = None
        """The one loss that counts, while its gradient is measured."""

    def __call__(self, shares: Shares) -> StepLosses:
        step = StepLosses({}, {}, {})
        for share in shares:
            said = self._run(share)
            for whole, part in ((step.losses, said.losses), (step.report, said.report), (step.gathered, said.gathered)):
                if twice := whole.keys() & part.keys():
                    raise ValueError(f"two streams give {sorted(twice)[0]!r}: a name belongs to one stream")
                whole.update(part)
        distribution.sum_gradients(self._parameters)
        return step

    def loss_shares(self, shares: Shares, measured: Sequence[Tensor], names: Iterable[str]) -> dict[str, Tensor]:
        """`grad_share/NAME`: the norm over `measured` of a loss's own gradient, over the sum of these norms.

        Runs the step again once a loss, over the whole global batch. Gradients and running statistics stay as they are.
        """
        kept, before = [parameter.grad for parameter in self._parameters], RunningStatistics(self._trainable.model)
        norms = {}
        for name in names:
            for parameter in self._parameters:
                parameter.grad = None
            self._alone = name
            self(shares)
            gradients = [parameter.grad for parameter in measured if parameter.grad is not None]
            norms[f"grad_share/{name}"] = torch.nn.utils.get_total_norm(gradients).to(self._device)
        self._alone = None
        for parameter, gradient in zip(self._parameters, kept, strict=True):
            parameter.grad = gradient
        before.restore()
        total = torch.stack([*norms.values()]).sum()
        return {name: norm / total for name, norm in norms.items()}

    def _run(self, share: Share) -> StepLosses:
        whole, rows = share.whole, rows_in(share.batch)
        piece_rows = self._config.micro_batch_size or rows
        bounds = [(a, min(a + piece_rows, rows)) for a in range(0, rows, piece_rows)]
        batch = to_device(share.batch, self._device)
        seed_all(self._config.seed, "prepare" + whole.stream, whole.step, share.first)
        prepared = prepare(self._trainable, batch, self._lowered)
        sums = _Sums(whole.size, self._counts(share.batch if prepared is batch else prepared))
        batch = prepared
        pieces = [batch] if len(bounds) == 1 else [cut(batch, *bound) for bound in bounds]

        def forward(index: int) -> Outputs:
            seed_all(self._config.seed, "forward" + whole.stream, whole.step, share.first + bounds[index][0])
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._lowered):
                return self._trainable.forward(pieces[index])

        before = RunningStatistics(self._trainable.model) if len(bounds) > 1 else None
        held = {0: forward(0)}
        if not held[0].gathered:
            gathered: dict[str, Tensor] = {}
            for index, (start, end) in enumerate(bounds):
                parts = sums.add(held.pop(index) if index in held else forward(index), end - start)
                self._backward([self.weighted(parts)] if parts else [])
        elif len(pieces) == 1 and distribution.processes() == 1:
            gathered = held[0].gathered
            joint = self._joint(whole.step, gathered)
            self._backward([self.weighted({**sums.add(held[0], rows), **joint})])
            sums.losses.update({name: value.detach() for name, value in joint.items()})
        else:
            gathered = self._by_leaves(share, bounds, held, forward, sums, before)
        return StepLosses(*self._over_processes(sums), {name: value.detach() for name, value in gathered.items()})

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum of losses times their weights."""
        weights = self._trainable.weights
        counted = {name: value for name, value in losses.items() if self._alone in (None, name)}
        if not counted:
            return torch.zeros((), device=self._device)
        return torch.stack([weights.get(name, 1.0) * value.float() for name, value in counted.items()]).sum()

    def _by_leaves(
        self, share: Share, bounds: list[tuple[int, int]], held: dict[int, Outputs], forward: Forward, sums: _Sums,
        before: RunningStatistics | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """`held`: the first piece's outputs, with their graph; emptied as it is used."""
        embedded = [{name: value.detach() for name, value in held[0].gathered.items()}]
        if before is not None:
            held.clear()  # with its graph: the piece is run again below
            with torch.no_grad():
                embedded += [forward(index).gathered for index in range(1, len(bounds))]
                before.restore()  # only the second pass over the pieces counts
        local = {name: torch.cat([piece[name] for piece in embedded]) for name in embedded[0]}
        leaves = distribution.gather(local, share.whole.size)
        for leaf in leaves.values():
            leaf.requires_grad_(leaf.is_floating_point())
        joint = self._joint(share.whole.step, leaves)
        counted = distribution.rank() == 0  # every process computes the whole joint loss: its parameters count once
        gradients = [parameter.grad for parameter in self._parameters]
        if not counted:
            for parameter in self._parameters:
                parameter.grad = None
        self._backward([self.weighted(joint)])
        if not counted:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        for name, value in joint.items():
            sums.losses[name] = value.detach() * float(counted)
        for index, (start, end) in enumerate(bounds):
            output = held.pop(index) if index in held else forward(index)
            parts = sums.add(output, end - start)
            roots: list[Tensor] = [self.weighted(parts)] if parts else []
            seeds: list[Tensor | None] = [None] * len(roots)
            for name, value in output.gathered.items():
                gradient = leaves[name].grad
                if value.requires_grad and gradient is not None:
                    roots.append(value)
                    seeds.append(gradient[share.first + start : share.first + end].to(value.dtype))
            self._backward(roots, seeds)
        return leaves

    def _backward(self, roots: list[Tensor], gradients: list[Tensor | None] | None = None) -> None:
        with_graph = [(r, g) for r, g in zip(roots, gradients or [None] * len(roots), strict=True) if r.requires_grad]
        if with_graph:
            torch.autograd.backward([r for r, _ in with_graph], [g for _, g in with_graph])

    def _joint(self, step: int, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        seed_all(self._config.seed, "joint", step)
        return self._trainable.joint_losses(gathered)

    def _counts(self, batch: Batch) -> dict[str, Tensor | float]:
        counts = self._trainable.counts(batch)
        names = sorted(counts)
        if not names or distribution.processes() == 1:
            return {name: float(max(counts[name], 1)) for name in names}
        summed = distribution.sum_of(torch.tensor([float(counts[n]) for n in names], device=self._device))
        return dict(zip(names, summed.clamp(min=1), strict=True))

    def _over_processes(self, sums: _Sums) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        both = {**sums.losses, **sums.report}
        if distribution.processes() == 1 or not both:
            return sums.losses, sums.report
        summed = dict(zip(both, distribution.sum_of(torch.stack(list(both.values()))), strict=True))
        return {n: summed[n] for n in sums.losses}, {n: summed[n] for n in sums.report}
