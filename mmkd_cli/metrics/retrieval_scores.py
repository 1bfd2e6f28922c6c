"""Recall and median rank of retrieval in both directions, with bootstrap intervals, from ranks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_cli.metrics.bootstrap import bootstrap_means, bootstrap_medians, percentile_interval
from mmkd_cli.metrics.retrieval import RECALL_KS, RetrievalRanks


def retrieval_scores(ranks: RetrievalRanks) -> dict[str, float]:
    """`DIRECTION_recall@K` in percent, `mean_recall` (of the six) in percent, `DIRECTION_median_rank` from 1."""
    scores = {
        f"{direction}_recall@{k}": 100 * (queries <= k).double().mean().item()
        for direction, queries in ranks.directions()
        for k in RECALL_KS
    }
    scores["mean_recall"] = sum(scores.values()) / len(scores)
    for direction, queries in ranks.directions():
        scores[f"{direction}_median_rank"] = median_rank(queries)
    return scores


def median_rank(ranks: Tensor) -> float:
    """The median of ranks [q], q > 0; with an even number the mean of the two middle ones."""
    ordered = ranks.sort().values
    return (ordered[(len(ordered) - 1) // 2].item() + ordered[len(ordered) // 2].item()) / 2


def retrieval_intervals(
    ranks: RetrievalRanks, text_image: Tensor, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of all of `retrieval_scores`, pictures resampled with all their captions.

    text_image [m] as given to `retrieval_ranks`. Both directions see the same resamples, so `mean_recall` has an
    interval of its own that carries their correlation.
    """
    text_image = text_image.cpu()
    captions = torch.nonzero(text_image >= 0).squeeze(1)
    pictures, caption_cluster = np.unique(text_image[captions].numpy(), return_inverse=True)
    clusters = {"image_to_text": np.arange(len(pictures)), "text_to_image": caption_cluster}
    samples: dict[str, NDArray[np.float64]] = {}
    for direction, queries in ranks.directions():
        by_query, cluster = queries.cpu().numpy(), clusters[direction]
        hits = np.stack([100.0 * (by_query <= k) for k in RECALL_KS], axis=1)
        recalls = bootstrap_means(hits, cluster, resamples=resamples, seed=seed)
        samples |= {f"{direction}_recall@{k}": recalls[:, column] for column, k in enumerate(RECALL_KS)}
    samples["mean_recall"] = np.mean(list(samples.values()), axis=0)
    for direction, queries in ranks.directions():
        samples[f"{direction}_median_rank"] = bootstrap_medians(
            queries.cpu().numpy(), clusters[direction], resamples=resamples, seed=seed
        )
    return {name: percentile_interval(values, confidence) for name, values in samples.items()}
