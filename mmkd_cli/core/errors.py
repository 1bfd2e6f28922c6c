"""Errors that carry an exit code and say, in one line, what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmkdError(Exception):
    """A failure with a message fit for a user. `exit_code` becomes the process's."""

    exit_code = 1


class UserError(MmkdError):
    """The user's mistake: a misspelt key, a missing file, a wrong column. Exit 2."""

    exit_code = 2


class Refused(MmkdError):
    """The artifact on disk is not the one asked for, is held by another process, or is damaged. Exit 3."""

    exit_code = 3


class Interrupted(MmkdError):
    """Work stopped on request, at a point from which the same command goes on. Exit 130."""

    exit_code = 130


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint such as ` (did you mean 'beit2'?)`, or the list of what is known, or an empty string.

    prefix: of the names as they are shown, not of `word`.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {prefix + close[0]!r}?)"
    return f" (known: {', '.join(prefix + name for name in names)})" if 0 < len(names) <= 30 else ""
