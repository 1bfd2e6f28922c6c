"""How models and data are named on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mmkd_cli.core import artifacts, registry
from mmkd_cli.core.config import Config
from mmkd_cli.core.errors import UserError

LIBRARIES = ("open_clip", "timm", "hf", "diffusers")
_LOCAL = "local-dir:"

Table = TypeVar("Table", bound=Config)


class ModelReference(NamedTuple):
    """`open_clip:ARCH[:FILE|TAG]`, `timm:ARCH[:FILE]`, `hf:ID|FOLDER`, `diffusers:ID|FOLDER`, or a plain name.

    Of a plain name (a run, a registered teacher) the library is '' and `arch` is the name; of a registered teacher
    with its weights, `d2v2:FILE`, both are the teacher's name.
    """

    library: str
    arch: str
    weights: str | None


def parse_model(text: str) -> ModelReference:
    """Split a model's name; a name with no known library in front is a run or a registered name."""
    library, colon, rest = text.partition(":")
    if colon and library not in LIBRARIES and library in registry.table("teachers"):
        return ModelReference(library, library, rest or None)
    if not colon or library not in LIBRARIES:
        return ModelReference("", text, None)
    if not rest:
        raise UserError(f"model {text!r} names a library and nothing in it: write {library}:NAME")
    if library in ("hf", "diffusers"):
        return ModelReference(library, rest, None)
    arch, _, weights = rest.partition(":")
    if arch in ("hf-hub", "local-dir"):  # these libraries' own prefixes: the whole rest is the architecture
        return ModelReference(library, rest, None)
    return ModelReference(library, arch, weights or None)


_PAIR = re.compile(r"((?:\w[\w+.-]*://[^/:]*(?::\d+)?)?[^:]*)(?::(.*))?", re.DOTALL)
"""Data and cache: a colon parts them that is no part of a URL's scheme or port."""


class DataReference(NamedTuple):
    """`NAME[:CACHE][@WEIGHT]`. Both may be URLs."""

    data: str
    cache: str | None
    weight: float


def parse_data(text: str) -> DataReference:
    """Split a data set's name from its cache and its weight in a mix."""
    names, at, weight = text.rpartition("@") if "@" in text else (text, "", "")
    data, cache = _PAIR.findall(names)[0]
    try:
        value = float(weight) if at else 1.0
    except ValueError:
        raise UserError(f"--data {text!r}: the weight {weight!r} is not a number") from None
    if not data or value <= 0:
        raise UserError(f"--data {text!r} is not NAME[:CACHE][@WEIGHT] with a positive weight")
    return DataReference(data, cache or None, value)


def teacher_table(text: str) -> dict[str, str]:
    """What `--teacher` names, as the keys of the config's teacher table: a registered name, or a library's model."""
    library, arch, weights = parse_model(text)
    named = {"weights": weights} if weights else {}
    if library == "timm":
        return {"name": "timm", "arch": arch, **named}
    if library == "open_clip":
        return {"name": "clip", "arch": arch, **named}
    if library == "hf":
        return {"name": _transformers_teacher(_model_type(arch)), "weights": arch}
    if library == "diffusers":
        return {"name": "stable-diffusion", "weights": arch}
    return {"name": arch, **named}


def _transformers_teacher(model_type: str) -> str:
    """The teacher that reads a transformers model of this type, or of a hub's id that says it."""
    known = model_type.lower()
    if known.startswith("data2vec"):
        return "data2vec"
    return "clip" if _is_clip(known) else "lm"


def _is_clip(model_type: str) -> bool:
    return "clip" in model_type or "siglip" in model_type


def student_table(text: str) -> dict[str, str]:
    """What `--student` names, as the keys of the config's student table: a registered name, a CLIP, a BART, another
    language model of transformers."""
    library, arch, weights = parse_model(text)
    if library in ("timm", "diffusers"):
        raise UserError(f"--student {text}: {library} has no model of pictures and texts: name one of open_clip or hf")
    if library == "hf":
        known = _model_type(arch).lower()
        name = "bart" if known.startswith("bart") else "clip" if _is_clip(known) else "prefix"
        return {"name": name, "weights": arch}
    named = {"name": "clip", "arch": arch} if library else {"name": arch}
    return {**named, "weights": weights} if weights else named


def absolute_places(teacher: Table, root: Path) -> Table:
    """A teacher's table with absolute paths to its files and folders, so that it opens from any working directory.

    Of the teacher `run` the weights are a run of the root, by name, path or URL.

    What is no file here (a tag, a hub's id) stays; beside an architecture a folder's name may be a tag and stays, too.
    """
    places: dict[str, str] = {}
    arch = str(getattr(teacher, "arch", None) or "")
    if getattr(teacher, "name", None) == "run" and (run := getattr(teacher, "weights", None)):
        return teacher.model_copy(update={"weights": str(artifacts.locate(root, run, "run").absolute())})
    for name in ("weights", "features", "ids", "tokenizer"):
        value = getattr(teacher, name, None)
        if value and (Path(value).is_file() or (Path(value).is_dir() and not arch)):
            places[name] = str(Path(value).absolute())
    if arch.startswith(_LOCAL):
        places["arch"] = _LOCAL + str(Path(arch.removeprefix(_LOCAL)).absolute())
    return teacher.model_copy(update=places)


def moved(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A teacher's table with its weights (its folder, its features) at another place."""
    if str(table.get("arch") or "").startswith(_LOCAL) and Path(place).is_dir():
        return {**table, "arch": _LOCAL + place}
    return {**table, "features" if "features" in table else "weights": place}


def _model_type(folder_or_id: str) -> str:
    """`model_type` of a transformers folder; of a hub's id, whose files may not be here, the id itself says it."""
    config = Path(folder_or_id) / "config.json"
    if not config.is_file():
        return folder_or_id.rpartition("/")[2]
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{config} names no model_type: name a folder that transformers wrote") from None
