"""Reading JSON that is not trusted: every field is checked, and a wrong one is named with its file and row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError, nearest

T = TypeVar("T")

MOST_JSON_BYTES = 4 << 30

_NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def read_document(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    if path.is_file() and path.stat().st_size > MOST_JSON_BYTES:
        raise UserError(f"file {path} has more than {MOST_JSON_BYTES:,} bytes: it can't be an annotation file")
    return typed(paths.read_json(path), dict, f"file {path}")


def typed(value: Any, kind: type[T], where: str) -> T:
    """`value` if it is of this kind, else UserError naming where it stands."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:37]}..."
        raise UserError(f"{where}: {_NAMES[kind]} is needed, not {shown}")
    return value


def field(row: dict[str, Any], name: str, kind: type[T], where: str) -> T:
    """A field of an object, of this kind; a missing one is an error with the nearest name."""
    if name not in row:
        raise UserError(f"{where}: field {name!r} is missing{nearest(name, map(str, row))}")
    return typed(row[name], kind, f"{where}, field {name!r}")


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
