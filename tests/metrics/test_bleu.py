"""Corpus BLEU against nltk's. (tests/metrics/test_captions.py compares it with pycocoevalcap's own call.)"""

from __future__ import annotations

import pytest

from mmkd_cli.metrics.bleu import bleu_scores

REFERENCES = {
    0: ["the food was great and the staff was kind", "great food and kind staff"],
    1: ["i will never come back to this place"],
    2: ["it was a very good pizza", "the pizza was very good indeed", "a good pizza"],
}
CANDIDATES = {
    0: ["the food was great and kind staff was"],
    1: ["i will never come back here"],
    2: ["it was a very good pizza"],
}


def test_corpus_bleu_as_nltk() -> None:
    peer = pytest.importorskip("nltk.translate.bleu_score", reason="nltk is not installed")
    true = [[text.split() for text in texts] for texts in REFERENCES.values()]
    said = [text.split() for (text,) in CANDIDATES.values()]
    scores = bleu_scores(REFERENCES, CANDIDATES)
    for n in range(1, 5):
        expected = peer.corpus_bleu(true, said, weights=(1 / n,) * n)
        assert 0.2 < expected < 1
        assert scores[f"Bleu_{n}"].value == pytest.approx(expected, abs=1e-8)


def test_the_closest_reference_is_the_shorter_of_two() -> None:
    """Of 3 and 5 words 3 is taken for a candidate of 4, which then is not brief."""
    scores = bleu_scores({0: ["a b c d e", "a b c"]}, {0: ["a b c d"]})
    assert scores["Bleu_1"].sums[0, :2].tolist() == [4, 3]
    assert scores["Bleu_1"].value == pytest.approx(1)
    assert bleu_scores({0: ["a b c d e"]}, {0: ["a b c d"]})["Bleu_1"].value == pytest.approx(0.7788, abs=1e-4)
