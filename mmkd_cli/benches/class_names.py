"""Class names and templates of zero-shot classification: by name, from a file, or the data's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.data.sources import fields

PLACE = "{c}"
"""Where a template takes the class's name; a file may write {} as well."""

_OF_CIFAR = [
    f"a {kind}photo of {article} {size}{PLACE}."
    for article in ("a", "the")
    for kind, size in (
        ("", ""), ("blurry ", ""), ("black and white ", ""), ("low contrast ", ""), ("high contrast ", ""),
        ("bad ", ""), ("good ", ""), ("", "small "), ("", "big "),
    )
]  # fmt: skip
"""CLIP's own 18 (openai/CLIP, data/prompts.md)."""

_OURS = ("cifar10", "cifar100", "imagenet1k", "openai", "simple")
_MOST_BYTES = 64 << 20


def templates(name: str) -> list[str]:
    """Templates, each with PLACE: a set's, `openai` (ImageNet's 80) or `simple` (7)."""
    if name in ("cifar10", "cifar100"):
        return list(_OF_CIFAR)
    if name in _OURS:
        import open_clip

        ours = open_clip.SIMPLE_IMAGENET_TEMPLATES if name == "simple" else open_clip.OPENAI_IMAGENET_TEMPLATES
        return [template(PLACE) for template in ours]
    found = _of_clip_benchmark().get(name)
    if found is None:
        raise UserError(
            f"set {name!r} has no templates here{nearest(name, [*sets(), 'openai', 'simple'])}: "
            + ("" if find_spec("clip_benchmark") else "pip install clip-benchmark brings those of its sets, or ")
            + "name another set's by --set bench.templates=NAME, or a file by --set bench.template_file=FILE"
        )
    return list(found)


def templates_from(file: str) -> list[str]:
    """Templates of a file, lines or a JSON list, each with PLACE or {}."""
    if not Path(file).is_file():
        raise UserError(f"templates {file} are not a file: give lines or a JSON list, each with {PLACE}")
    found = _listed(Path(file), "templates")
    return [_template(text, f"templates {file}, number {number}") for number, text in enumerate(found)]


def sets() -> list[str]:
    """Names of sets that have templates of their own."""
    return sorted({*_OURS[:3], *_of_clip_benchmark()})


def fill(template: str, name: str) -> str:
    """A template with a class's name in it."""
    return template.replace(PLACE, name)


def names_from(file: str, labels: Sequence[str]) -> list[str]:
    """Names of the classes `labels` from a file: lines or a JSON list in the labels' order, or a JSON object by label.

    UserError where their number does not fit, or a label has no name.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"classes {file} is not a file: give lines or JSON with a name a class")
    if path.suffix == ".json" and isinstance(document := paths.read_json(path), dict):
        return [fields.field(document, label, str, f"classes {file}") for label in labels]
    names = _listed(path, "classes")
    if labels and len(names) != len(labels):
        raise UserError(f"classes {file} names {len(names):,} classes, the data has {len(labels):,}: name each once")
    return names


def imagenet(labels: NDArray[np.int64], synsets: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Labels among folders of synsets (n01440764 ...) as labels among ImageNet's 1,000 classes, and all their names."""
    import open_clip
    from timm.data import ImageNetInfo

    number = {synset: place for place, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    if odd := [synset for synset in synsets if synset not in number]:
        raise UserError(f"class {odd[0]!r} is no synset of ImageNet-1k (n01440764 ...): name its val folder")
    return np.array([number[synset] for synset in synsets])[labels], list(open_clip.IMAGENET_CLASSNAMES)


@cache
def _of_clip_benchmark() -> dict[str, list[str]]:
    """Set -> templates, of CLIP_benchmark where it is installed; nothing of it is imported."""
    found = find_spec("clip_benchmark")
    if found is None or not found.submodule_search_locations:
        return {}
    file = Path(found.submodule_search_locations[0], "datasets", "en_zeroshot_classification_templates.json")
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _template(text: str, where: str) -> str:
    text = text.replace("{}", PLACE)
    if PLACE not in text:
        raise UserError(f"{where}: {text[:60]!r} has no {PLACE}, which the class's name takes the place of")
    return text


def _listed(path: Path, what: str) -> list[str]:
    """Texts of a file: a JSON list, or lines that are not blank."""
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{what} {path} has more than {_MOST_BYTES:,} bytes: give one text a class or template")
    if path.suffix == ".json":
        found = fields.typed(paths.read_json(path), list, f"{what} {path}")
        texts = [fields.typed(text, str, f"{what} {path}, number {n}").strip() for n, text in enumerate(found)]
    else:
        try:
            texts = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise UserError(f"{what} {path} is not UTF-8: save it as UTF-8") from None
        texts = [line for line in texts if line]
    if not texts or not all(texts):
        raise UserError(f"{what} {path} holds {'an empty text' if texts else 'nothing'}: give a text a line")
    return texts
