"""Five captions of a scene, each true of it, each mentioning other parts of it."""

from __future__ import annotations

from collections.abc import Sequence

from mmkd_cli.scenes.description import Scene, SceneObject
from mmkd_cli.scenes.geometry import position, relations
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import VOCABULARY

_CAPTIONS = 1

_SHAPES: dict[str, list[list[str]]] = VOCABULARY["shapes"]
_COLOURS: dict[str, list[str]] = {colour: entry["words"] for colour, entry in VOCABULARY["colours"].items()}
_SIZES: dict[str, list[str]] = {size: entry["words"] for size, entry in VOCABULARY["sizes"].items()}
_FILLS: dict[str, list[str]] = VOCABULARY["fills"]
_GROUND_COLOURS: dict[str, list[str]] = {name: entry["words"] for name, entry in VOCABULARY["ground_colours"].items()}
_TEXTURES: dict[str, list[str]] = VOCABULARY["textures"]
_GROUNDS: list[str] = VOCABULARY["grounds"]
_RELATIONS: dict[str, list[str]] = VOCABULARY["relations"]
_POSITIONS: dict[str, list[str]] = VOCABULARY["positions"]
_COUNTS: list[str] = VOCABULARY["counts"]
_GENERIC: list[str] = VOCABULARY["generic"]


def captions(scene: Scene) -> tuple[str, str, str, str, str]:
    """Five captions: a relation, all objects, counts on the ground, places, and a relation on the ground."""
    stream = Stream(scene.seed, scene.split, scene.index, _CAPTIONS)
    return (
        _relation_caption(stream, scene),
        _list_caption(stream, scene),
        _count_caption(stream, scene),
        _place_caption(stream, scene),
        _ground_caption(stream, scene),
    )


def _relation_caption(stream: Stream, scene: Scene) -> str:
    template = stream.choice(("{}", "there is {}", "a picture of {}", "we see {}"))
    return template.format(_related(stream, scene, "sf"))


def _list_caption(stream: Stream, scene: Scene) -> str:
    names = _joined([_phrase(stream, item, "f") for item in _shuffled(stream, scene.objects)])
    count = len(scene.objects)
    template = stream.choice(("{1}", "{0}: {1}", "a picture with {0}: {1}", "there {2} {1}", "{1} together"))
    if count == 1:
        template = stream.choice(("only {1}", "just {0}: {1}", "a single shape, {1}"))
    return template.format(f"{_COUNTS[count]} {_GENERIC[count > 1]}", names, "is" if count == 1 else "are")


def _count_caption(stream: Stream, scene: Scene) -> str:
    """How many of each shape, or of each colour, on what ground."""
    by_shape = stream.percent(60)
    counts: dict[str, int] = {}
    for item in scene.objects:
        word = item.shape if by_shape else item.colour
        counts[word] = counts.get(word, 0) + 1
    parts = []
    for word, count in counts.items():
        if by_shape:
            noun = stream.choice(_SHAPES[word])[count > 1]
        else:
            noun = f"{stream.choice(_COLOURS[word])} {_GENERIC[count > 1]}"
        parts.append(f"{_COUNTS[count]} {noun}")
    if len(scene.objects) == 1:
        parts = [f"{_COUNTS[1]} {_noun(stream, scene.objects[0], 'sf')}"]
    return f"{_joined(parts)} on {_ground(stream, scene)}"


def _place_caption(stream: Stream, scene: Scene) -> str:
    some = _shuffled(stream, scene.objects)[: stream.between(2, 3)]
    detail = "s" if len(some) < 3 else ""
    parts = [f"{_phrase(stream, item, detail)} {stream.choice(_POSITIONS[position(item)])}" for item in some]
    return stream.choice(("{}", "there is {}", "we see {}")).format(_joined(parts))


def _ground_caption(stream: Stream, scene: Scene) -> str:
    ground, related = _ground(stream, scene), _related(stream, scene, "s")
    return f"{related} on {ground}" if stream.percent(50) else f"on {ground}, {related}"


def _related(stream: Stream, scene: Scene, detail: str) -> str:
    """Two objects in a relation that holds; the first object in its place where none does."""
    held = relations(scene)
    if not held:
        first = scene.objects[0]
        return f"{_phrase(stream, first, detail)} {stream.choice(_POSITIONS[position(first)])}"
    relation = stream.choice(held)
    subject, other = scene.objects[relation.subject], scene.objects[relation.other]
    words = stream.choice(_RELATIONS[relation.name])
    return f"{_phrase(stream, subject, detail)} {words} {_phrase(stream, other, detail)}"


def _noun(stream: Stream, item: SceneObject, detail: str) -> str:
    """Size ("s" in detail), fill ("f"), colour and shape of an object; a detail is left out a third of the time."""
    words = []
    if "s" in detail and stream.percent(67):
        words.append(stream.choice(_SIZES[item.size]))
    if "f" in detail and stream.percent(67):
        words.append(stream.choice(_FILLS[item.fill]))
    words.append(stream.choice(_COLOURS[item.colour]))
    words.append(stream.choice(_SHAPES[item.shape])[0])
    return " ".join(words)


def _phrase(stream: Stream, item: SceneObject, detail: str) -> str:
    noun = _noun(stream, item, detail)
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _ground(stream: Stream, scene: Scene) -> str:
    texture = stream.choice(_TEXTURES[scene.ground.texture])
    colour = stream.choice(_GROUND_COLOURS[scene.ground.colour])
    return f"a {texture} {colour} {stream.choice(_GROUNDS)}"


def _shuffled(stream: Stream, items: Sequence[SceneObject]) -> list[SceneObject]:
    rest = list(items)
    return [rest.pop(stream.below(len(rest))) for _ in items]


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
