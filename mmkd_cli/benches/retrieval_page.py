"""The page of a retrieval: how far down the own ones lie, and queries with what they found, right and wrong."""

from __future__ import annotations

import numpy as np

from mmkd_cli.benches.found import Direction, Found, Names
from mmkd_cli.reports.blocks import Block, Card, Figure, Heading, Paragraph, Query, thumbnail
from mmkd_cli.reports.plots import line_figure

_TITLES = {"text_to_image": "From text to pictures", "image_to_text": "From picture to texts"}


def blocks(found: Found, names: Names, shown: int, seed: int) -> list[Block]:
    """Figure of both directions, then `shown` right and `shown` wrong queries of each, drawn at random."""
    page: list[Block] = [Heading("Ranks of the own picture or text"), _rank_figure(found)]
    for direction in (found.text_to_image, found.image_to_text):
        queries = np.flatnonzero(direction.ranks)
        right = queries[direction.ranks[queries] == 1]
        wrong = queries[direction.ranks[queries] > 1]
        for title, chosen in (("right at the first place", right), ("not at the first place", wrong)):
            drawn = np.random.default_rng(seed).permutation(chosen)[:shown]
            if not len(drawn):
                continue
            page.append(Heading(f"{_TITLES[direction.name]}: {title}"))
            page.append(
                Paragraph(f"{len(drawn)} of {len(chosen):,} such queries, drawn at random. Best first, with cosines.")
            )
            page += [_query(found, direction, names, int(query)) for query in drawn]
    return page


def _query(found: Found, direction: Direction, names: Names, query: int) -> Query:
    """A query and its top; if none of its own is there, the nearest own stands behind, marked by its rank."""
    of_images = direction is found.image_to_text
    rank = int(direction.ranks[query])
    asked = _card(names, of_images, query, note=f"rank {rank:,}")
    cards = [
        _card(names, not of_images, candidate, found.is_own(direction, query, candidate), f"{score:.3f}")
        for candidate, score in zip(direction.top[query].tolist(), direction.scores[query].tolist(), strict=True)
    ]
    if not any(card.right for card in cards):
        own = np.flatnonzero(found.text_image == query)[0] if of_images else found.text_image[query]
        note = "one of its own" if of_images else f"its own, at rank {rank:,}"
        cards.append(_card(names, not of_images, int(own), None, note))
    return Query(asked, cards)


def _card(names: Names, is_image: bool, place: int, right: bool | None = None, note: str = "") -> Card:
    if not is_image:
        return Card(None, names.text(place), right, note)
    picture = names.picture(place)
    if picture is None:
        return Card(None, f"picture {place}", right, note)
    return Card(thumbnail(picture), "", right, note)


def _rank_figure(found: Found) -> Figure:
    """Share of queries whose rank is at most k, over k: recall at every k at once."""
    lines = {}
    for direction in (found.image_to_text, found.text_to_image):
        ranks = np.sort(direction.ranks[direction.ranks > 0])
        ks = np.unique(np.geomspace(1, max(int(ranks[-1]), 2), 60).astype(int))
        share = 100 * np.searchsorted(ranks, ks, side="right") / len(ranks)
        lines[direction.name.replace("_", " ")] = (ks.tolist(), share.tolist())
    caption = "Share of queries whose own one is among the first k: the recall at every k."
    return line_figure(lines, "k", "recall@k, %", caption, log_x=True)
