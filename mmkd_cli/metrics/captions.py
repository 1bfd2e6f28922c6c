"""COCO's caption metrics: BLEU, METEOR, ROUGE_L, CIDEr and SPICE as pycocoevalcap counts and scales them.

Its own scorers do the work, but for CIDEr (metrics/cider.py, the same numbers sooner). What they need and is not there
is left out by name; nothing is downloaded and nothing takes a name that it does not earn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.core.errors import UserError
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
    """scores: by the metric's name, each item in the order given. left_out: metric -> why.

    references, candidates [n]: the items' tokens.
    """

    scores: dict[str, CorpusScore]
    tokenizer: str
    references: list[list[str]]
    candidates: list[str]
    left_out: dict[str, str] = field(default_factory=dict)

    def of(self, places: NDArray[np.int64], *, own_frequencies: bool = True) -> dict[str, float]:
        """Scores of some items. own_frequencies: CIDEr's document frequencies are theirs, not those of all items."""
        values = {name: float(score.formula(score.sums[places].sum(axis=0))) for name, score in self.scores.items()}
        if own_frequencies:
            own = CiderD([self.references[place] for place in places])
            values["CIDEr"] = float(own.score([self.candidates[place] for place in places]).mean())
        return values


def caption_scores(
    references: Sequence[Sequence[str]], candidates: Sequence[str], tokenizer: Tokenizer = "auto"
) -> CaptionScores:
    """One candidate of each item against its references, at least one each.

    tokenizer: Stanford's in Java, ours, or Stanford's where there is Java. The items' order decides nothing but what
    stands after an abbreviation at a caption's end.
    """
    lines = stanford_lines if _in_java(tokenizer) else None
    own = ptb_tokenizer.tokenize(dict(enumerate(references)), lines)
    said = ptb_tokenizer.tokenize({place: [caption] for place, caption in enumerate(candidates)}, lines)
    candidate = [captions[0] for captions in said.values()]
    found = CaptionScores(bleu_scores(own, said), tokenizer_name(tokenizer), list(own.values()), candidate)
    found.left_out = missing_metrics()
    if "METEOR" not in found.left_out:
        found.scores["METEOR"] = _meteor(own, said)
    found.scores["ROUGE_L"] = _rouge_l(own, said)
    found.scores["CIDEr"] = mean_score(CiderD(found.references).score(candidate))
    if "SPICE" not in found.left_out:
        found.scores["SPICE"] = _spice(own, said)
    return found


def tokenizer_name(tokenizer: Tokenizer) -> str:
    """What a result says of it."""
    return STANFORD if _in_java(tokenizer) else ptb_tokenizer.NAME


def missing_metrics() -> dict[str, str]:
    """Metric -> what it needs and is not there. SPICE's CoreNLP jars come with no package."""
    import pycocoevalcap.spice as package

    if not has_java():
        return dict.fromkeys(("METEOR", "SPICE"), "java is not there")
    folder = Path(package.__file__).parent / "lib"
    for jar in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        if not (folder / jar).is_file():
            return {"SPICE": f"{jar} is not in {folder} (CoreNLP 3.6.0 of 2015-12-09 has it)"}
    return {}


def _in_java(tokenizer: Tokenizer) -> bool:
    return tokenizer == "java" or (tokenizer == "auto" and has_java())


def _meteor(own: Tokens, said: Tokens) -> CorpusScore:
    from pycocoevalcap.meteor.meteor import Meteor

    statistics: list[list[float]] = []

    class Recorded(Meteor):  # type: ignore[misc]
        """Keeps what the jar answers for each item: the intervals need it."""

        def _stat(self, hypothesis_str: str, reference_list: list[str]) -> str:
            answer: str = super()._stat(hypothesis_str, reference_list)
            statistics.append([float(number) for number in answer.split()])
            return answer

    meteor = Recorded()
    try:
        value, items = meteor.compute_score(own, said)
    except (OSError, ValueError) as error:
        meteor.lock.release()  # it is held, and waited for when the object goes
        raise UserError(f"METEOR's jar failed ({error}): mend java, or hide it from the path") from None
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
