"""Optimisers, one or several kinds in a run, learning rates, bounds of the gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core.contracts import Batch, Outputs
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from mmkd_cli.training.optim import Optimizer, Schedule, parameter_groups
from tests.training.linear_student import ArrayFeed, LinearStudent

CPU = torch.device("cpu")
SGD = {"optimizer": "sgd", "momentum": 0.0, "schedule": "steps", "drops": (0.5,), "warmup_steps": 0}


class TwoOptimizers(LinearStudent):
    """Its image tower by SGD at a rate of its own, the rest as the training table says."""

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        tower = list(self.model.image.parameters())
        rest = [p for p in self.model.parameters() if all(p is not other for other in tower)]
        return [{"params": rest, "lr": peak_lr, "weight_decay": weight_decay},
                {"params": tower, "lr": 0.3, "weight_decay": 4e-4, "train": SGD}]  # fmt: skip


def config(**keys: Any) -> TrainConfig:
    return TrainConfig.model_validate({"max_steps": 6, "batch_size": 16, "peak_lr": 0.01, "warmup_steps": 0, **keys})


def student() -> LinearStudent:
    return LinearStudent((ArrayFeed("a", 64),))


def test_each_parameter_must_be_in_one_group() -> None:
    trained = student()
    groups = trained.parameter_groups(0.1, 0.1)
    with pytest.raises(ValueError, match="trainable parameters are in no group"):
        parameter_groups(trained.model, groups[:1], config())
    with pytest.raises(ValueError, match=r"parameter image.0.weight is in parameter_groups twice"):
        parameter_groups(trained.model, [*groups, groups[0]], config())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"schedule": "constant", "warmup_steps": 0}, [1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ({"schedule": "cosine", "warmup_steps": 2}, [0.5, 1, 1, 0.853553, 0.5, 0.146447]),
        ({"schedule": "linear", "warmup_ratio": 0.5, "warmup_steps": None}, [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3]),
        ({"schedule": "steps", "drops": [1 / 3, 5 / 6]}, [1, 1, 0.1, 0.1, 0.1, 0.01]),
        ({"schedule": "steps", "drops": [0.5], "drop_factor": 0.2, "warmup_steps": 2, "warmup_from": 0.2},
         [0.6, 1, 1, 0.2, 0.2, 0.2]),
        ({"schedule": "inverse-sqrt", "warmup_steps": 2}, [0.5, 1, *((2 / step) ** 0.5 for step in (3, 4, 5, 6))]),
    ],
)  # fmt: skip
def test_schedules(keys: dict[str, Any], expected: list[float]) -> None:
    trained = student()
    optimizer = Optimizer(parameter_groups(trained.model, trained.parameter_groups(0.2, 0.1), config(**keys)))
    schedule = Schedule(optimizer, 6)
    assert [schedule.set(step) / 0.2 for step in range(6)] == pytest.approx(expected, abs=1e-6)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.2 * expected[-1], abs=1e-6)


def test_inverse_sqrt_is_the_papers_formula() -> None:
    """lr = d^-0.5 min(s^-0.5, s w^-1.5), s from 1 on, w steps of warm-up (arXiv 1706.03762, section 5.3)."""
    width, warmup = 512, 7
    keys = config(schedule="inverse-sqrt", warmup_steps=warmup, peak_lr=(width * warmup) ** -0.5)
    trained = student()
    groups = trained.parameter_groups(keys.peak_lr, 0.0)
    schedule = Schedule(Optimizer(parameter_groups(trained.model, groups, keys)), 30)
    wanted = [width**-0.5 * min(s**-0.5, s * warmup**-1.5) for s in range(1, 31)]
    assert [schedule.set(step) for step in range(30)] == pytest.approx(wanted, rel=1e-12)


def test_two_optimisers_do_what_torch_does_by_hand(tmp_path: Path) -> None:
    batches: list[Batch] = []

    class Logged(TwoOptimizers):
        def forward(self, batch: Batch) -> Outputs:
            batches.append(batch)
            return super().forward(batch)

    trained, by_hand = (Logged((ArrayFeed("a", 64),), contrastive=False) for _ in range(2))
    train(trained, config(schedule="linear", clip_norm=0.5), tmp_path, device=CPU)
    tower = list(by_hand.model.image.parameters())
    rest = by_hand.parameter_groups(0, 0)[0]["params"]
    adam = torch.optim.AdamW(rest, lr=0.01, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)
    sgd = torch.optim.SGD(tower, lr=0.3, weight_decay=4e-4)
    for step, batch in enumerate(batches[:6]):
        adam.param_groups[0]["lr"] = 0.01 * (1 - step / 6)
        sgd.param_groups[0]["lr"] = 0.3 if step < 3 else 0.03
        losses = LinearStudent.forward(by_hand, batch).row_losses
        sum(loss.mean() for loss in losses.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_([*rest, *tower], 0.5)
        for optimizer in (adam, sgd):
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs in zip(trained.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_two_optimisers_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    keys = {"epochs": 2, "max_steps": None, "checkpoint_every": 3, "peak_lr": 0.05}
    whole, parts = (TwoOptimizers((ArrayFeed("a", 64),)) for _ in range(2))
    train(whole, config(**keys), tmp_path / "whole", device=CPU)
    train(parts, config(**keys), tmp_path / "parts", device=CPU)
    for file in (tmp_path / "parts" / "checkpoints").glob("step-00000008.*"):
        file.unlink()
    again = TwoOptimizers((ArrayFeed("a", 64),))
    train(again, config(**keys), tmp_path / "parts", device=CPU)
    assert (tmp_path / "parts" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("kind", "torchs"), [("adamax", torch.optim.Adamax), ("rmsprop", torch.optim.RMSprop), ("adam", torch.optim.Adam)]
)
def test_each_kind_is_torchs(kind: str, torchs: Any) -> None:
    parameters = [torch.nn.Parameter(torch.arange(4.0)) for _ in range(2)]
    model = torch.nn.ParameterList(parameters[:1])
    group = {"params": parameters[:1], "lr": 0.1, "weight_decay": 0.0}
    mine = Optimizer(parameter_groups(model, [group], config(optimizer=kind, eps=1e-8, momentum=0.0)))
    betas = {} if kind == "rmsprop" else {"betas": (0.9, 0.98)}
    theirs = torchs(parameters[1:], lr=0.1, **betas)
    for _ in range(3):
        for parameter, optimizer in zip(parameters, (mine, theirs), strict=True):
            parameter.grad = parameter.detach().cos()
            optimizer.step()
    assert torch.equal(parameters[0], parameters[1]) or torch.allclose(parameters[0], parameters[1], atol=1e-7)


def test_a_group_may_have_no_bound(tmp_path: Path) -> None:
    class Unbounded(LinearStudent):
        def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
            first, *rest = super().parameter_groups(peak_lr, weight_decay)
            return [{**first, "train": {"clip_norm": None}}, *rest]

    moved = {}
    for kind, made in (("bounded", LinearStudent), ("unbounded", Unbounded)):
        trained = made((ArrayFeed("a", 64),))
        before = [p.detach().clone() for p in trained.model.parameters()]
        keys = config(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1e-6, max_steps=1, schedule="constant")
        train(trained, keys, tmp_path / kind, device=CPU)
        moved[kind] = [
            float((p.detach() - b).abs().max()) for p, b in zip(trained.model.parameters(), before, strict=True)
        ]
        flat = [way for way, p in zip(moved[kind], trained.model.parameters(), strict=True) if p.ndim < 2]
        assert max(flat) < 1e-7
    assert max(moved["bounded"]) < 1e-7 < 1e-4 < max(moved["unbounded"])


def test_values_of_a_gradient_are_bounded(tmp_path: Path) -> None:
    trained = student()
    before = [p.detach().clone() for p in trained.model.parameters()]
    keys = config(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_value=1e-3, max_steps=1, schedule="constant",
                  peak_lr=1.0)  # fmt: skip
    train(trained, keys, tmp_path, device=CPU)
    ways = [float((p.detach() - b).abs().max()) for p, b in zip(trained.model.parameters(), before, strict=True)]
    assert max(ways) == pytest.approx(1e-3, rel=1e-3)
