"""Captions to the tokens that COCO's caption metrics count, without Java.

The official scorer runs Stanford's PTBTokenizer 3.4.1 with -preserveLines -lowerCase and drops a list of punctuation
(pycocoevalcap, tokenizer/ptbtokenizer.py). This one was written by asking the official Java tokenizer for its answers;
no source was read. Tests hold it equal, oddities included: brackets are spelled in lower case and so are not dropped;
whether `etc.` ends a sentence depends on the next caption's first letter. Known to differ is the lower case of a
capital sigma that ends a word behind a digit, a hyphen or a letter without case, and soft hyphens beside hyphens.
Beyond Java's: a line break inside a caption counts as a space whatever its character (there all but one would shift
every caption behind it), and characters beyond the basic plane are left out, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from mmkd_cli.metrics.ptb_rules import rules_for
from mmkd_cli.metrics.ptb_spelling import Spelling, raw

Key = TypeVar("Key", bound=Hashable)
Lines = Callable[[Sequence[str]], list[str]]

NAME = "mmkd PTB (as Stanford PTBTokenizer 3.4.1)"
"""What a result says that its captions were tokenised by."""

_BRACKETS = ("-LRB-", "-RRB-", "-LCB-", "-RCB-")
DROPPED = frozenset(["''", "'", "``", "`", *_BRACKETS, ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Punctuation that the scorers do not count, spelled as there."""

# Words of letters with a space behind them, but for the few that are split: nearly all of a caption.
_PLAIN = re.compile(r"(?:(?!(?i:cannot|gonna|gotta|lemme|gimme|wanna)\b)[A-Za-z]+ )+", re.ASCII)
_LINE_BREAKS = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029\ud800-\udfff]")  # and halves of characters


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
    tokens = []
    while place < end:
        if plain := _PLAIN.match(text, place, end):
            tokens += plain[0].split()
            place = plain.end()
            continue
        reach, longest = 0, None
        spelling: Spelling = raw
        for match, spell in rules_for(text[place]):
            found = match(text, place)
            if found and found.end() > reach:
                reach, longest, spelling = found.end(), found, spell
        if longest and longest.lastindex:  # the group of the token: what follows it is looked at only
            tokens.append(spelling(longest[longest.lastindex]))
            place = longest.end(longest.lastindex)
        else:
            place += 1
    return [token for token in tokens if token]
