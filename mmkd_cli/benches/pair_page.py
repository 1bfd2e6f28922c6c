"""The page of a compositional bench: items with the scores of their pairs, wrong ones first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.benches.outcomes import Outcomes
from mmkd_cli.benches.pair_items import PairItems, Part
from mmkd_cli.benches.pair_scores import Scores
from mmkd_cli.reports.blocks import Block, Card, Heading, Paragraph, Query, thumbnail


def blocks(items: PairItems, scores: Scores, outcomes: Outcomes, shown: int, seed: int) -> list[Block]:
    """`shown` items that are wrong by a metric, then `shown` that are right by all, drawn at random from all parts."""
    where = [(name, number) for name, part in items.parts.items() for number in range(len(part))]
    wrong = wrong_by(outcomes, len(where))
    judged = np.zeros(len(where), bool)
    for outcome in outcomes.values():
        judged[outcome.items] = True
    page: list[Block] = []
    for title, chosen in (
        ("Wrong", [item for item in range(len(where)) if wrong[item]]),
        ("Right", [item for item in np.flatnonzero(judged).tolist() if not wrong[item]]),
    ):
        drawn = np.random.default_rng(seed).permutation(np.array(chosen, dtype=int))[:shown].tolist()
        if not drawn:
            continue
        page.append(Heading(title))
        page.append(Paragraph(f"{len(drawn)} of {len(chosen):,} such items, drawn at random. Best first, with scores."))
        for item in drawn:
            name, number = where[item]
            part = items.parts[name]
            by = f": wrong by {', '.join(wrong[item])}" if wrong[item] else ""
            page.append(Heading(f"{name} {part.ids[number]}{by}".strip(), level=3))
            page += _item(items, part, number, scores[name][number])
    return page


def wrong_by(outcomes: Outcomes, items: int) -> list[list[str]]:
    """Of each item the metrics that it is wrong by."""
    found: list[list[str]] = [[] for _ in range(items)]
    for name, outcome in outcomes.items():
        for item in outcome.items[~outcome.accuracy.right].tolist():
            found[item].append(name)
    return found


def _item(items: PairItems, part: Part, number: int, scores: NDArray[np.floating]) -> list[Block]:
    """A picture with its captions (the first is true); of two pictures (Winoground) each caption with both."""
    pairs = part.pairs[number].tolist()
    if len({picture for picture, _ in pairs}) == 1:
        found = [_text(items, text, place == 0, scores[place]) for place, (_, text) in enumerate(pairs)]
        return [Query(_picture(items, pairs[0][0], None, part.images[number]), _best_first(found, scores))]
    half = len(pairs) // 2
    out: list[Block] = []
    for caption in (0, 1):
        rows = pairs[caption * half : (caption + 1) * half]
        own = scores[caption * half : (caption + 1) * half]
        cards = [_picture(items, row[0], place == caption, f"{own[place]:.6g}") for place, row in enumerate(rows)]
        out.append(Query(Card(None, items.texts[rows[0][1]]), _best_first(cards, own)))
    return out


def _best_first(cards: list[Card], scores: NDArray[np.floating]) -> list[Card]:
    return [cards[place] for place in np.argsort(-scores, kind="stable")]


def _text(items: PairItems, text: int, right: bool, score: float) -> Card:
    return Card(None, items.texts[text], right, f"{score:.6g}")


def _picture(items: PairItems, picture: int, right: bool | None, note: str) -> Card:
    if items.pictures is None:
        return Card(None, f"picture {picture}", right, note)
    return Card(thumbnail(items.pictures.picture(picture)), "", right, note)
