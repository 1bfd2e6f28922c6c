"""ROUGE against PyPI's rouge-score, the stemmer against nltk's, our `evaluate` module loaded by path."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from mmkd_cli.metrics import evaluate_modules
from mmkd_cli.metrics.porter import stem
from mmkd_cli.metrics.rouge import NAMES, rouge
from mmkd_cli.scenes.captions import captions
from mmkd_cli.scenes.world import scene

LETTERS = "abcdelorstyiwx"
ENDINGS = (
    "ational tional enci anci izer bli alli entli eli ousli ization ation ator alism iveness fulness ousness aliti "
    "iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er able ible ant ement ment ent sion "
    "tion ion ou ism ate iti ous ive ize ed ing eed ied ies sses ss s y e ll"
)


def test_the_stemmer_is_nltks() -> None:
    porter = pytest.importorskip("nltk.stem.porter", reason="nltk is not installed").PorterStemmer()
    choose, endings = random.Random(2), ["", *ENDINGS.split(" ")]
    words = {word for index in range(300) for caption in captions(scene(0, index, "train")) for word in caption.split()}
    words |= {"skies", "sky", "dying", "news", "innings", "flies", "ties", "died", "spied", "hopping", "fulli", "logi"}
    for _ in range(20_000):
        letters = "".join(choose.choice(LETTERS) for _ in range(choose.randint(0, 6)))
        words.add(letters + choose.choice(endings) + choose.choice(endings))
    assert {word: stem(word) for word in words} == {word: porter.stem(word) for word in words}


def texts(count: int) -> list[str]:
    """Of none to five lines."""
    choose = random.Random(4)
    lines = [caption for index in range(40) for caption in captions(scene(0, index, "train"))]
    lines += ["", "a a a dog a", "İé 3.5 3,000", "\t!"]
    return ["\n".join(choose.choice(lines) for _ in range(choose.randint(0, 5))) for _ in range(count)]


@pytest.mark.parametrize("stemmed", [True, False])
def test_rouge_is_rouge_scores(stemmed: bool) -> None:
    peer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed")
    scorer = peer.RougeScorer(list(NAMES), use_stemmer=stemmed)
    every = texts(300)
    shuffled = ["\n".join(reversed(text.split("\n"))) for text in every]
    for said, true in [*pairwise(every), *zip(every, shuffled, strict=True)]:
        expected = {name: score.fmeasure for name, score in scorer.score(true, said).items()}
        assert rouge(said, true, stemmed=stemmed) == pytest.approx(expected, abs=1e-12), (said, true)


def test_by_hand() -> None:
    score = rouge("police killed the gunman", "police kill the gunman", stemmed=False)
    assert score["rouge1"] == pytest.approx(3 / 4)
    assert score["rouge2"] == pytest.approx(1 / 3)
    assert score["rougeL"] == pytest.approx(3 / 4)
    assert rouge("police killed the gunman", "police kill the gunman")["rouge1"] == 1
    assert rouge("b\na", "a\nb")["rougeLsum"] == 1 and rouge("b\na", "a\nb")["rougeL"] == 0.5
    assert set(rouge("", "").values()) == set(rouge("", "a").values()) == {0}


def test_the_module_loads_by_path_and_writes_nothing_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("evaluate")
    monkeypatch.setenv("HOME", str(tmp_path))
    module = evaluate_modules.open_module("rouge")
    assert module is evaluate_modules.open_module("rouge")
    said, true = texts(40)[:20], texts(40)[20:]
    each = [rouge(*pair) for pair in zip(said, true, strict=True)]
    scores = module.compute(predictions=said, references=true)
    assert scores == {name: pytest.approx(sum(one[name] for one in each) / 20) for name in NAMES}
    listed = module.compute(predictions=said, references=true, use_aggregator=False, use_stemmer=False)
    assert listed["rouge2"] == [rouge(*pair, stemmed=False)["rouge2"] for pair in zip(said, true, strict=True)]
    assert list(tmp_path.iterdir()) == []
