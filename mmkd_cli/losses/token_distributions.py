"""Distillation of token distributions that are stored in part: the k largest logits, or importance-weighted draws.

Shapes: T tokens, V of the vocabulary, k stored of each. z_s, z_t: logits of student and teacher; tau: the temperature.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KdForm = Literal["standard", "literal"]
_LEAST = 1e-8
"""The teacher's rest where rounding leaves none of it: its logarithm is taken under `literal`."""


def topk_kl_per_token(
    student: Tensor, ids: Tensor, logits: Tensor, log_z: Tensor, *, temperature: float = 1.0,
    kd_form: KdForm = "standard", square: bool = False,
) -> Tensor:  # fmt: skip
    """KL of the stored tokens and of all others as one bucket: exact on what is stored. student [T, V] -> [T].

    ids int64 [T, k]; logits [T, k], the teacher's up to one constant a token; log_z [T] = log sum exp(z_t / tau), with
    that constant in z_t. With p = softmax(z_t / tau) and q = softmax(z_s / tau) over the k + 1 buckets, `standard` is
    sum p (log p - log q), times tau^2 with `square` (Hinton et al., arXiv 1503.02531). `literal` is the code of the
    user's summary: `kl_div(log_softmax(z_t) / tau, softmax(z_s) / tau)`, its arguments changed places and its
    temperature after the softmax, so log_z is of tau 1.
    """
    if ids.shape != logits.shape or log_z.shape != ids.shape[:1] or student.shape[:1] != ids.shape[:1]:
        raise ValueError(
            f"student {list(student.shape)}, ids {list(ids.shape)}, logits {list(logits.shape)}, log_z "
            f"{list(log_z.shape)} differ in topk_kl: give [T, V], [T, k], [T, k], [T]"
        )
    inner = 1.0 if kd_form == "literal" else temperature
    with torch.autocast(student.device.type, enabled=False):
        log_p, log_q = _teacher_buckets(student, logits, log_z, inner), _student_buckets(student, ids, inner)
        if kd_form == "literal":
            q = log_q.exp() / temperature
            return (torch.xlogy(q, q) - q * log_p.clamp(min=torch.tensor(_LEAST).log()) / temperature).sum(dim=1)
        p = log_p.exp()
        kl = (torch.xlogy(p, p) - p * log_q).sum(dim=1)
        return kl * temperature**2 if square else kl


def _teacher_buckets(student: Tensor, logits: Tensor, log_z: Tensor, temperature: float) -> Tensor:
    """log p of the k tokens and, where there are others, of these together; rounding is divided out."""
    kept = logits.detach().float() / temperature - log_z.detach().float()[:, None]
    if logits.shape[1] == student.shape[1]:
        return kept.log_softmax(dim=1)
    rest = (1 - kept.exp().sum(dim=1, keepdim=True)).clamp(min=_LEAST)
    return torch.cat([kept, rest.log()], dim=1).log_softmax(dim=1)


def _student_buckets(student: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log q of the same buckets."""
    log_q = (student.float() / temperature).log_softmax(dim=1)
    kept = log_q.gather(1, ids)
    if ids.shape[1] == student.shape[1]:
        return kept
    rest = log_q.scatter(1, ids, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([kept, rest], dim=1)


def sampled_cross_entropy_per_token(
    student: Tensor, ids: Tensor, weights: Tensor, *, temperature: float = 1.0, square: bool = False
) -> Tensor:
    """-sum_j w_j log q(x_j) over a token's draws x_j: student [T, V], ids int64 [T, N], weights [T, N] -> [T].

    Over draws its mean is the cross-entropy of the teacher's softmax(z_t / tau) and q = softmax(z_s / tau): their KL
    and the teacher's entropy, so its gradient is an unbiased estimate of KL's (arXiv 2503.16870).
    """
    with torch.autocast(student.device.type, enabled=False):
        log_q = (student.float() / temperature).log_softmax(dim=1)
        value = -(weights.detach().float() * log_q.gather(1, ids)).sum(dim=1)
        return value * temperature**2 if square else value
