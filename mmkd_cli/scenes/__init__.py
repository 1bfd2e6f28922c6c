"""The built-in world: pictures drawn from a small language, with their captions and descriptions.

picture = scene(seed=0, index=7, split="train")
draw(picture, size=64)      # uint8 [64, 64, 3]
captions(picture)           # five texts
questions(picture)          # five questions, ten answers each
hypotheses(0, 2, "train")   # of the third 32 pictures: entailed, contradicted or left open
"""

from __future__ import annotations

from mmkd_cli.scenes.captions import captions
from mmkd_cli.scenes.description import Ground, Scene, SceneObject
from mmkd_cli.scenes.drawing import draw
from mmkd_cli.scenes.geometry import Relation, position, relations
from mmkd_cli.scenes.hypotheses import GROUP, HYPOTHESES, LABELS, Hypothesis, hypotheses
from mmkd_cli.scenes.labels import CLASS_NAMES, class_label
from mmkd_cli.scenes.questions import QUESTIONS, Question, questions
from mmkd_cli.scenes.splits import SPLITS
from mmkd_cli.scenes.swaps import SWAP_KINDS, Swap, swap
from mmkd_cli.scenes.vocabulary import COLOURS, FILLS, GROUND_COLOURS, POSITIONS, RELATIONS, SHAPES, SIZES, TEXTURES
from mmkd_cli.scenes.world import scene

__all__ = [
    "CLASS_NAMES",
    "COLOURS",
    "FILLS",
    "GROUND_COLOURS",
    "GROUP",
    "HYPOTHESES",
    "LABELS",
    "POSITIONS",
    "QUESTIONS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "SWAP_KINDS",
    "TEXTURES",
    "Ground",
    "Hypothesis",
    "Question",
    "Relation",
    "Scene",
    "SceneObject",
    "Swap",
    "captions",
    "class_label",
    "draw",
    "hypotheses",
    "position",
    "questions",
    "relations",
    "scene",
    "swap",
]
