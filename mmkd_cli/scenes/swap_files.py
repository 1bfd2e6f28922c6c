"""Swaps of the built-in world as files in the layouts of Winoground, ARO and SugarCrepe, pictures beside them.

`write("winoground", FOLDER, "held-out")` writes what the official readers read: the same arguments, the same content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count, product
from pathlib import Path
from typing import Any

from PIL import Image

from mmkd_cli.scenes.captions import captions
from mmkd_cli.scenes.description import Scene
from mmkd_cli.scenes.drawing import draw
from mmkd_cli.scenes.negatives import NEGATIVE_KINDS, negative
from mmkd_cli.scenes.swaps import SWAP_KINDS, Swap, swap
from mmkd_cli.scenes.world import scene

ITEMS = 400
"""Of each kind, where nothing else is asked for."""

SIDE = 64
"""Of a picture, in pixels."""

SETS: dict[str, tuple[str, ...]] = {
    "seen": ("seen-pairs", "seen-relations", "counts"),
    "held-out": ("held-out-pairs", "held-out-combinations", "held-out-relations"),
}
"""Set -> its kinds of swap. Winoground's layout also takes a single kind."""

LAYOUTS: tuple[str, ...] = ("winoground", "aro", "sugarcrepe")

GROUP = 25
"""Items of a pair of attributes below which ARO leaves the pair out."""


def write(layout: str, folder: Path, name: str, *, items: int = ITEMS, seed: int = 0, plain: bool = False) -> None:
    """Write a set in a layout into a folder; plain: of the plain world.

    Raises ValueError for a name that the layout has no set of.
    """
    names = (*SETS, *(SWAP_KINDS if layout == "winoground" else ()))
    if layout not in LAYOUTS or name not in names:
        raise ValueError(f"{layout} of scenes {name!r}: name one of {', '.join(LAYOUTS)} and of {', '.join(names)}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if layout == "winoground":
        _winoground(folder, SETS.get(name, (name,)), items, seed, plain)
    else:
        (_aro if layout == "aro" else _sugarcrepe)(folder, name == "held-out", items, seed, plain)


def _winoground(folder: Path, kinds: Iterable[str], items: int, seed: int, plain: bool) -> None:
    """examples.jsonl and images/ex_ID_img_0.png, ex_ID_img_1.png. tag: the kind; the others are Winoground's own."""
    lines = []
    for number, (kind, index) in enumerate(product(kinds, range(items))):
        made = swap(kind, seed, index, plain=plain)
        pictures = {f"image_{k}": f"ex_{number}_img_{k}" for k in (0, 1)}
        for file, picture in zip(pictures.values(), made.scenes, strict=True):
            _draw(picture, folder / "images" / f"{file}.png")
        texts = {f"caption_{k}": text for k, text in enumerate(made.captions)}
        # Of noun phrases that change places Winoground says "Object", of adjectives and numerals "Relation".
        tags = {"tag": kind, "collapsed_tag": "Object" if kind.endswith("relations") else "Relation"}
        lines.append({"id": number, **pictures, **texts, **tags, "secondary_tag": "", "num_main_preds": 1})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "examples.jsonl").write_text(text, encoding="utf-8")


def _aro(folder: Path, held_out: bool, items: int, seed: int, plain: bool) -> None:
    """visual_genome_attribution.json and _relation.json with images/, coco_karpathy_test.json with val2014/."""
    attributes = _enough_of_each("held-out-combinations" if held_out else "seen-pairs", items, seed, plain)
    kind = "held-out-relations" if held_out else "seen-relations"
    relations = [swap(kind, seed, i, plain=plain) for i in range(items)]
    for name, swaps in (("attribution", attributes), ("relation", relations)):
        rows = []
        for number, made in enumerate(swaps):
            file, true = f"{name}-{number:06d}.png", made.shown
            _draw(made.scenes[true], folder / "images" / file)
            box = {"bbox_x": 0, "bbox_y": 0, "bbox_w": SIDE, "bbox_h": SIDE}
            texts = {"true_caption": made.captions[true], "false_caption": made.captions[1 - true]}
            by = {"attributes": sorted(made.words)} if name == "attribution" else {"relation_name": made.words[true]}
            rows.append({"image_id": number, "image_path": file, **box, **texts, **by})
        _write(folder / f"visual_genome_{name}.json", rows)
    (folder / "val2014").mkdir(exist_ok=True)
    described = []
    for number in range(items // 5):
        row = scene(seed, 2 * number + held_out, "test", plain=plain)  # odd rows of test are held out
        _draw(row, folder / "val2014" / f"{number:06d}.png")
        described.append({"image": f"val2014/{number:06d}.png", "caption": list(captions(row, plain=plain))})
    _write(folder / "coco_karpathy_test.json", described)


def _enough_of_each(kind: str, items: int, seed: int, plain: bool) -> list[Swap]:
    """The first swaps of a kind, of each two colours the same number and so many that ARO leaves no two out."""
    groups = {"seen-pairs": 28, "held-out-combinations": 4}[kind]
    each = max(GROUP, items // groups)
    kept: dict[frozenset[str], list[Swap]] = {}
    for index in count():
        made = swap(kind, seed, index, plain=plain)
        found = kept.setdefault(frozenset(made.words), [])
        if len(found) < each:
            found.append(made)
        if len(kept) == groups and all(len(found) == each for found in kept.values()):
            break
    return [made for found in kept.values() for made in found]


def _sugarcrepe(folder: Path, held_out: bool, items: int, seed: int, plain: bool) -> None:
    """add_att.json and six more, pictures in images/."""
    for kind in NEGATIVE_KINDS:
        rows = {}
        for index in range(items):
            made = negative(kind, seed, index, held_out=held_out, plain=plain)
            file = f"{kind}-{index:06d}.png"
            _draw(made.scene, folder / "images" / file)
            rows[str(index)] = {"filename": file, "caption": made.caption, "negative_caption": made.negative}
        _write(folder / f"{kind}.json", rows)


def _draw(picture: Scene, file: Path) -> None:
    Image.fromarray(draw(picture, SIDE)).save(file)


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
