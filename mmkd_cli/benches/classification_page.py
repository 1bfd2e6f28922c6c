"""The page of a classification: pictures with their best classes, wrong ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.data.pictures import decode
from mmkd_cli.reports.blocks import Block, Card, Heading, Paragraph, Query, thumbnail

if TYPE_CHECKING:
    from mmkd_cli.benches.classified import Ranked, Task


def blocks(task: Task, found: Ranked, shown: int, seed: int, score: str) -> list[Block]:
    """`shown` pictures whose first class is wrong, then `shown` whose first is right, drawn at random."""
    page: list[Block] = []
    ranks, top, scores = found
    for title, chosen in (("Wrong", np.flatnonzero(ranks > 1)), ("Right", np.flatnonzero(ranks == 1))):
        drawn = np.random.default_rng(seed).permutation(chosen)[:shown].tolist()
        if not drawn:
            continue
        page.append(Heading(title))
        page.append(
            Paragraph(f"{len(drawn)} of {len(chosen):,} such pictures, drawn at random. Best first, with {score}.")
        )
        page += [_query(task, place, int(ranks[place]), top[place], scores[place]) for place in drawn]
    return page


def _query(task: Task, place: int, rank: int, top: NDArray[np.int64], scores: NDArray[np.floating]) -> Query:
    label = int(task.labels[place])
    picture = None
    if task.data is not None:
        cell = task.data.images.with_format("arrow")[[int(task.rows[place])]].column("image")[0]
        picture = thumbnail(decode(cell["bytes"].as_py()))
    cards = [
        Card(None, task.names[number], number == label, f"{score:.4f}")
        for number, score in zip(top.tolist(), scores.tolist(), strict=True)
    ]
    return Query(Card(picture, task.names[label], None, f"rank {rank:,}"), cards)
