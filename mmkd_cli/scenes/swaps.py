"""Compositional swaps: two scenes and two captions of the same words, each caption true of its own scene alone.

Swap i of a kind under a seed is a pure function of these three. The kinds follow from what is held out of training
(`splits`): colours on shapes, where a pair is one object and a combination a whole picture, and shapes in a relation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmkd_cli.scenes.captions import with_article
from mmkd_cli.scenes.description import Ground, Scene, SceneObject
from mmkd_cli.scenes.geometry import direction
from mmkd_cli.scenes.layout import place
from mmkd_cli.scenes.splits import held_out_combinations, is_held_out_pair
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import (
    COLOURS,
    FILLS,
    GROUND_COLOURS,
    PLAIN_FILLS,
    PLAIN_TEXTURES,
    SHAPES,
    TEXTURES,
    VOCABULARY,
)

SWAP_KINDS: dict[str, str] = {
    "seen-pairs": "colours change places; every colour-shape pair is seen in training",
    "held-out-pairs": "colours change places; in both pictures one colour-shape pair of two is never seen in training",
    "held-out-combinations": "colours change places; in both pictures no colour-shape pair is ever seen in training",
    "seen-relations": "objects change places; both arrangements of these shapes are seen in training",
    "held-out-relations": "objects change places; one of both arrangements of these shapes is never seen in training",
    "counts": "numbers change places; all seen in training",
}
"""Kind -> what is swapped, and what of it training shows. Colour-shape pairs are seen ones unless said."""

SWAP_SIZES: tuple[str, ...] = ("medium", "large")
"""Small shapes are left out: a swap asks what goes with what, not how sharply a model sees."""

FIRST_PURPOSE = 16
"""Of the swaps' random streams: one a kind from here on."""

Pair = tuple[SceneObject, SceneObject]
Made = tuple[tuple[tuple[SceneObject, ...], tuple[SceneObject, ...]], tuple[str, str], tuple[str, str]]
"""Objects of both pictures, both captions, words."""

Fills = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swap:
    """Caption k is true of scene k alone.

    words: what tells the captions apart, canonical: two colours, the relation in each picture of the object that the
    first caption names first, or two numbers.
    """

    kind: str
    scenes: tuple[Scene, Scene]
    captions: tuple[str, str]
    words: tuple[str, str]

    @property
    def shown(self) -> int:
        """The scene to take where one is enough: the one that is held out, else the first."""
        return 1 if self.scenes[1].held_out and not self.scenes[0].held_out else 0


def swap(kind: str, seed: int, index: int, *, plain: bool = False) -> Swap:
    """Swap `index` of a kind in the world of `seed`; plain: in its plain world (`world.scene`).

    Raises ValueError for a kind that is none of SWAP_KINDS.
    """
    if kind not in SWAP_KINDS:
        raise ValueError(f"swap(kind={kind!r}): name one of {', '.join(SWAP_KINDS)}")
    stream = Stream(seed, "test", index, FIRST_PURPOSE + list(SWAP_KINDS).index(kind))
    make = _counts if kind == "counts" else _relation if kind.endswith("relations") else _attribute
    while (made := make(stream, kind, PLAIN_FILLS if plain else FILLS)) is None:
        pass
    pictures, captions, words = made
    ground = Ground(stream.choice(GROUND_COLOURS), stream.choice(PLAIN_TEXTURES if plain else TEXTURES))
    first, second = (
        Scene(
            seed, "test", index, tuple(sorted(objects, key=lambda item: (-item.radius, item.x, item.y))), ground,
            held_out_combinations(objects),
        )
        for objects in pictures
    )  # fmt: skip
    return Swap(kind, (first, second), captions, words)


def _attribute(stream: Stream, kind: str, fills: Fills) -> Made | None:
    """ "a red circle and a blue star" against "a blue circle and a red star"; everything else stays."""
    colours, shapes = _two(stream, COLOURS), _two(stream, SHAPES)
    wanted = {"seen-pairs": 0, "held-out-pairs": 1, "held-out-combinations": 2}[kind]
    if _held_out_pairs(colours, shapes) != wanted or _held_out_pairs(colours[::-1], shapes) != wanted:
        return None
    pair = _two_apart(stream, colours, shapes, fills)
    if pair is None or "relation" in held_out_combinations(pair):
        return None
    swapped = (replace(pair[0], colour=colours[1]), replace(pair[1], colour=colours[0]))
    words, nouns = [colour_word(stream, c) for c in colours], [noun(stream, shape) for shape in shapes]
    opening = stream.choice(("", "a picture of ", "two shapes: "))
    one, other = (
        f"{opening}{with_article(f'{a} {nouns[0]}')} and {with_article(f'{b} {nouns[1]}')}"
        for a, b in (words, words[::-1])
    )
    return (pair, swapped), (one, other), colours


def _relation(stream: Stream, kind: str, fills: Fills) -> Made | None:
    """ "a red circle above a blue star" against "a blue star above a red circle"."""
    pair = _two_seen(stream, fills)
    if pair is None:
        return None
    first, second = pair
    swapped = (replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y))
    name, inverse = direction(*pair), direction(*swapped)
    held_out = sum("relation" in held_out_combinations(objects) for objects in (pair, swapped))
    if name is None or inverse is None or held_out != (kind == "held-out-relations"):
        return None
    a, b = (with_article(f"{colour_word(stream, item.colour)} {noun(stream, item.shape)}") for item in pair)
    opening = stream.choice(("", "there is ", "a picture of ", "we see "))
    relation = stream.choice(VOCABULARY["relations"][name])
    return (pair, swapped), (f"{opening}{a} {relation} {b}", f"{opening}{b} {relation} {a}"), (name, inverse)


def _counts(stream: Stream, kind: str, fills: Fills) -> Made | None:
    """ "one red shape and two blue shapes" against "one blue shape and two red shapes"; a colour has one shape."""
    few, many = 1, stream.between(2, 3)
    pair = _two_seen(stream, fills)
    places = place(stream, ["circle"] * (few + many), ["medium"] * (few + many), "apart")
    if pair is None or places is None:
        return None
    a, b = (replace(item, size="medium") for item in pair)
    one, other = (
        tuple(replace(item, x=x, y=y, radius=radius) for item, (x, y, radius) in zip(items, places, strict=True))
        for items in ([a] * few + [b] * many, [b] * few + [a] * many)
    )
    if held_out_combinations(one) or held_out_combinations(other):
        return None
    words, numbers, (shape, shapes) = (
        [colour_word(stream, item.colour) for item in pair],
        VOCABULARY["counts"],
        VOCABULARY["generic"],
    )
    captions = [f"{numbers[few]} {x} {shape} and {numbers[many]} {y} {shapes}" for x, y in (words, words[::-1])]
    return (one, other), (captions[0], captions[1]), (numbers[few], numbers[many])


def _two_seen(stream: Stream, fills: Fills) -> Pair | None:
    """Two objects whose colour-shape pairs are seen in training."""
    colours, shapes = _two(stream, COLOURS), _two(stream, SHAPES)
    return None if _held_out_pairs(colours, shapes) else _two_apart(stream, colours, shapes, fills)


def _two_apart(stream: Stream, colours: tuple[str, str], shapes: tuple[str, str], fills: Fills) -> Pair | None:
    """Two objects of one size that neither touch nor nest."""
    size = stream.choice(SWAP_SIZES)
    places = place(stream, list(shapes), [size, size], "apart")
    if places is None:
        return None
    a, b = (
        SceneObject(shape, colour, size, stream.choice(fills), *where)
        for shape, colour, where in zip(shapes, colours, places, strict=True)
    )
    return a, b


def _two(stream: Stream, items: tuple[str, ...]) -> tuple[str, str]:
    """Two different items."""
    first, second = stream.below(len(items)), stream.below(len(items) - 1)
    return items[first], items[second + (second >= first)]


def _held_out_pairs(colours: tuple[str, ...], shapes: tuple[str, ...]) -> int:
    return sum(is_held_out_pair(colour, shape) for colour, shape in zip(colours, shapes, strict=True))


def colour_word(stream: Stream, colour: str) -> str:
    """One of the words of a colour."""
    words: list[str] = VOCABULARY["colours"][colour]["words"]
    return stream.choice(words)


def noun(stream: Stream, shape: str) -> str:
    """One of the nouns of a shape."""
    nouns: list[list[str]] = VOCABULARY["shapes"][shape]
    return stream.choice(nouns)[0]
