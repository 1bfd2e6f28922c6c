"""Captions to the tokens that COCO's caption metrics count, without Java.

The official scorer runs Stanford's PTBTokenizer 3.4.1 with -preserveLines -lowerCase and drops a list of punctuation
(pycocoevalcap, tokenizer/ptbtokenizer.py). This one is held equal to it by tests, oddities included: brackets are
spelled in lower case and so are not dropped; whether `etc.` ends a sentence depends on the next caption's first letter.
Beyond Java's: a line break inside a caption counts as a space whatever its character (there all but one would shift
every caption behind it), and characters beyond the basic plane are left out, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from mmkd_cli.metrics.ptb_characters import DIGITS, LETTERS
from mmkd_cli.metrics.ptb_rules import RULES, Rule

Key = TypeVar("Key", bound=Hashable)
Lines = Callable[[Sequence[str]], list[str]]

NAME = "mmkd PTB (as Stanford PTBTokenizer 3.4.1)"
"""What a result says that its captions were tokenised by."""

_BRACKETS = ("-LRB-", "-RRB-", "-LCB-", "-RCB-")
DROPPED = frozenset(["''", "'", "``", "`", *_BRACKETS, ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Punctuation that the scorers do not count, spelled as there."""

_LINE_BREAKS = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029\ud800-\udfff]")  # and halves of characters
# Nearly all of a caption: words of plain letters between spaces, which no rule but one of words can take.
_PLAIN_WORDS = re.compile("[A-Za-z]+(?: [A-Za-z]+)*(?=,? )")
_NOT_PLAIN = re.compile(r"\b(?:cannot|gonna|gotta|lemme|gimme|wanna)\b", re.IGNORECASE)
_BY_START: dict[str, list[tuple[re.Pattern[str], Rule]]] = {
    kind: [(rule.compiled(), rule) for rule in RULES if kind in rule.starts.split()]
    for kind in ("letter", "digit", "other")
}


def tokenize(captions: Mapping[Key, Sequence[str]], lines: Lines | None = None) -> dict[Key, list[str]]:
    """Each key's captions as their tokens joined by spaces, punctuation left out: what pycocoevalcap's scorers take.

    lines: another tokenizer in this one's place, from captions without line breaks to what `treebank_lines` gives.
    """
    every = [_LINE_BREAKS.sub(" ", caption) for several in captions.values() for caption in several]
    tokens = iter((lines or treebank_lines)(every))
    return {key: [_counted(next(tokens)) for _ in several] for key, several in captions.items()}


def treebank_lines(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption in lower case, joined by spaces: what Java prints for a file of these lines.

    A caption holds no line break.
    """
    # Java reads them as one text, and what a token is may depend on how the next line begins.
    text, start, out = "\n".join(captions), 0, []
    for caption in captions:
        out.append(" ".join(_tokens(text, start, start + len(caption))).lower())
        start += len(caption) + 1
    return out


def _counted(line: str) -> str:
    return " ".join(token for token in line.rstrip().split(" ") if token not in DROPPED)


def _tokens(text: str, place: int, end: int) -> list[str]:
    """Of text[place:end], looking on to what follows."""
    tokens: list[str] = []
    while place < end:
        plain = _PLAIN_WORDS.match(text, place, end)
        if plain and not _NOT_PLAIN.search(plain[0]):
            tokens += plain[0].split(" ")
            place = plain.end()
            continue
        first = text[place]
        kind = "letter" if first in LETTERS else "digit" if first in DIGITS else "other"
        longest, taken, by = 0, "", None
        if first != " ":
            for pattern, rule in _BY_START[kind]:
                found = pattern.match(text, place)
                if found and found.end() - place > longest:
                    longest, taken, by = found.end() - place, found[1], rule
        if by is None:  # a space, or a character that Java passes over
            place += 1
            continue
        if token := by.token(taken):
            tokens.append(token)
        place += len(taken) - by.back
    return tokens
