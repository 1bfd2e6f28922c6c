"""The tables of claim-scenes.sh, from the results in the root.

Percent: VQA's official accuracy, SNLI-VE's accuracy, the agent's success and SPL; cells as ../tables.py has them, with
intervals over pictures (of walks paths), and seeds of what was trained on the encoder. There is one encoder of a kind:
neither says what another training of the encoder would have given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from navigation_table import ENCODERS  # which puts ../tables.py on the path
from tables import Values, cell, lines, row, table

from mmkd_cli.core.paths import default_root

Line = dict[str, Any]


class Score(NamedTuple):
    """A column: whose results it reads, what an item scores, and what is drawn together."""

    result: str
    value: Callable[[Line], float]
    together: Callable[[Line], str]


def vqa(answer_type: str = "") -> Callable[[Line], float]:
    """The accuracy of questions of a type; others are no items."""
    return lambda one: one["accuracy"] if answer_type in ("", one["answer_type"]) else np.nan


QUESTIONS = Score("{model}-vqa-s{seed}", vqa(), lambda one: one["image"])
ENTAILED = Score("{model}-snli-ve-s{seed}", lambda one: 100.0 * one["right"]["accuracy"], lambda one: one["images"][0])
HEADS = {
    "VQA": QUESTIONS,
    **{kind: QUESTIONS._replace(value=vqa(kind)) for kind in ("yes/no", "number", "other")},
    "SNLI-VE": ENTAILED,
    **{
        name: Score("s{seed}-val_unseen", lambda one, name=name: one["scores"][name], lambda one: one["path_id"])
        for name in ("SR", "SPL")
    },
}


def found(encoder: str, score: Score, model: str = "") -> tuple[Values, list[str]] | None:
    """Values [seeds, items] and what of them is drawn together; None where nothing was measured."""
    pattern = f"{encoder}-{score.result.format(model=model, seed='?')}"
    whole = (default_root() / "results").glob(f"{pattern}/manifest.json")
    named = sorted(one.parent.name for one in whole)
    if not named:
        return None
    every = [lines(name) for name in named]
    values = np.array([[score.value(one) for one in own] for own in every])
    kept = ~np.isnan(values[0])
    return values[:, kept], [score.together(one) for one, keep in zip(every[0], kept, strict=True) if keep]


def shown(own: tuple[Values, list[str]] | None, less: tuple[Values, list[str]] | None = None) -> str:
    """A cell; with `less` of the difference, item by item and seed by seed, of the seeds that both have."""
    if own is None:
        return ""
    if less is None:
        return cell(*own)
    seeds = min(len(own[0]), len(less[0]))
    return cell(own[0][:seeds] - less[0][:seeds], own[1], sign=True)


def heads() -> None:
    """Each encoder under each head, and CLIP less each of the others."""
    table(["encoder", *HEADS])
    by = {name: [found(name, score, "head") for score in HEADS.values()] for name in ENCODERS}
    for name, own in by.items():
        if any(own):
            row(ENCODERS[name], [shown(one) for one in own])
    clip, *others = by
    for other in others:
        cells = [shown(one, less) if one and less else "" for one, less in zip(by[clip], by[other], strict=True)]
        if any(cells):
            row(f"{ENCODERS[clip]} less {ENCODERS[other]}", cells)


def streams() -> None:
    """CLIP-ViL_p's stream from new weights and from its pre-training."""
    kinds = {"VQA": QUESTIONS, "SNLI-VE": ENTAILED}
    table(["encoder", *(f"{kind}, {how}" for kind in kinds for how in ("from new weights", "pre-trained", "gain"))])
    for encoder, title in ENCODERS.items():
        cells = []
        for score in kinds.values():
            scratch, pretrained = (found(encoder, score, model) for model in ("scratch", "pretrained"))
            both = scratch is not None and pretrained is not None
            cells += [shown(scratch), shown(pretrained), shown(pretrained, scratch) if both else ""]
        if any(cells):
            row(title, cells)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    heads()
    streams()


if __name__ == "__main__":
    main()
