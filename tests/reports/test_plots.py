"""Drawings: well-formed, in the page's own colours, thinned without bias."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from mmkd_cli.reports.plots import MAX_POINTS, histogram_figure, line_figure, thinned


def test_drawings_are_well_formed_and_in_the_page_s_colours() -> None:
    figure = line_figure({"a <b> & $c$": ([1, 2, 3], [1.0, 0.5, 0.2])}, "step", "loss", "What it shows.")
    svg = figure.svg.replace("<svg", '<svg xmlns:xlink="x"', 1)
    root = ElementTree.fromstring(svg)
    assert "a <b> & $c$" in "".join(root.itertext())
    assert "var(--series-1)" in svg and "var(--ink)" in svg
    assert "#0" not in svg.replace("#0000", "")  # no colour of ours is left as a number


def test_a_histogram_shows_only_the_bins_that_hold_something() -> None:
    edges = [i / 10 for i in range(-10, 11)]
    counts = [0] * 20
    counts[14] = 5
    text = "".join(ElementTree.fromstring(
        histogram_figure({"own": counts}, edges, "cosine", "x").svg.replace("<svg", '<svg xmlns:xlink="x"', 1)
    ).itertext())  # fmt: skip
    assert "0.4" in text and "−1.0" not in text and "-1.0" not in text


@pytest.mark.parametrize("n", [1, MAX_POINTS, MAX_POINTS + 1, 60_000])
def test_thinning_keeps_the_mean(n: int) -> None:
    x, y = list(range(n)), [float(i * i % 97) for i in range(n)]
    few_x, few_y = thinned(x, y)
    assert len(few_x) == len(few_y) <= MAX_POINTS
    width = -(-n // MAX_POINTS)
    sizes = [len(y[i : i + width]) for i in range(0, n, width)]
    assert sum(v * k for v, k in zip(few_y, sizes, strict=True)) == pytest.approx(sum(y))
    assert list(few_x) == sorted(few_x)
