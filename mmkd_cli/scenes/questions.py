"""Five questions about a scene, each with the answers of ten people who do not always agree, as in VQA v2.

Two are answered by yes or no, one by a number, two by other words. Yes and no are drawn first, and evenly, and what is
not there is named by colours and shapes that occur together elsewhere. Who sees only how a question begins is right in
about 56 % of yes and no, 36 % of numbers and 14 % of other words (official accuracy, which counts what any person
said); who sees the picture can be right in all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mmkd_cli.scenes.captions import with_article
from mmkd_cli.scenes.description import Scene, SceneObject
from mmkd_cli.scenes.geometry import INVERSE, position, relations
from mmkd_cli.scenes.splits import SEEN_COLOURS, SEEN_SHAPES, is_held_out_pair
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.vocabulary import COLOURS, FILLS, GROUND_COLOURS, POSITIONS, SHAPES, VOCABULARY

QUESTIONS = 5
"""Of each scene."""
PEOPLE = 10

QUESTION_TYPES = (
    "are there any", "how many", "is the", "is there", "is there a", "what color is the", "what is the", "where is the",
)  # fmt: skip
"""How questions begin: VQA v2's own names."""

_QUESTIONS = 2
"""The purpose of the questions' random stream; captions have 1."""
_AGREE = (10, 10, 10, 10, 9, 9, 8, 8, 7, 6)
"""How many people give the true answer, each as often as it stands here: at least four, so that it is fully right."""
_AGREE_YES_NO = (10, 10, 10, 10, 10, 10, 10, 9, 9, 8)
"""The same of yes and no, where all others agree on what is wrong."""
_COUNT_WORDS: list[str] = VOCABULARY["counts"]
_DIRECTIONS = ("left of", "right of", "above", "below")


class Question(NamedTuple):
    """question_type: how it begins. answer_type: yes/no, number, other. answer: the true one; answers: ten people's."""

    text: str
    question_type: str
    answer_type: str
    answer: str
    answers: tuple[str, ...]


_Asked = tuple[str, str]
"""A question and its true answer."""


def questions(scene: Scene) -> tuple[Question, ...]:
    """Two by yes or no, one by a number, two by other words; a pure function of the scene's seed, split and index."""
    stream = Stream(scene.seed, scene.split, scene.index, _QUESTIONS)
    first, second = _distinct(stream, scene, _yes_or_no)
    third, fourth = _distinct(stream, scene, _other)
    sorts = ("yes/no", "yes/no", "number", "other", "other")
    asked = (first, second, _how_many(stream, scene), third, fourth)
    return tuple(_answered(stream, *one, sort) for one, sort in zip(asked, sorts, strict=True))


def _distinct(stream: Stream, scene: Scene, ask: Callable[[Stream, Scene], _Asked]) -> tuple[_Asked, _Asked]:
    """Two questions of a sort that are not the same."""
    first = second = ask(stream, scene)
    while second[0] == first[0]:
        second = ask(stream, scene)
    return first, second


# ------------------------------------------------------------------------------------------------ yes or no
def _yes_or_no(stream: Stream, scene: Scene) -> _Asked:
    true = stream.percent(50)
    asks = [_is_there, _are_there_any, _has_colour, _has_fill, *([_stands] if _pairs(scene) else [])]
    return stream.choice(asks)(stream, scene, true), "yes" if true else "no"


def _is_there(stream: Stream, scene: Scene, true: bool) -> str:
    """A colour with a shape; where it is not there, one that takes the colour or the shape of an object."""
    item = stream.choice(scene.objects)
    there = {(other.colour, other.shape) for other in scene.objects}
    if not true:
        held_out = is_held_out_pair(item.colour, item.shape)
        by_colour = [(item.colour, shape) for shape in SHAPES if is_held_out_pair(item.colour, shape) == held_out]
        by_shape = [(colour, item.shape) for colour in COLOURS if is_held_out_pair(colour, item.shape) == held_out]
        absent = [cell for cell in stream.choice((by_colour, by_shape)) if cell not in there]
        seen = [(colour, shape) for colour in COLOURS for shape in SEEN_SHAPES[colour] if (colour, shape) not in there]
        colour, shape = stream.choice(absent or seen)
    else:
        colour, shape = item.colour, item.shape
    return f"is there {with_article(f'{colour} {_one(shape)}')}?"


def _are_there_any(stream: Stream, scene: Scene, true: bool) -> str:
    """A shape, or shapes of a colour."""
    by_shape = stream.percent(50)
    there = {item.shape if by_shape else item.colour for item in scene.objects}
    word = stream.choice([one for one in (SHAPES if by_shape else COLOURS) if (one in there) == true])
    return f"are there any {_many(word)}?" if by_shape else f"are there any {word} shapes?"


def _has_colour(stream: Stream, scene: Scene, true: bool) -> str:
    item, name = _named(stream, scene, "shape") or (None, "")
    if item is None:
        return f"is the background {_ground_colour(stream, scene, true)}?"
    others = COLOURS if is_held_out_pair(item.colour, item.shape) else SEEN_COLOURS[item.shape]
    colour = item.colour if true else stream.choice([one for one in others if one != item.colour])
    return f"is the {name} {colour}?"


def _ground_colour(stream: Stream, scene: Scene, true: bool) -> str:
    own = scene.ground.colour
    return own if true else stream.choice([one for one in GROUND_COLOURS if one != own])


def _has_fill(stream: Stream, scene: Scene, true: bool) -> str:
    item, name = _named(stream, scene, "cell") or (None, "")
    if item is None:
        return f"is the background {_ground_colour(stream, scene, true)}?"
    fill = item.fill if true else stream.choice([one for one in FILLS if one != item.fill])
    return f"is the {name} {VOCABULARY['fills'][fill][0]}?"


def _stands(stream: Stream, scene: Scene, true: bool) -> str:
    """A direction between two objects that have names; the other way round where it does not hold."""
    subject, name, other = stream.choice(_pairs(scene))
    name = name if true else INVERSE[name]
    words = [_cell_name(scene.objects[place]) for place in (subject, other)]
    return f"is the {words[0]} {name} the {words[1]}?"


def _pairs(scene: Scene) -> list[tuple[int, str, int]]:
    """Directions that hold between objects of which there is one of their colour and shape."""
    single = {place for place, item in enumerate(scene.objects) if _is_single(scene, item, "cell")}
    return [held for held in relations(scene) if held.name in _DIRECTIONS and {held.subject, held.other} <= single]


# ------------------------------------------------------------------------------------------------ numbers
def _how_many(stream: Stream, scene: Scene) -> _Asked:
    """Shapes of all sorts, of one shape, or of one colour; the number is drawn first, of those that there are."""
    total = len(scene.objects)
    asks: dict[int, list[str]] = {total: ["how many shapes are there?"]}
    for words, counts, noun in (
        (SHAPES, Counter(item.shape for item in scene.objects), _many),
        (COLOURS, Counter(item.colour for item in scene.objects), lambda word: f"{word} shapes"),
    ):
        for word in words:
            asks.setdefault(counts[word], []).append(f"how many {noun(word)} are there?")
    numbers = sorted(asks)
    drawn = [number for number in numbers for _ in range(1 if number < 2 else 2)]
    number = stream.choice(drawn)
    return stream.choice(asks[number]), str(number)


# ------------------------------------------------------------------------------------------------ other words
def _other(stream: Stream, scene: Scene) -> _Asked:
    kind = stream.choice(("colour", "shape", "place"))
    if kind == "colour" and (found := _named(stream, scene, "shape")):
        return f"what color is the {found[1]}?", found[0].colour
    if kind == "shape" and (found := _named(stream, scene, "colour")):
        return f"what is the {found[0].colour} shape?", found[0].shape
    if kind == "place" and (found := _named(stream, scene, "cell")):
        return f"where is the {found[1]}?", position(found[0])
    return stream.choice((("what color is the background?", scene.ground.colour),
                          ("what is the texture of the background?", scene.ground.texture)))  # fmt: skip


# ------------------------------------------------------------------------------------------------ names
def _named(stream: Stream, scene: Scene, by: str) -> tuple[SceneObject, str] | None:
    """An object that its shape, its colour or both (`cell`) tell from all others, and its name; None without any."""
    single = [item for item in scene.objects if _is_single(scene, item, by)]
    if not single:
        return None
    item = stream.choice(single)
    return item, _one(item.shape) if by == "shape" else _cell_name(item)


def _is_single(scene: Scene, item: SceneObject, by: str) -> bool:
    def key(one: SceneObject) -> tuple[str, ...]:
        return {"shape": (one.shape,), "colour": (one.colour,), "cell": (one.colour, one.shape)}[by]

    return sum(key(other) == key(item) for other in scene.objects) == 1


def _cell_name(item: SceneObject) -> str:
    return f"{item.colour} {_one(item.shape)}"


def _one(shape: str) -> str:
    name: str = VOCABULARY["shapes"][shape][0][0]
    return name


def _many(shape: str) -> str:
    name: str = VOCABULARY["shapes"][shape][0][1]
    return name


# ------------------------------------------------------------------------------------------------ people
def _answered(stream: Stream, text: str, answer: str, sort: str) -> Question:
    """The question with what ten people say: most the truth, some what is like it."""
    agree = stream.choice(_AGREE_YES_NO if sort == "yes/no" else _AGREE)
    like = _like(answer, sort)
    said = [answer] * agree + [stream.choice(like) for _ in range(PEOPLE - agree)]
    shuffled = tuple(said.pop(stream.below(len(said))) for _ in range(PEOPLE))
    kind = max((name for name in QUESTION_TYPES if text.startswith(f"{name} ")), key=len)
    return Question(text, kind, sort, answer, shuffled)


def _like(answer: str, sort: str) -> Sequence[str]:
    """What a person may say in place of the truth: another word for it, or what is taken for it."""
    if sort == "yes/no":
        return ("no",) if answer == "yes" else ("yes",)
    if sort == "number":
        number = int(answer)
        return [str(one) for one in (number - 1, number + 1) if one >= 0] + [_COUNT_WORDS[number]]
    if answer in POSITIONS:
        return [one for one in POSITIONS if one != answer and set(one.split()) & set(answer.split())] or [
            "in the middle"
        ]
    if answer in COLOURS:
        return [*VOCABULARY["colours"][answer]["words"][1:], COLOURS[COLOURS.index(answer) - 1]]
    if answer in SHAPES:
        return [*(one for one, _ in VOCABULARY["shapes"][answer][1:]), "shape"]
    return ["gray", "plain"] if answer == "grey" else ["white", "don't know"]
