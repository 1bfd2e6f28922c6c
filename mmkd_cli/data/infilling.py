"""Text infilling: spans of a text make way for one mask each (BART, arXiv 1910.13461, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def infilled(
    tokens: Sequence[int], mask: int, ratio: float, span_length: float, draw: np.random.Generator
) -> list[int]:
    """`tokens` (without special ones) with the share `ratio` of them masked, by one `mask` a span.

    Span lengths are Poisson's; one of length 0 is a mask between two tokens. How many tokens are masked is rounded at
    random, so that the share is met on average in short texts, too; the last span is cut to meet it. Spans lie
    anywhere, each arrangement as likely as another; two may touch.
    """
    hidden = min(len(tokens), int(ratio * len(tokens) + draw.random()))
    spans: list[int] = []
    while sum(spans) < hidden:
        spans.append(min(int(draw.poisson(span_length)), hidden - sum(spans)))
    places = len(tokens) - hidden + len(spans)
    lengths = dict(zip(draw.choice(places, len(spans), replace=False).tolist(), spans, strict=True))
    out: list[int] = []
    read = 0
    for place in range(places):
        if place in lengths:
            out.append(mask)
            read += lengths[place]
        else:
            out.append(tokens[read])
            read += 1
    return out
