"""Token distributions made small: the k largest logits with log Z, or importance-weighted draws (arXiv 2503.16870)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


def top_k(logits: Tensor, k: int, temperature: float) -> dict[str, Tensor]:
    """logits [T, V] -> ids [T, k] and logits [T, k], largest first; log Z [T] of softmax(logits / temperature).

    Logits (and log Z with them) up to one constant a token: the largest is 0, so that float16 is finest where most of
    the probability is. Raw ones lie near -100 in GPT-2, where its steps are 1/16.
    """
    values, ids = logits.topk(k, dim=1)
    largest = values[:, :1]
    log_z = ((logits - largest) / temperature).logsumexp(dim=1)
    return {"topk_ids": ids, "topk_logits": values - largest, "log_z": log_z}


def draw(logits: Tensor, uniform: np.ndarray, temperature: float, proposal: float) -> dict[str, Tensor]:
    """Draws from q ~ p^proposal of p = softmax(logits / temperature): ids [T, N], weights [T, N] = p / (N q).

    logits [T, V], uniform float64 [T, N] in [0, 1). The sum of the weights of a token's draws is an unbiased estimate
    of its probability.
    """
    log_p = (logits / temperature).log_softmax(dim=1)
    log_q = (proposal * log_p).log_softmax(dim=1)
    points = torch.from_numpy(uniform)
    ids = torch.empty(points.shape, dtype=torch.int64)
    for row, own in enumerate(log_q):  # a vocabulary at a time in float64
        cumulative = own.cpu().double().exp().cumsum(0)
        ids[row] = torch.searchsorted(cumulative, points[row] * cumulative[-1], right=True)
    ids = ids.clamp_(max=logits.shape[1] - 1).to(logits.device)
    weights = (log_p.gather(1, ids) - log_q.gather(1, ids)).exp() / points.shape[1]
    return {"sampled_ids": ids, "sampled_weights": weights}


def against_dense(logits: Tensor, stored: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """How far what is stored is from softmax(logits / temperature), logits [T, V] -> names to [T].

    kl: of topk KL(dense || stored), what is left out spread evenly over the tokens that are not stored; of sampled
    KL(stored || dense), the draws' weights as a distribution (the other way it is infinite). storing_kl: of topk what
    rounding alone does, KL of the k tokens and the rest as one bucket. mass_left_out: dense mass of all other tokens.
    """
    log_p = (logits.double() / temperature).log_softmax(dim=1)
    if "topk_ids" not in stored:
        weights = torch.zeros_like(log_p).scatter_add_(1, stored["sampled_ids"], stored["sampled_weights"].double())
        weights /= weights.sum(dim=1, keepdim=True)
        left = 1 - torch.where(weights > 0, log_p.exp(), 0.0).sum(dim=1)
        kl = (torch.xlogy(weights, weights) - torch.where(weights > 0, weights * log_p, 0.0)).sum(dim=1)
        return {"kl": kl, "mass_left_out": left}
    ids, vocabulary = stored["topk_ids"], log_p.shape[1]
    log_q = stored["topk_logits"].double() / temperature - stored["log_z"].double()[:, None]
    kept, others = log_p.gather(1, ids), vocabulary - ids.shape[1]
    left, rest = ((1 - values.exp().sum(dim=1)).clamp(min=0.0) for values in (kept, log_q))
    rest = (rest if others else torch.zeros_like(rest)).clamp(min=torch.finfo(torch.float32).tiny)
    total = log_q.exp().sum(dim=1) + rest  # 1 but for rounding
    storing = (kept.exp() * (kept - log_q)).sum(dim=1) + torch.xlogy(left, left / rest) + total.log()
    spread = (rest / max(others, 1)).log()[:, None].expand_as(log_p).scatter(1, ids, log_q)
    return {"kl": (log_p.exp() * (log_p - spread)).sum(dim=1), "storing_kl": storing, "mass_left_out": left}


def pieces(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Tensors of any lengths [t, V], one after another, as ones of `size` rows, the last perhaps fewer."""
    rest: list[Tensor] = []
    for part in parts:
        first = 0
        while first < len(part):
            taken = part[first : first + size - sum(map(len, rest))].clone()  # no view: the part is let go
            first += len(taken)
            rest.append(taken)
            if sum(map(len, rest)) == size:
                yield torch.cat(rest)
                rest = []
    if rest:
        yield torch.cat(rest)
