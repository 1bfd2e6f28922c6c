"""COCO's caption metrics: BLEU, METEOR, ROUGE_L, CIDEr and SPICE as pycocoevalcap counts and scales them.

Its own scorers do the work, but for CIDEr (metrics/cider.py, the same numbers sooner). What they need and is not there
is left out by name; nothing is downloaded and nothing takes a name that it does not earn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from mmkd_cli.metrics import ptb_tokenizer
from mmkd_cli.metrics.bleu import bleu_scores
from mmkd_cli.metrics.cider import CiderD
from mmkd_cli.metrics.corpus import CorpusScore, mean_score, meteor_formula, meteor_sums
from mmkd_cli.metrics.java import STANFORD, has_java, stanford_lines

Tokenizer = Literal["auto", "java", "mmkd"]
Tokens = dict[int, list[str]]
"""By item: captions as tokens between spaces."""


@dataclass
class CaptionScores:
    """scores: by the metric's name, each item in the order given. left_out: metric -> why."""

    scores: dict[str, CorpusScore]
    tokenizer: str
    left_out: dict[str, str] = field(default_factory=dict)


def caption_scores(
    references: Mapping[Hashable, Sequence[str]], candidates: Mapping[Hashable, str], tokenizer: Tokenizer = "auto"
) -> CaptionScores:
    """One candidate of each item against its references, at least one each.

    tokenizer: Stanford's in Java, ours, or Stanford's where there is Java. The order of items is that of `references`
    (it decides nothing but what stands after an abbreviation at a caption's end).
    """
    lines = stanford_lines if tokenizer == "java" or (tokenizer == "auto" and has_java()) else None
    own = ptb_tokenizer.tokenize(dict(enumerate(references.values())), lines)
    said = ptb_tokenizer.tokenize({place: [candidates[item]] for place, item in enumerate(references)}, lines)
    found = CaptionScores(bleu_scores(own, said), STANFORD if lines else ptb_tokenizer.NAME)
    if has_java():
        found.scores["METEOR"] = _meteor(own, said)
    else:
        found.left_out["METEOR"] = "java is not there"
    found.scores["ROUGE_L"] = _rouge_l(own, said)
    found.scores["CIDEr"] = mean_score(CiderD(list(own.values())).score([captions[0] for captions in said.values()]))
    missing = missing_of_spice()
    if missing is None:
        found.scores["SPICE"] = _spice(own, said)
    else:
        found.left_out["SPICE"] = missing
    return found


def missing_of_spice() -> str | None:
    """What SPICE needs and is not there. Its CoreNLP jars come with no package."""
    import pycocoevalcap.spice as package

    if not has_java():
        return "java is not there"
    folder = Path(package.__file__).parent / "lib"
    for jar in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        if not (folder / jar).is_file():
            return f"{jar} is not in {folder} (CoreNLP 3.6.0 of 2015-12-09 has it)"
    return None


def _meteor(own: Tokens, said: Tokens) -> CorpusScore:
    from pycocoevalcap.meteor.meteor import Meteor

    statistics: list[list[float]] = []

    class Recorded(Meteor):  # type: ignore[misc]
        """Keeps what the jar answers for each item: the intervals need it."""

        def _stat(self, hypothesis_str: str, reference_list: list[str]) -> str:
            answer: str = super()._stat(hypothesis_str, reference_list)
            statistics.append([float(number) for number in answer.split()])
            return answer

    value, items = Recorded().compute_score(own, said)
    return CorpusScore(value, np.array(items), meteor_sums(np.array(statistics)), meteor_formula)


def _rouge_l(own: Tokens, said: Tokens) -> CorpusScore:
    from pycocoevalcap.rouge.rouge import Rouge

    return mean_score(Rouge().compute_score(own, said)[1])


def _spice(own: Tokens, said: Tokens) -> CorpusScore:
    from pycocoevalcap.spice import spice

    with tempfile.TemporaryDirectory() as folder:  # else it writes among its modules
        spice.TEMP_DIR, spice.CACHE_DIR = folder, str(Path(folder) / "cache")
        _, items = spice.Spice().compute_score(own, said)
    # It sorts the items by their keys, which are places.
    return mean_score(np.array([scores["All"]["f"] for scores in items]))
