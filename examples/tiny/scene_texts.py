"""What can be read about scenes, with no picture: captions, and questions with their answers behind captions or alone.

Questions and captions stand as `mmkd generate` asks for them, so that a model knows the form when it first sees a
picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmkd_cli import scenes
from mmkd_cli.architectures.generation import MASK
from mmkd_cli.tasks.vqa import VqaConfig

ASKED = VqaConfig().prompt
PICTURED = f"A picture of {MASK}."
FORMS = {
    "alone": (0.25, "", ""),
    "captions left out": (0.375, "{}", ""),
    "captions": (0.125, "{}", "{}"),
    "captions masked": (0.25, f"{MASK}. ", "{}"),
}
"""Name -> share, what is read before a question, and what is written; {} the captions."""
LIST = 1
"""The caption that names every object."""


class Read(NamedTuple):
    """source: with masks. target: without. answer: how the target ends, a space before it."""

    source: str
    target: str
    answer: str


def caption(seed: int, index: int, split: str = "train") -> str:
    """One of the five captions of a scene, its kinds in turn."""
    return scenes.captions(scenes.scene(seed, index, split))[index % 5]


def question(seed: int, index: int, split: str = "train") -> Read:
    """One of the five questions: a quarter alone, a quarter behind captions that have to be written first, half behind
    captions that are read, most of which are left out of what is written.

    The captions are the one that names every object and, in half of the texts, another one.
    """
    draw = np.random.default_rng((seed, scenes.SPLITS.index(split), index))
    scene = scenes.scene(seed, index, split)
    asked = scenes.questions(scene)[draw.integers(scenes.QUESTIONS)]
    every = scenes.captions(scene)
    told = [every[LIST]]
    if draw.random() < 0.5:
        told.insert(draw.integers(2), every[draw.choice([kind for kind in range(len(every)) if kind != LIST])])
    before = f"{'. '.join(told)}. "
    form = draw.choice(len(FORMS), p=[share for share, _, _ in FORMS.values()])
    _, read, written = tuple(FORMS.values())[form]
    text = ASKED.replace("{question}", asked.text)
    target = text.replace(MASK, asked.answer)
    return Read(read.format(before) + text, written.format(before) + target, f" {asked.answer}.")


def pictured(seed: int, index: int, split: str = "train") -> Read:
    """A caption as the other prompt has it."""
    said = f" {caption(seed, index, split)}."
    return Read(PICTURED, PICTURED.replace(f" {MASK}.", said), said)
