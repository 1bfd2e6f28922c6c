"""How the caption tokenizer prints a token: as the official Java tokenizer was seen to print it.

No source of it was read: each spelling is an answer to a question that it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Spelling = Callable[[str], str]

SPELLED = {
    "(": "-LRB-",
    ")": "-RRB-",
    "[": "-LSB-",
    "]": "-RSB-",
    "{": "-LCB-",
    "}": "-RCB-",
    "¢": "cents",
    "£": "#",
    "¼": "1/4",
    "½": "1/2",
    "¾": "3/4",
    "⅓": "1/3",
    "⅔": "2/3",
    "…": "...",
    "\xad": "-",
    **dict.fromkeys("€₠¤\x80", "$"),
    **dict.fromkeys("–—―\x96\x97", "--"),
    **dict.fromkeys("‘‛‹\x91", "`"),
    **dict.fromkeys("’›\x92", "'"),
    **dict.fromkeys("“«\x93", "``"),
    **dict.fromkeys('”»\x94"', "''"),
    "&lt;": "<",
    "&gt;": ">",
    "&amp;": "&",
    "&apos;": "'",
    "&quot;": "''",
    "&nbsp;": "",
}
"""Characters and entities that are not printed as they are; \\x80 to \\x97 are the quotes and dashes of Windows."""


def raw(token: str) -> str:
    return token


def spelled(token: str) -> str:
    return SPELLED.get(token.lower(), token)


def each_spelled(token: str) -> str:
    return "".join(map(spelled, token))


def word(token: str) -> str:
    """Soft hyphens are left out of words; of nothing else they make a hyphen."""
    return token.replace("\xad", "") or "-"


def contraction(token: str) -> str:
    """Apostrophes of contractions are printed plainly, opening quotes in their place as a grave accent."""
    return re.sub("[’\x92]|&apos;", "'", re.sub("[‘‛\x91]", "`", token))


def ampersand(token: str) -> str:
    return token.replace("&amp;", "&")


def unbroken(token: str) -> str:
    """Spaces within one token are printed as no-break spaces."""
    return token.replace(" ", "\xa0")


def whole(token: str) -> str:
    """The same, and round brackets by name."""
    return unbroken(token).replace("(", "-LRB-").replace(")", "-RRB-")


def with_period(token: str) -> str:
    """The full stop of an abbreviation that ends a sentence is printed twice: its own, and one that follows."""
    return token + "."


def as_text(text: str) -> Spelling:
    return lambda token: text
