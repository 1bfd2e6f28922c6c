"""However a batch is cut, its gradient is that of the whole batch's loss, computed here by plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mmkd_cli.core.contracts import Batch, Outputs
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.gradients import Gradients
from mmkd_cli.training.loader import Share, load
from mmkd_cli.training.sampler import Sampler, Streams
from tests.training.linear_student import ArrayFeed, LinearStudent


def gradients_of(student: LinearStudent, micro: int | None, size: int = 24) -> tuple[dict, dict, dict]:
    """Parameter name -> gradient, losses and reports, by the class under test."""
    config = TrainConfig(batch_size=size, micro_batch_size=micro)
    whole = Sampler(student.feeds, size, 0).batch(1)
    student.model.zero_grad(set_to_none=True)
    parameters = [p for p in student.model.parameters() if p.requires_grad]
    run = Gradients(student, parameters, config, torch.device("cpu"), "float32")
    said = run((Share(whole, 0, load(whole, student.feeds)),))
    found = {name: p.grad.clone() for name, p in student.model.named_parameters() if p.grad is not None}
    return found, said.losses, said.report


def plain_gradients(student: LinearStudent, size: int = 24) -> tuple[dict, dict]:
    """The same by one forward pass and autograd."""
    whole = Sampler(student.feeds, size, 0).batch(1)
    batch = load(whole, student.feeds)
    student.model.zero_grad(set_to_none=True)
    out = student.forward(batch)
    losses = {name: values.mean() for name, values in out.row_losses.items()}
    if student.contrastive:
        losses |= student.joint_losses(out.gathered)
    sum(student.weights.get(name, 1.0) * value for name, value in losses.items()).backward()
    return {n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None}, losses


@pytest.mark.parametrize("micro", [None, 24, 12, 7, 1])
@pytest.mark.parametrize("contrastive", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
def test_cut_batches_have_the_gradient_of_the_whole(micro: int | None, contrastive: bool, tokens: bool) -> None:
    student = LinearStudent(contrastive=contrastive, tokens=tokens)
    expected, expected_losses = plain_gradients(student)
    found, losses, report = gradients_of(student, micro)
    assert found.keys() == expected.keys()
    assert not any(name.startswith("unused") for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)
    assert losses.keys() == expected_losses.keys()
    for name, value in expected_losses.items():
        torch.testing.assert_close(losses[name], value.detach(), rtol=1e-5, atol=1e-7)
    assert -1 <= float(report["cosine"]) <= 1


def test_the_second_forward_pass_draws_the_first_ones_dropout() -> None:
    """Embeddings of the first pass and of the second are equal, so that the cached gradients belong to them."""
    student = LinearStudent(dropout=0.5)
    seen: list[torch.Tensor] = []
    plain = student.forward

    def recorded(batch: dict) -> Outputs:
        out = plain(batch)
        seen.append(out.gathered["image"].detach().clone())
        return out

    student.forward = recorded  # type: ignore[method-assign]
    student.model.train()
    gradients_of(student, 8)
    assert len(seen) == 6
    for first, second in zip(seen[:3], seen[3:], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(seen[0] == 0, seen[1] == 0) or not torch.equal(seen[0], seen[1])


class TwoStreams(LinearStudent):
    """Pairs of one stream, and rows of another that have a loss of their own."""

    def forward(self, batch: Batch) -> Outputs:
        if batch["id"][0].startswith("more"):
            return Outputs({"more_loss": self.model.text(batch["text"]).square().sum(dim=1)})
        return super().forward(batch)


@pytest.mark.parametrize("micro", [None, 5])
def test_a_step_over_two_streams_has_the_sum_of_their_gradients(micro: int | None) -> None:
    feeds = [ArrayFeed(rows=60), ArrayFeed("more", rows=30, stream="more"), ArrayFeed("again", rows=36)]
    student = TwoStreams(feeds)
    sampler = Streams(feeds, 12, 0, "concat")
    assert sampler.steps_per_epoch == 8  # of the pairs' 96 rows
    wholes = sampler.batches(4)
    assert [whole.stream for whole in wholes] == ["", "more"]
    assert {part.feed for part in wholes[0].parts} == {0, 2} and [part.feed for part in wholes[1].parts] == [1]
    assert [whole.epoch for whole in wholes] == [0, 2]  # the shorter stream has begun anew
    pairs, more = (load(whole, feeds) for whole in wholes)
    out = student.forward(pairs)
    expected = {name: values.mean() for name, values in out.row_losses.items()} | student.joint_losses(out.gathered)
    expected["more_loss"] = student.forward(more).row_losses["more_loss"].mean()
    sum(student.weights.get(name, 1.0) * value for name, value in expected.items()).backward()
    gradients = {n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None}
    student.model.zero_grad(set_to_none=True)
    config = TrainConfig(batch_size=12, micro_batch_size=micro)
    run = Gradients(student, list(student.model.parameters()), config, torch.device("cpu"), "float32")
    said = run(tuple(Share(whole, 0, load(whole, feeds)) for whole in wholes))
    torch.testing.assert_close(said.losses, {n: v.detach() for n, v in expected.items()}, rtol=1e-5, atol=1e-7)
    for name, parameter in student.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients.pop(name), rtol=1e-5, atol=1e-7)
    assert not gradients


def test_a_name_of_two_streams_is_refused() -> None:
    feeds = [ArrayFeed(), ArrayFeed("more", stream="more")]
    wholes = Streams(feeds, 4, 0).batches(0)
    student = LinearStudent(feeds)
    run = Gradients(student, list(student.model.parameters()), TrainConfig(), torch.device("cpu"), "float32")
    with pytest.raises(ValueError, match="two streams give"):
        run(tuple(Share(whole, 0, load(whole, feeds)) for whole in wholes))


def test_batch_norms_see_each_piece_once() -> None:
    """Embeddings first, then gradients: the running mean moves as by one pass over the pieces."""
    student = LinearStudent()
    student.model.image.insert(1, nn.BatchNorm1d(8))
    student.model.train()
    norm = student.model.image[1]
    alone = nn.BatchNorm1d(8)
    whole = Sampler(student.feeds, 24, 0).batch(1)
    with torch.no_grad():
        for piece in load(whole, student.feeds)["image"].split(8):
            alone(student.model.image[0](piece))
    gradients_of(student, 8)
    torch.testing.assert_close(norm.running_mean, alone.running_mean)
    torch.testing.assert_close(norm.running_var, alone.running_var)
    assert int(norm.num_batches_tracked) == 3


def test_data_sets_that_differ_are_named() -> None:
    class Narrow(ArrayFeed):
        def load(self, rows: np.ndarray, at: object) -> dict:
            loaded = super().load(rows, at)  # type: ignore[arg-type]
            loaded["image"] = loaded["image"][:, :3]
            return loaded

    feeds = [ArrayFeed("a", 20), Narrow("b", 20)]
    with pytest.raises(Exception, match=r"'image' has the shapes .* set mix=round_robin"):
        load(Sampler(feeds, 16, 0).batch(0), feeds)


def test_a_loss_that_counts_no_rows_must_say_its_count() -> None:
    student = LinearStudent(tokens=True)
    student.counts = lambda batch: {}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"'token_loss' has shape .* for 24 rows"):
        gradients_of(student, None)
