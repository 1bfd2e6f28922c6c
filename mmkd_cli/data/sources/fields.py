"""Reading JSON that is not trusted: every field is checked, and a wrong one is named with its file and row."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError

T = TypeVar("T")

MOST_JSON_BYTES = 4 << 30

_MOST_NAMED = 20
_SHOWN = 40

_NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def read_document(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    if path.is_file() and path.stat().st_size > MOST_JSON_BYTES:
        raise UserError(f"file {path} has more than {MOST_JSON_BYTES:,} bytes: it can't be an annotation file")
    return typed(paths.read_json(path), dict, f"file {path}")


def typed(value: Any, kind: type[T], where: str) -> T:
    """`value` if it is of this kind, else UserError naming where it stands."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where}: {_NAMES[kind]} is needed, not {_shown(value)}")
    return value


def field(row: dict[str, Any], name: str, kind: type[T], where: str) -> T:
    """A field of an object, of this kind; a missing one is an error that lists those that are there."""
    if name not in row:
        raise UserError(f"{where}: field {name!r} is missing, it has {listed(row)}")
    return typed(row[name], kind, f"{where}, field {name!r}")


def listed(names: Collection[Any]) -> str:
    """Names that a file has, for a message."""
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(map(_shown, islice(names, _MOST_NAMED))) or "none") + more


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def no_column(where: str, name: str, there: Collection[str], key: str) -> UserError:
    """What to say where a table has no column of this name. key: the source's key that names the column."""
    return UserError(
        f"{where} has no column {name!r}, its columns are {listed(there)}: rename one to {name!r}, or say which by "
        f"--set source.{key}=NAME"
    )


def inner_path(name: str, where: str) -> str:
    """A relative path that stays in its folder, else UserError."""
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name or not name:
        raise UserError(f"{where}: path {name!r} leaves its folder: a relative path without .. is needed")
    return name


def split_name(name: str, where: str) -> str:
    """A split's name that can be a folder's, else UserError."""
    if not re.fullmatch(r"\w+([.-]\w+)*", name):
        raise UserError(f"{where}: {name!r} can't be a split's name: letters, digits, _ . - only")
    return name
