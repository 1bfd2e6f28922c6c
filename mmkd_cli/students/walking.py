"""Walks of an agent through houses, many at once: shown the way, drawing its steps, or searching."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd_cli.architectures.envdrop import Read
from mmkd_cli.data.walks import Houses
from mmkd_cli.metrics.navigation import SUCCESS_METRES
from mmkd_cli.students.navigators import Thinned
from mmkd_cli.students.observing import Observation, Steps

NEARER, ARRIVED = 1.0, 2.0
"""What a step nearer to the goal is worth, and stopping there; the opposite of either costs as much (R2R-EnvDrop)."""


class _Walkers:
    """Those of B walkers who have not stopped. rows [b]: who they are; node, view int64 [b]; all on the CPU."""

    def __init__(self, read: Read, node: Tensor, view: Tensor) -> None:
        self.rows, self.node, self.view = torch.arange(len(node)), node, view
        self.read, self.state, self.cells = read, read.state, read.cells

    def step(self, model: Any, steps: Steps, thinned: Thinned) -> tuple[Observation, Tensor, Tensor]:
        """What they see, the scores of what they can do [b, M + 1], and what a critic reads [b, H]."""
        seen = steps.observe(self.node, self.view, self.state.device)
        scores, self.state, self.cells, hidden = model.step(self.read, self.state, self.cells, seen, thinned)
        return seen, scores, hidden

    def move(self, seen: Observation, choice: Tensor) -> Tensor:
        """Take the ways [b] that were chosen; those who stop are left out from now on. Who goes on, bool [b]."""
        goes = choice < seen.leads.shape[1]
        way = choice[goes, None]
        self.node, self.view = (value[goes].gather(1, way)[:, 0] for value in (seen.leads, seen.turns))
        if not goes.all():
            kept = goes.nonzero()[:, 0].to(self.state.device)
            self.rows, self.read = self.rows[goes], self.read.at(kept)
            self.state, self.cells = self.state[kept], self.cells[kept]
        return goes


def imitate(model: Any, read: Read, steps: Steps, routes: Tensor, view: Tensor, thinned: Thinned, most: int) -> Tensor:
    """Cross-entropy of the steps along given routes and of stopping at their ends, summed: float32 [B].

    routes int64 [B, T]: viewpoints, -1 behind the end. view [B]: where one looks at first. most: steps that count.
    """
    walkers, device = _Walkers(read, routes[:, 0], view), read.state.device
    ahead = F.pad(routes, (0, 1), value=-1)
    total = torch.zeros(len(routes), device=device)
    for place in range(1, min(routes.shape[1], most) + 1):
        seen, scores, _ = walkers.step(model, steps, thinned)
        to = ahead[walkers.rows, place]
        choice = torch.where(to >= 0, (seen.leads == to[:, None]).int().argmax(1), seen.leads.shape[1])
        wrong = F.cross_entropy(scores, choice.to(device), reduction="none")
        total = total.index_add(0, walkers.rows.to(device), wrong)
        if not walkers.move(seen, choice).any():
            break
    return total


class Drawn(NamedTuple):
    """What drawn walks give a training, float32 [B] each, summed over a walk: -log p times the advantage; the critic's
    squared error; the entropy, negated; the reward. steps: how many were taken."""

    policy: Tensor
    critic: Tensor
    entropy: Tensor
    reward: Tensor
    steps: Tensor


def draw(
    model: Any, read: Read, steps: Steps, start: Tensor, view: Tensor, goal: Tensor, thinned: Thinned, *, most: int,
    gamma: float,
) -> Drawn:  # fmt: skip
    """Walk by drawing each step (advantage actor-critic). start, view, goal int64 [B]; gamma: discount of a step."""
    walkers, device = _Walkers(read, start, view), read.state.device
    logs, entropies, hiddens, rewards, rows = [], [], [], [], []
    before = _distance(steps.houses, start, goal)
    for _ in range(most):
        seen, scores, hidden = walkers.step(model, steps, thinned)
        log = scores.log_softmax(1)
        choice = torch.multinomial(log.exp(), 1)
        logs.append(log.gather(1, choice)[:, 0])
        entropies.append(-(log.exp() * log.masked_fill(~seen.allowed, 0.0)).sum(1))
        hiddens.append(hidden)
        rows.append(walkers.rows)
        goes = walkers.move(seen, choice[:, 0].cpu())
        now = _distance(steps.houses, walkers.node, goal[walkers.rows])
        reward = torch.where(before < SUCCESS_METRES, ARRIVED, -ARRIVED).double()
        reward[goes] = NEARER * torch.sign(before[goes] - now)
        rewards.append(reward)
        before = now
        if not len(now):
            break
    worth = torch.zeros(len(start), dtype=torch.float64)
    if len(before):  # what walks that had to break off are still worth
        with torch.no_grad():
            worth[walkers.rows] = model.critic(walkers.step(model, steps, thinned)[2])[:, 0].double().cpu()
    returns = []
    for who, reward in zip(reversed(rows), reversed(rewards), strict=True):
        worth[who] = reward + gamma * worth[who]
        returns.append(worth[who])
    error = torch.cat(returns[::-1]).float().to(device) - model.critic(torch.cat(hiddens))[:, 0].float()
    who = torch.cat(rows).to(device)

    def of_walks(values: Tensor) -> Tensor:
        return torch.zeros(len(start), device=device).index_add(0, who, values)

    return Drawn(
        of_walks(-torch.cat(logs) * error.detach()), of_walks(error.square()), of_walks(-torch.cat(entropies)),
        of_walks(torch.cat(rewards).float().to(device)), of_walks(torch.ones_like(error)),
    )  # fmt: skip


def _distance(houses: Houses, a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(houses.distance(a.numpy(), b.numpy()))


class Walked(NamedTuple):
    """nodes, views int64 [B, T], the start first; -1 behind the end."""

    nodes: Tensor
    views: Tensor

    def of(self, row: int) -> list[tuple[int, int]]:
        """(viewpoint, view) of each step of one walk."""
        return [pair for pair in zip(self.nodes[row].tolist(), self.views[row].tolist(), strict=True) if pair[0] >= 0]


class _Party:
    """B walkers. node, view int64 [B], ended bool [B], on the CPU."""

    def __init__(self, node: Tensor, view: Tensor) -> None:
        self.node, self.view, self.ended = node, view, torch.zeros(len(node), dtype=torch.bool)

    def move(self, seen: Observation, choice: Tensor) -> Tensor:
        """Take the ways [B] that were chosen, or stop; whoever has ended stays. Which moved, bool [B]."""
        ways = seen.leads.shape[1]
        moved = ~self.ended & (choice < ways)
        way = choice.clamp(max=ways - 1)[:, None]
        self.node = torch.where(moved, seen.leads.gather(1, way)[:, 0], self.node)
        self.view = torch.where(moved, seen.turns.gather(1, way)[:, 0], self.view)
        self.ended = self.ended | (choice >= ways)
        return moved


@torch.no_grad()
def search(model: Any, read: Read, steps: Steps, start: Tensor, view: Tensor, *, beams: int, most: int) -> Walked:
    """The likeliest walks that a search with so many beams finds; one beam takes the likeliest step each time.

    A walk's score is the sum of its steps' log-probabilities; one that stops by itself goes before those that are
    broken off after `most` steps.
    """
    rows, device = len(start), read.state.device
    every = torch.arange(rows * beams)
    read = read.at((every // beams).to(device))
    party = _Party(start.repeat_interleave(beams), view.repeat_interleave(beams))
    state, cells = read.state, read.cells
    score = torch.full((rows, beams), -torch.inf)
    score[:, 0] = 0.0
    nodes, views = party.node[:, None], party.view[:, None]
    for _ in range(most):
        seen = steps.observe(party.node, party.view, device)
        scores, state, cells, _ = model.step(read, state, cells, seen)
        log = scores.log_softmax(1).cpu()
        log[party.ended] = -torch.inf  # one way to go on: to have ended
        log[party.ended, -1] = 0.0
        score, best = (score.reshape(-1, 1) + log).view(rows, -1).topk(beams)
        choices = log.shape[1]
        parent = (best // choices + torch.arange(rows)[:, None] * beams).reshape(-1)
        party.node, party.view, party.ended = (value[parent] for value in (party.node, party.view, party.ended))
        choice = torch.where(score.isneginf(), choices - 1, best % choices)  # beams that are still empty
        moved = party.move(_of_parents(seen, parent), choice.reshape(-1))
        nodes = torch.cat([nodes[parent], torch.where(moved, party.node, -1)[:, None]], 1)
        views = torch.cat([views[parent], party.view[:, None]], 1)
        state, cells = state[parent.to(device)], cells[parent.to(device)]
        if party.ended.all():
            break
    last = torch.where(party.ended.view(rows, beams), score, score - 1e6).argmax(1) + torch.arange(rows) * beams
    return Walked(nodes[last], views[last])


def _of_parents(seen: Observation, parent: Tensor) -> Observation:
    """The ways of each beam's parent; nothing else is looked at."""
    return replace(seen, leads=seen.leads[parent], turns=seen.turns[parent])
