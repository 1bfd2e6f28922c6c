"""Hard negatives of one picture: a true caption, and one with a word replaced or added, or with words swapped.

The kinds are SugarCrepe's seven. Negative i of a kind is a pure function of (seed, i), `held_out` and `plain`.
"""

from __future__ import annotations

from typing import NamedTuple

from mmkd_cli.scenes.captions import with_article
from mmkd_cli.scenes.description import Scene
from mmkd_cli.scenes.geometry import INVERSE, direction
from mmkd_cli.scenes.stream import Stream
from mmkd_cli.scenes.swaps import FIRST_PURPOSE, SWAP_KINDS, colour_word, noun, swap
from mmkd_cli.scenes.vocabulary import COLOURS, FILLS, SHAPES, VOCABULARY

NEGATIVE_KINDS: dict[str, str] = {
    "add_att": "the first object gets a fill that it does not have",
    "add_obj": "an object that is not there",
    "replace_att": "another colour",
    "replace_obj": "another shape",
    "replace_rel": "the opposite relation",
    "swap_att": "colours change places",
    "swap_obj": "objects change places",
}
"""Kind -> what is wrong in the negative."""


class Negative(NamedTuple):
    """`caption` is true of `scene`, `negative` is not."""

    scene: Scene
    caption: str
    negative: str


def negative(kind: str, seed: int, index: int, *, held_out: bool = False, plain: bool = False) -> Negative:
    """Negative `index` of a kind of NEGATIVE_KINDS. held_out: of a picture that training shows nothing like.

    Its colour-shape pairs are what training never has in swap_att, in all others it is the shapes in their relation.
    plain: in the plain world (`world.scene`).
    """
    if kind not in NEGATIVE_KINDS:
        raise ValueError(f"negative(kind={kind!r}): name one of {', '.join(NEGATIVE_KINDS)}")
    if kind == "swap_att":
        made = swap("held-out-combinations" if held_out else "seen-pairs", seed, index, plain=plain)
    else:
        made = swap("held-out-relations" if held_out else "seen-relations", seed, index, plain=plain)
    true = made.shown
    if kind.startswith("swap_"):
        return Negative(made.scenes[true], made.captions[true], made.captions[1 - true])
    stream = Stream(seed, "test", index, FIRST_PURPOSE + len(SWAP_KINDS) + list(NEGATIVE_KINDS).index(kind))
    return Negative(made.scenes[true], *_captions(stream, made.scenes[true], kind))


def _captions(stream: Stream, scene: Scene, kind: str) -> tuple[str, str]:
    """A relation that holds between two objects, and what is made of it."""
    a, b = scene.objects
    name = direction(a, b)
    assert name is not None  # swaps of relations have one
    other_colour = stream.choice([colour for colour in COLOURS if colour not in (a.colour, b.colour)])
    other_shape = stream.choice([shape for shape in SHAPES if shape not in (a.shape, b.shape)])
    colour, shape = colour_word(stream, a.colour), noun(stream, a.shape)
    form = stream.below(2)
    relation, opposite = (VOCABULARY["relations"][word][form] for word in (name, INVERSE[name]))
    second = with_article(f"{colour_word(stream, b.colour)} {noun(stream, b.shape)}")
    caption = f"{with_article(f'{colour} {shape}')} {relation} {second}"
    if kind == "add_obj":
        return (
            caption,
            f"{caption} and {with_article(f'{colour_word(stream, other_colour)} {noun(stream, other_shape)}')}",
        )
    fill = ""
    if kind == "add_att":
        fill = stream.choice(VOCABULARY["fills"][stream.choice([fill for fill in FILLS if fill != a.fill])]) + " "
    elif kind == "replace_att":
        colour = colour_word(stream, other_colour)
    elif kind == "replace_obj":
        shape = noun(stream, other_shape)
    else:
        relation = opposite
    return caption, f"{with_article(f'{fill}{colour} {shape}')} {relation} {second}"
