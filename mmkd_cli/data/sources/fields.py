"""Reading JSON that is not trusted: every field is checked, and a wrong one is named with its file and row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError, nearest

T = TypeVar("T")

MOST_JSON_BYTES = 4 << 30

_MOST_NAMED = 20
_SHOWN = 40

_NAMES = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def read_document(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    if path.is_file() and path.stat().st_size > MOST_JSON_BYTES:
        raise UserError(f"file {path} has more than {MOST_JSON_BYTES:,} bytes: it can't be an annotation file")
    return typed(paths.read_json(path), dict, f"file {path}")


def typed(value: Any, kind: type[T], where: str) -> T:
    """`value` if it is of this kind, else UserError naming where it stands."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where}: {_NAMES[kind]} is needed, not {_shown(value)}")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: its text can't be stored ({error.reason}): mend it") from None
    return value


def field(row: dict[str, Any], name: str, kind: type[T], where: str) -> T:
    """A field of an object, of this kind; a missing one is an error that lists those that are there."""
    if name not in row:
        raise UserError(f"{where}: field {name!r} is missing, it has {listed(row)}")
    return typed(row[name], kind, f"{where}, field {name!r}")


def id_of(row: dict[str, Any], name: str, where: str) -> str:
    """An id that is a number or a text: 42 and "42" are the same."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return field(row, name, str, where)


def listed(names: Collection[Any]) -> str:
    """Names that a file has, for a message."""
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(map(_shown, islice(names, _MOST_NAMED))) or "none") + more


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def no_column(where: str, name: str, there: Collection[str], key: str) -> UserError:
    """What to say where a table has no column of this name. key: the source's key that names it; empty: none does."""
    meant = difflib.get_close_matches(name, map(str, there), n=1)
    hint = f" (did you mean {meant[0]!r}?)" if meant else ""
    ways = [f"rename one to {name!r}", *([f"say which by --set source.{key}=NAME"] if key else [])]
    return UserError(f"{where} has no column {name!r}, its columns are {listed(there)}: {', or '.join(ways)}{hint}")


def inner_path(name: str, where: str) -> str:
    """A relative path that stays in its folder, else UserError."""
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name or not name:
        raise UserError(f"{where}: path {name!r} leaves its folder: a relative path without .. is needed")
    return name


def split_name(name: str, where: str) -> str:
    """A split's name as a folder's, and as `datasets` opens it, else UserError."""
    if not re.fullmatch(r"\w+(\.\w+)*", name):
        raise UserError(f"{where}: {name!r} can't be a split's name: letters, digits, _ and . between them only")
    return name


def split_named(path: str | None, default: str) -> str:
    """The split that an official file's name has, as captions_val2017.json."""
    named = re.search(r"(?:^|_)(train|val|test)(?:\d{4}|[._]|$)", Path(path).name) if path else None
    return named[1] if named else default


def prepared_split(name: str, train_splits: Collection[str], where: str) -> str | None:
    """The split that a file's split counts as: those of `train_splits` are train; None where a train is left out."""
    if name in train_splits:
        return "train"
    return None if name == "train" else split_name(name, where)


def require_splits(train_splits: Collection[str], named: Collection[str], files: str) -> None:
    """UserError where --train-splits names a split that the files do not have."""
    for name in train_splits:
        if name not in named and name != "train":
            raise UserError(f"--train-splits {name!r} is no split of {files}{nearest(name, named)}")


USUAL_SPLITS = {"validation": "val", "valid": "val", "dev": "val"}
"""What official files call the split that benches and trainings look for as `val`."""


def usual_split(name: str, where: str) -> str:
    """A split by its usual name."""
    return split_name(USUAL_SPLITS.get(name, name), where)


def official_files(annotations: str, pattern: str) -> list[Path]:
    """The file that is named, or those of a folder whose names fit; UserError where there is none."""
    place = Path(annotations).expanduser()
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"--annotations {annotations!r} is not there: name the official file")
    if not (found := sorted(place.glob(pattern))):
        raise UserError(f"--annotations {annotations!r} holds no {pattern}: name the file itself")
    return found
