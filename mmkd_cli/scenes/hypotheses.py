"""Hypotheses about scenes, as in SNLI-VE: what a picture entails, contradicts, or leaves open.

"The circle is red." is entailed where every circle is red, contradicted where none is, and left open where some are:
which one is meant is not said. Hypotheses are made for `GROUP` pictures together, and each text of a group is about
three of them, once with each label. So whoever reads the hypothesis alone is right in a third, neither more nor less,
whatever was learnt from how many of them. The picture alone tells a little, since of single objects nothing is open and
of four most is: who counts the objects, and reads nothing, is right in about 45 % (in the plain world 42 %).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmkd_cli.scenes.description import Scene, SceneObject
from mmkd_cli.scenes.geometry import CENTRE_HIGH, CENTRE_LOW, pair_relations
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import COLOURS, FILLS, SHAPES, SIZES, VOCABULARY
from mmkd_cli.scenes.world import scene

GROUP = 32
"""Pictures whose hypotheses are made together."""
HYPOTHESES = 3
"""Of a picture, in a group's mean: as many as there are labels."""
LABELS = ("entailment", "neutral", "contradiction")

_PURPOSE = 90
"""Of the random stream of a group, which is its index; below are captions, questions, swaps and negatives."""
_DIRECTIONS = ("left of", "right of", "above", "below")
_SIDES = ("on the left", "on the right", "at the top", "at the bottom")


class Hypothesis(NamedTuple):
    """row: of its picture. label: one of LABELS."""

    row: int
    text: str
    label: str


def hypotheses(seed: int, group: int, split: str, objects: int = 0, *, plain: bool = False) -> tuple[Hypothesis, ...]:
    """GROUP * HYPOTHESES about rows from group * GROUP on, by row: as pure a function as `world.scene`, whose keys
    these are.

    Raises ValueError where too few texts are true, false and open of some of the pictures: single objects leave
    nothing open.
    """
    first = group * GROUP
    rows_of: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: {label: [] for label in LABELS})
    for row in range(first, first + GROUP):
        for kind, text, holds in _statements(scene(seed, row, split, objects, plain=plain)):
            rows_of[kind, text][_label(holds)].append(row)
    texts: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (kind, text), by_label in sorted(rows_of.items()):
        if all(by_label.values()):
            texts[kind].append((kind, text))
    if sum(map(len, texts.values())) < GROUP:
        raise ValueError(f"hypotheses(split={split!r}, group={group}, objects={objects}): too few texts have every "
                         "label: ask for scenes with several objects")  # fmt: skip
    stream, times, found = Stream(seed, split, group, _PURPOSE), Counter[int](), []
    for _ in range(GROUP):
        own = texts[stream.choice([kind for kind in sorted(texts) if texts[kind]])]
        kind, text = own.pop(stream.below(len(own)))
        for label in LABELS:
            rows = rows_of[kind, text][label]
            least = min(times[row] for row in rows)
            row = stream.choice([row for row in rows if times[row] == least])
            times[row] += 1
            found.append(Hypothesis(row, text, label))
    return tuple(sorted(found))


def _label(holds: Sequence[bool]) -> str:
    """Of whether a statement holds of each object (or pair) that it may be about."""
    return "entailment" if all(holds) else "neutral" if any(holds) else "contradiction"


def _statements(picture: Scene) -> Iterator[tuple[str, str, list[bool]]]:
    """Kind of statement, its text, and of which of the objects that it names it holds; not all of them are named."""
    named: dict[str, list[SceneObject]] = defaultdict(list)
    for item in picture.objects:
        for name in (_one(item.shape), f"{item.colour} shape", "shape"):
            named[name].append(item)
    for name, items in named.items():
        if not name.endswith(" shape"):
            yield from _each(name, "colour", {colour: [item.colour == colour for item in items] for colour in COLOURS})
        if name.endswith("shape"):
            yield from _each(name, "shape", {f"a {_one(s)}": [item.shape == s for item in items] for s in SHAPES})
        words = {fill: VOCABULARY["fills"][fill][0] for fill in FILLS}
        yield from _each(name, "fill", {words[fill]: [item.fill == fill for item in items] for fill in FILLS})
        yield from _each(name, "size", {size: [item.size == size for item in items] for size in SIZES})
        yield from _each(name, "side", {side: [side in _sides(item) for item in items] for side in _SIDES})
    for first, those in named.items():
        for second, others in named.items():
            pairs = [(one, other) for one in those for other in others]
            if "shape" in (first, second) or any(one is other for one, other in pairs):
                continue
            held = [pair_relations(*pair) for pair in pairs]
            if all(held):  # objects that lie between two directions stand in none that can be told
                yield from _each(first, "direction", {
                    f"{way} the {second}": [way in names for names in held] for way in _DIRECTIONS
                })  # fmt: skip


def _each(name: str, kind: str, said: dict[str, list[bool]]) -> Iterator[tuple[str, str, list[bool]]]:
    return ((kind, f"The {name} is {what}.", holds) for what, holds in said.items())


def _one(shape: str) -> str:
    word: str = VOCABULARY["shapes"][shape][0][0]
    return word


def _sides(item: SceneObject) -> set[str]:
    """The thirds of the picture, but for the middle ones, in which an object's centre lies."""
    lies = (item.x < CENTRE_LOW, item.x > CENTRE_HIGH, item.y < CENTRE_LOW, item.y > CENTRE_HIGH)
    return {side for side, there in zip(_SIDES, lies, strict=True) if there}
