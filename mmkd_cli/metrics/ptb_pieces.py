"""What the caption tokenizer's rules are made of: words that they name, kinds of characters, parts of tokens.

Found by asking the official Java tokenizer: about abbreviations for every word of two to four letters and the parts of
65 thousand longer ones, about characters for each of the basic plane in 27 contexts. No source of it was read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path


def _any_of(words: str) -> str:
    """One of the words (regular expressions), in whatever case, the longest first."""
    return "(?i:" + "|".join(sorted(words.split(), key=len, reverse=True)) + ")"


def _capitalised(words: str) -> str:
    return "|".join(f"{word[0].upper()}(?i:{word[1:]})" for word in words.split())


def _characters(kind: str) -> str:
    """What the tokenizer was seen to treat alike (ptb_characters.json), as the inside of a [...]."""
    ranges = " ".join(_KINDS[kind]).split()
    return "".join("-".join(f"\\u{code:>04}" for code in part.split("-")) for part in ranges)


_KINDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("ptb_characters.json").read_text("utf-8"))
LETTER, MARK, DIGIT, SYMBOL = map(_characters, ("letter", "mark", "digit", "symbol"))
_UPPER = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) == "Lu" and not "Ꭰ" <= c <= "Ᏽ")
UPPER = "".join(re.findall(f"[{LETTER}]", _UPPER)) + "Ⅰ-ⅯⒶ-Ⓩ"
"""Letters that may begin a sentence: the upper case known to it, which Cherokee's is not, Roman numerals, circled."""

# A full stop after them is theirs, whatever follows.
_TITLES = _any_of(
    """adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov
    govs hon insp invt jos lt maj mlle messrs mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev sen
    sens sfc sgt spc st ste supt supts treas vs wm"""
)
TITLES = f"(?:{_TITLES}|[Mm][ft]g)"

# A full stop after them is theirs, and one more ends the sentence where the next begins.
_ENDS = _any_of(
    r"""al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec ed\.d esq est etc ext feb fla
    fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn ph\.d plc
    rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo"""
)
_STATES = _capitalised("ark az del ill la mass miss ore pa tex wash")
ENDS = f"(?:{_ENDS}|{_STATES}|[Pp]?[Pp][Tt][ey]s?)"

# A full stop after them is theirs before a number.
NUMBERED = _any_of("art ca fig figs no nos op pp prop")

# Initials before them, written so and followed by a space, end a sentence: the U.S. The dog.
_WORDS = _capitalised(
    """a about after an as at but he her here if in it last many more now once one other our she since so some such that
    the their then there these they this we what when while yet you"""
)
_STARTERS = rf"{_WORDS}|M[rs]\."

EXTENSIONS = _any_of(
    """bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql
    tar txt wav x xml zip"""
)

SPACE = r"[ \t\n\r\f\xa0\u2000-\u200a\u3000]"
_ALNUM = "[A-Za-z0-9]"
_X = f"[{LETTER}{DIGIT}]"
D = f"[{DIGIT}]"
NUMBER = f"{D}(?:\\xad*{D})*"

# Western letters with an accent may be spelled as entities, and soft hyphens may stand within a word.
ENTITY = "&[aeiouAEIOU](?i:acute|grave|uml);"
_L = f"(?:[{LETTER}{MARK}\\xad]|{ENTITY})"
W = f"(?:[{LETTER}{MARK}{DIGIT}\\xad]|{ENTITY})"
WORD = f"{_L}{W}*"
JOINED = f"{WORD}(?:[.!?]{WORD})+"
QUOTE = "['’`‘‛\\x91\\x92]"
_NAME = f"(?:[dolDOL]{QUOTE}(?={_X}{{2}}))?"
HYPHENED = f"{_NAME}{_X}+(?:-{_NAME}[{LETTER}{DIGIT}\\xad]+|[_֊‐‑]{_NAME}{_X}+)*"
DOTTED = f"{_ALNUM}+[.,][A-Za-z0-9.,]*(?:-{_ALNUM}+)+"
INITIALS = f"(?:{_ALNUM}[A-Za-z0-9.,]*(?:-{_ALNUM}+)*-)?[A-Za-z](?:\\.[A-Za-z])+"
AMPERSANDS = r"[A-Z]+(?:(?:&|&amp;|\+)[A-Z]+)+"
SLASHED = f"{_ALNUM}+(?:-[A-Za-z]+){{0,2}}"

APOSTROPHE = "(?:['’\\x92]|&apos;)"
NOT = f"[nN](?:{QUOTE}|&apos;)[tT]"
CONTRACTION = f"{APOSTROPHE}(?i:[msd]|re|ve|ll)"

PATH = r'[^ \t\n\r\f"<>|(){}]+[^\s"<>|(){}.!?,-]'
HOST = r"[^\s!-\"$'-),-`{-}]+"
TAG = (
    r"</?[A-Za-z][A-Za-z0-9_:.-]*"
    r"(?:[ ]+[A-Za-z][A-Za-z0-9_:.-]*(?:[ ]*=[ ]*(?:'[^'\n]*'|\"[^\"\n]*\"))?)*[ ]*/?>"
)
NEXT = f"{SPACE}+(?:{_STARTERS}|{TAG}){SPACE}"
