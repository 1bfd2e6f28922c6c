"""Characters and words as Stanford's PTBTokenizer 3.4.1 sorts them, and what becomes of the text of a token.

The lexicon beside this module holds what the Java tokenizer answers for single characters and words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEXICON: dict[str, Any] = json.loads(Path(__file__).with_name("ptb_lexicon.json").read_text("utf-8"))


def _ranges(kind: str) -> list[tuple[int, int]]:
    bounds = [part.split("-") for part in LEXICON["characters"][kind].split()]
    return [(int(bound[0], 16), int(bound[-1], 16)) for bound in bounds]


def _characters(*kinds: str) -> str:
    """All of them, those of ASCII left out."""
    return "".join(chr(code) for kind in kinds for low, high in _ranges(kind) for code in range(low, high + 1))


def _class(*kinds: str) -> str:
    """The inside of a character class, ASCII left out."""
    return "".join(f"\\u{low:04x}-\\u{high:04x}" for kind in kinds for low, high in _ranges(kind))


def either(words: str) -> str:
    """An alternation, the longer words first, so that the longest match is found."""
    return "|".join(sorted((re.escape(word) for word in words.split()), key=len, reverse=True))


def capitalized(words: str) -> str:
    """An alternation of words whose first letter must be as it stands here, and no other one."""
    return "|".join(f"(?-i:{word[0]}){re.escape(word[1:])}" for word in words.split())


# Insides of character classes. SPACE_LINE: also the ends of lines.
LETTER, DIGIT, SYMBOL = "A-Za-z" + _class("letters"), "0-9" + _class("digits"), _class("symbols")
UPPER = "A-ZⅠ-ⅯⒶ-Ⓩ" + "".join(letter for letter in _characters("letters") if letter.isupper())
WORD_LETTER = f"{LETTER}{_class('marks')}\xad"  # with the soft hyphen
SPACE = r" \t\xa0\u2000-\u200a\u3000"
SPACE_LINE = SPACE + r"\r\n\u2028\u2029\x0b\x0c\x85"

LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\xad" + _characters("letters", "marks"))
DIGITS = frozenset("0123456789" + _characters("digits"))

_CURRENCIES = {"¢": "cents", "£": "#", "\x80": "$", "¤": "$", "₠": "$", "€": "$"}
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}


# ------------------------------------------------------------------------------------------------ tokens from text
def as_is(text: str) -> str:
    return text


def no_soft_hyphens(text: str) -> str:
    return text.replace("\xad", "") or "-"


def plain_ampersand(text: str) -> str:
    return re.sub("&amp;", "&", text, flags=re.IGNORECASE)


def in_one_piece(text: str) -> str:
    """Inner spaces become hard ones."""
    return text.replace(" ", "\xa0")


def named_brackets(text: str) -> str:
    return in_one_piece(text).replace("(", "-LRB-").replace(")", "-RRB-")


def ascii_symbol(text: str) -> str:
    """Of a fraction or a currency, where there is one."""
    return _FRACTIONS.get(text, _CURRENCIES.get(text, text))


def always(token: str) -> Callable[[str], str]:
    return lambda text: token


def without_last(count: int) -> Callable[[str], str]:
    return lambda text: text[:-count]


def acronym(text: str) -> str:
    """A single letter loses its full stop, U.S. keeps it."""
    return text[:-1] if len(text) == 2 else text


def dash(text: str) -> str:
    return "--" if len(text) in (3, 4) else text


def opening_quotes(text: str) -> str:
    return _latex_quotes(text, "`")


def closing_quotes(text: str) -> str:
    return _latex_quotes(text, "'")


def _latex_quotes(text: str, straight: str) -> str:
    """Straight quotes become `straight` (doubled for double ones), the others keep their direction."""
    for marks, token in (
        ("&apos;|'", straight),
        ('"|&quot;', 2 * straight),
        ("[\x91‘‛‹]", "`"),
        ("[\x92’›]", "'"),
        ("[\x93“«]", "``"),
        ("[\x94”»]", "''"),
    ):
        text = re.sub(marks, token, text)
    return text
