"""Five captions of a scene, each true of it, each mentioning other parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from mmkd_cli.scenes.description import Scene, SceneObject
from mmkd_cli.scenes.geometry import Relation, position, relations
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import VOCABULARY

_CAPTIONS = 1
"""The purpose of the captions' random stream; a scene's description has 0."""

_SHAPES: dict[str, list[list[str]]] = VOCABULARY["shapes"]
_COLOURS: dict[str, list[str]] = {colour: entry["words"] for colour, entry in VOCABULARY["colours"].items()}
_COUNTS: list[str] = VOCABULARY["counts"]
_GENERIC: list[str] = VOCABULARY["generic"]

_OPTIONAL_SIZES = {size: [*(f"{word} " for word in entry["words"]), ""] for size, entry in VOCABULARY["sizes"].items()}
_OPTIONAL_FILLS = {fill: [*(f"{word} " for word in words), ""] for fill, words in VOCABULARY["fills"].items()}
"""What may stand before a colour: the words of a size or a fill, or nothing in a third of the draws."""

_NAMES = {
    (colour, shape): [f"{word} {noun}" for word, (noun, _) in product(_COLOURS[colour], _SHAPES[shape])]
    for colour, shape in product(_COLOURS, _SHAPES)
}
_GROUNDS = {
    (colour, texture): [f"a {t} {c} {noun}" for t, c, noun in product(textures, entry["words"], VOCABULARY["grounds"])]
    for colour, entry in VOCABULARY["ground_colours"].items()
    for texture, textures in VOCABULARY["textures"].items()
}


def captions(scene: Scene, *, plain: bool = False) -> tuple[str, str, str, str, str]:
    """Five captions: a relation, all objects, counts on the ground, places, and a relation on the ground.

    plain: those of the plain world: each names colour and shape of every object, but for counts of colours alone.
    """
    stream = Stream(scene.seed, scene.split, scene.index, _CAPTIONS)
    held = relations(scene)
    if plain:
        return _plain_captions(stream, scene, held)
    return (
        _relation_caption(stream, scene, held),
        _list_caption(stream, scene),
        _count_caption(stream, scene),
        _place_caption(stream, scene),
        _ground_caption(stream, scene, held),
    )


def _plain_captions(stream: Stream, scene: Scene, held: tuple[Relation, ...]) -> tuple[str, str, str, str, str]:
    """A relation, all objects, counts, places, and all objects on the ground."""
    order = _shuffled(stream, scene.objects)
    listed = _joined([_bare(stream, item) for item in order])
    again = _joined([_bare(stream, item) for item in _shuffled(stream, scene.objects)])
    placed = _joined([f"{_bare(stream, item)} {_place(stream, item)}" for item in _shuffled(stream, scene.objects)])
    related = placed
    if held:
        subject, name, other = stream.choice(held)
        rest = [item for place, item in enumerate(scene.objects) if place not in (subject, other)]
        pair = f"{_bare(stream, scene.objects[subject])} {stream.choice(VOCABULARY['relations'][name])}"
        related = _joined([f"{pair} {_bare(stream, scene.objects[other])}", *(_bare(stream, item) for item in rest)])
    by_pair = stream.percent(60)
    words = [(item.colour, item.shape if by_pair else "") for item in scene.objects]
    parts = []
    for colour, shape in dict.fromkeys(words):
        count = words.count((colour, shape))
        nouns = stream.choice(_SHAPES[shape]) if shape else _GENERIC
        parts.append(f"{_COUNTS[count]} {stream.choice(_COLOURS[colour])} {nouns[count > 1]}")
    opening = ("", "there is ", "a picture of ", "we see ")
    return (
        stream.choice(opening) + related,
        stream.choice(("", f"{_COUNTS[len(order)]} {_GENERIC[len(order) > 1]}: ", "a picture of ")) + listed,
        _joined(parts),
        stream.choice(opening) + placed,
        f"{again} on {_ground(stream, scene)}",
    )


def _relation_caption(stream: Stream, scene: Scene, held: tuple[Relation, ...]) -> str:
    opening = stream.choice(("", "there is ", "a picture of ", "we see "))
    return opening + _related(stream, scene, held, with_fill=True)


def _list_caption(stream: Stream, scene: Scene) -> str:
    """Every object by fill, colour and shape."""
    count = len(scene.objects)
    names = _joined([_phrase(stream, item, with_size=False) for item in _shuffled(stream, scene.objects)])
    if count == 1:
        return stream.choice(("only ", "just one shape: ", "a single shape, ")) + names
    number = f"{_COUNTS[count]} shapes: "
    return stream.choice(("", number, f"a picture with {number}", "a picture of ")) + names


def _count_caption(stream: Stream, scene: Scene) -> str:
    """How many of each shape, or of each colour, on what ground; of a single object everything."""
    if len(scene.objects) == 1:
        return f"one {_noun(stream, scene.objects[0])} on {_ground(stream, scene)}"
    by_shape = stream.percent(60)
    words = [item.shape if by_shape else item.colour for item in scene.objects]
    parts = []
    for word in dict.fromkeys(words):
        count = words.count(word)
        if by_shape:
            parts.append(f"{_COUNTS[count]} {stream.choice(_SHAPES[word])[count > 1]}")
        else:
            parts.append(f"{_COUNTS[count]} {stream.choice(_COLOURS[word])} {_GENERIC[count > 1]}")
    return f"{_joined(parts)} on {_ground(stream, scene)}"


def _place_caption(stream: Stream, scene: Scene) -> str:
    """Where one to three objects lie."""
    some = _shuffled(stream, scene.objects)[: stream.between(2, 3)]
    parts = [f"{_phrase(stream, item, with_fill=False)} {_place(stream, item)}" for item in some]
    return stream.choice(("", "there is ", "we see ")) + _joined(parts)


def _ground_caption(stream: Stream, scene: Scene, held: tuple[Relation, ...]) -> str:
    ground, related = _ground(stream, scene), _related(stream, scene, held, with_fill=False)
    return f"{related} on {ground}" if stream.percent(50) else f"on {ground}, {related}"


def _related(stream: Stream, scene: Scene, held: tuple[Relation, ...], *, with_fill: bool) -> str:
    """Two objects in a relation that holds; the first object in its place where none does."""
    if not held:
        return f"{_phrase(stream, scene.objects[0], with_fill=with_fill)} {_place(stream, scene.objects[0])}"
    subject, name, other = stream.choice(held)
    return " ".join(
        (
            _phrase(stream, scene.objects[subject], with_fill=with_fill),
            stream.choice(VOCABULARY["relations"][name]),
            _phrase(stream, scene.objects[other], with_fill=with_fill),
        )
    )


def _noun(stream: Stream, item: SceneObject, *, with_size: bool = True, with_fill: bool = True) -> str:
    size = stream.choice(_OPTIONAL_SIZES[item.size]) if with_size else ""
    fill = stream.choice(_OPTIONAL_FILLS[item.fill]) if with_fill else ""
    return size + fill + stream.choice(_NAMES[item.colour, item.shape])


def _phrase(stream: Stream, item: SceneObject, *, with_size: bool = True, with_fill: bool = True) -> str:
    return with_article(_noun(stream, item, with_size=with_size, with_fill=with_fill))


def _bare(stream: Stream, item: SceneObject) -> str:
    """Colour and shape alone."""
    return with_article(stream.choice(_NAMES[item.colour, item.shape]))


def with_article(noun: str) -> str:
    """A noun with "a" or "an" before it."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _place(stream: Stream, item: SceneObject) -> str:
    words: list[str] = VOCABULARY["positions"][position(item)]
    return stream.choice(words)


def _ground(stream: Stream, scene: Scene) -> str:
    return stream.choice(_GROUNDS[scene.ground.colour, scene.ground.texture])


def _shuffled(stream: Stream, items: Sequence[SceneObject]) -> list[SceneObject]:
    rest = list(items)
    return [rest.pop(stream.below(len(rest))) for _ in items]


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
