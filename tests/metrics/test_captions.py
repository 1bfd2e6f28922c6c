"""The caption metrics against pycocoevalcap's own calls, and what happens where their tools are missing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics import captions as caption_metrics
from mmkd_cli.metrics import java
from mmkd_cli.metrics.bootstrap import resampled_counts
from mmkd_cli.metrics.captions import caption_scores
from mmkd_cli.scenes.captions import captions as scene_captions
from mmkd_cli.scenes.world import scene
from tests.metrics.java_tokenizer import HAVE_JAVA

needs_java = pytest.mark.skipif(not HAVE_JAVA, reason="java is not there")
WITHOUT_JAVA = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
REFERENCES = {
    "a": ["A red dog runs.", "The dog is running fast on grass."],
    "b": ["Two cats (brown) sleep on a mat."],
    "c": ["A man's hat, on a table...", "a hat"],
    "d": ["A bus drives down the street.", "The street has a bus."],
}
CANDIDATES = {"a": "a dog runs on grass", "b": "...", "c": "", "d": "A bus drives down the street"}
SMALL = (list(REFERENCES.values()), list(CANDIDATES.values()))


def stub_java(folder: Path, script: str) -> None:
    stub = folder / "java"
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A `java` that does not start, as the stub of some systems."""
    stub_java(tmp_path, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    java.has_java.cache_clear()
    yield
    java.has_java.cache_clear()


def described(items: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Of built-in scenes the first caption as the candidate, the others its references; then the hard ones above."""
    captions = {str(index): scene_captions(scene(0, index, "train")) for index in range(items)}
    return (
        {key: list(own[1:]) for key, own in captions.items()} | REFERENCES,
        {key: own[0] for key, own in captions.items()} | CANDIDATES,
    )


@needs_java
def test_all_metrics_as_the_official_scorers() -> None:
    references, candidates = described(60)
    found = caption_scores(list(references.values()), list(candidates.values()))
    assert found.tokenizer == "Stanford PTBTokenizer 3.4.1 (Java)"

    own = PTBTokenizer().tokenize({key: [{"caption": c} for c in captions] for key, captions in references.items()})
    said = PTBTokenizer().tokenize({key: [{"caption": c}] for key, c in candidates.items()})
    bleu, bleus = Bleu(4).compute_score(own, said, verbose=0)
    for n in range(4):
        assert found.scores[f"Bleu_{n + 1}"].value == bleu[n]
        assert found.scores[f"Bleu_{n + 1}"].items.tolist() == bleus[n]
    # METEOR's is the official class itself, and its jar's answer is compared with the formula below.
    for name, scorer in (("ROUGE_L", Rouge()), ("CIDEr", Cider())):
        value, items = scorer.compute_score(own, said)
        assert found.scores[name].value == pytest.approx(value, abs=1e-12)
        assert found.scores[name].items == pytest.approx(items, abs=1e-12)
    hard = [list(references).index(key) for key in "bcad"]
    for name, score in found.scores.items():
        assert float(score.formula(score.sums.sum(axis=0))) == pytest.approx(score.value, abs=1e-9), name
        assert score.formula(score.sums) == pytest.approx(score.items, abs=1e-9), name
        low, high = score.interval(resamples=50)
        assert low < score.value < high, name
        # Punctuation only and nothing at all score nothing.
        assert score.items[hard[:2]] == pytest.approx([0, 0], abs=1e-6), name
        assert score.items[hard[2]] > score.items[hard[:2]].max(), name
    assert found.scores["METEOR"].items[hard[3]] == found.scores["ROUGE_L"].items[hard[3]] == 1  # a perfect one


@needs_java
def test_our_tokenizer_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_metrics, "_meteor", lambda own, said: caption_metrics.mean_score(np.zeros(len(own))))
    texts = [list(one.values()) for one in described(60)]
    ours, official = (caption_scores(*texts, tokenizer) for tokenizer in ("mmkd", "java"))
    assert ours.tokenizer == "mmkd PTB (as Stanford PTBTokenizer 3.4.1)"
    assert {name: score.value for name, score in ours.scores.items()} == {
        name: score.value for name, score in official.scores.items()
    }


def test_spice_without_its_jars_is_left_out_by_name_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import pycocoevalcap.spice.spice as official

    monkeypatch.setattr(official, "get_stanford_models", lambda: pytest.fail("asked for a download"))
    monkeypatch.setattr(caption_metrics, "has_java", lambda: True)
    monkeypatch.setattr(caption_metrics, "_meteor", lambda own, said: caption_metrics.mean_score(np.zeros(4)))
    found = caption_scores(*SMALL, "mmkd")
    assert list(found.left_out) == ["SPICE"] and "SPICE" not in found.scores
    assert "stanford-corenlp-3.6.0.jar is not in" in found.left_out["SPICE"]


def test_spice_with_its_jars_is_the_official_classs_and_leaves_nothing_among_its_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pycocoevalcap.spice.spice as official

    class Said:
        def compute_score(self, own: dict[int, list[str]], said: dict[int, list[str]]) -> tuple[float, list[object]]:
            assert Path(official.TEMP_DIR).is_dir() and "site-packages" not in official.CACHE_DIR
            return 0.5, [{"All": {"f": len(said[place][0])}} for place in sorted(own)]

    monkeypatch.setattr(caption_metrics, "missing_metrics", lambda: {"METEOR": "left out here"})
    monkeypatch.setattr(official, "Spice", Said)
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)
    found = caption_scores(*SMALL)
    assert found.scores["SPICE"].items.tolist() == [19, 0, 0, 28]


@pytest.mark.usefixtures("without_java")
def test_without_java_what_needs_it_is_left_out_by_name() -> None:
    found = caption_scores(*SMALL)
    assert list(found.scores) == WITHOUT_JAVA
    assert found.left_out == {"METEOR": "java is not there", "SPICE": "java is not there"}
    assert found.tokenizer.startswith("mmkd")
    with pytest.raises(UserError, match=r"Stanford's tokenizer failed .*choose the tokenizer 'mmkd'"):
        caption_scores(*SMALL, "java")


def test_a_java_that_starts_and_fails_is_named(without_java: None, tmp_path: Path) -> None:
    stub_java(tmp_path, '[ "$1" = -version ]')
    with pytest.raises(UserError, match=r"METEOR's jar failed .*: mend java"):
        caption_scores(*SMALL, "mmkd")


@pytest.mark.usefixtures("without_java")
def test_scores_of_some_items_with_their_own_document_frequencies_or_all() -> None:
    found = caption_scores(*SMALL)
    places = np.array([0, 3])
    alone = caption_scores([SMALL[0][place] for place in places], [SMALL[1][place] for place in places])
    assert found.of(places) == pytest.approx({name: score.value for name, score in alone.scores.items()})
    shared = found.of(places, own_frequencies=False)
    assert shared["CIDEr"] == pytest.approx(found.scores["CIDEr"].items[places].mean()) != found.of(places)["CIDEr"]


@pytest.mark.usefixtures("without_java")
def test_an_interval_is_the_official_score_of_the_drawn_items() -> None:
    found = caption_scores(*SMALL, "mmkd").scores["Bleu_2"]
    keys = list(REFERENCES)
    drawn = []
    for counts in next(resampled_counts(4, 20, seed=7)):
        own, said = {}, {}
        for place, key in enumerate(key for key, count in zip(keys, counts, strict=True) for _ in range(count)):
            own[place] = caption_metrics.ptb_tokenizer.tokenize(REFERENCES | {"x": []})[key]
            said[place] = caption_metrics.ptb_tokenizer.tokenize({0: [CANDIDATES[key]]})[0]
        drawn.append(Bleu(2).compute_score(own, said, verbose=0)[0][1])
    assert found.interval(resamples=20, seed=7) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
