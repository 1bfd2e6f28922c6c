"""The lexical rules of Penn Treebank tokens in English captions, as Stanford's PTBTokenizer 3.4.1 applies them.

A rule is what it takes, what it looks at behind that, and the token that it makes. Of all rules that match at a place
the one that matches most wins, what it looks at included; among equals the first.

Which rules there are was read in later versions of its rule file (GPL); what they do was found by asking the Java
tokenizer, and tests compare the two: where one looks odd, Java does so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mmkd_cli.metrics.ptb_characters import (
    DIGIT,
    LETTER,
    LEXICON,
    SPACE,
    SPACE_LINE,
    SYMBOL,
    UPPER,
    WORD_LETTER,
    acronym,
    always,
    as_is,
    ascii_symbol,
    capitalized,
    closing_quotes,
    dash,
    either,
    in_one_piece,
    named_brackets,
    no_soft_hyphens,
    opening_quotes,
    plain_ampersand,
    without_last,
)


class Rule(NamedTuple):
    """What a token may be. starts: kinds of first character, of "letter", "digit", "other". takes, sees: patterns.

    token: made from all that is taken. back: characters taken that are read again.
    """

    starts: str
    takes: str
    sees: str = ""
    token: Callable[[str], str] = as_is
    back: int = 0

    def compiled(self) -> re.Pattern[str]:
        """Group 1 is what is taken."""
        # Without ASCII, the dotless i and the Kelvin sign would count as i and k.
        return re.compile(f"({self.takes}){self.sees}", re.IGNORECASE | re.ASCII)


# ------------------------------------------------------------------------------------------------ what rules share
_APOSTROPHE = r"(?:['\x92’]|&apos;)"
_LIKE_APOSTROPHE = r"(?:['\x92’`\x91‘‛]|&apos;)"  # what stands for one inside a word
_AUXILIARY = "(?:ll|re|ve|[dms])"
_CLAUSE_MARK = "[,;:、]"
_FIRST, _REST = (f"(?:[{inside}]|&[aeiou](?:acute|grave|uml);)" for inside in (WORD_LETTER, WORD_LETTER + DIGIT))
_WORD = f"{_FIRST}{_REST}*(?:[.!?]{_FIRST}{_REST}*)*"
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_ATTRIBUTE = f"{_NAME} *= *(?:'[^']*'|\"[^\"]*\")|{_NAME}"
_MARKUP = rf"<(?:[!?][A-Za-z-][^>\r\n]*|{_NAME}(?: +(?:{_ATTRIBUTE}))* */?|/{_NAME}) *>"
_NUMBER = f"(?:[{DIGIT}]*[.:,\u066b\u066c])?[{DIGIT}]+(?:[.:,\xad\u066b\u066c][{DIGIT}]+)*"
_ALLIES = r"(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.S\.S\.R|U\.K)"
_ACRONYM, _LONG_ACRONYM = (rf"(?:{_ALLIES}|[A-Za-z](?:\.[A-Za-z]){many})" for many in "*+")
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:{_LONG_ACRONYM}\.|[A-Za-z0-9\xad]+))+"  # U.S.-based
_ELISION = f"(?:[dol]{_LIKE_APOSTROPHE}[{LETTER}{DIGIT}])?"  # d'oeuvre
_JOINED = f"{_ELISION}[{LETTER}{DIGIT}]+(?:[-_\u058a‐‑]{_ELISION}[{LETTER}{DIGIT}]+)*"
_FIRM = "(?-i:[A-Z]+(?:(?:[+&]|&(?i:amp);)[A-Z]+)+)"  # AT&T

# ------------------------------------------------------------------------------------------------ the rules, in order
_CONTRACTED = [
    Rule("letter", r"c\+\+|[cf]#"),
    Rule("letter other", "cannot|'twas", token=without_last(3), back=3),
    Rule("letter other", "'tis|gonna|gotta|lemme|gimme|wanna", token=without_last(2), back=2),
]

_MARKED_UP = [
    Rule("other", _MARKUP, token=in_one_piece),
    Rule("other", "&(?:MD|mdash|ndash);|[\x96\x97–—―]", token=always("--")),
    Rule("other", "&nbsp;", token=always("")),
    Rule("other", "&amp;", token=plain_ampersand),
    Rule("other", "&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);"),
]

_WHOLE_WITH_APOSTROPHE = (
    f"{_APOSTROPHE}n{_APOSTROPHE}?|[ldj]{_APOSTROPHE}|(?:Dunkin|somethin|ol){_APOSTROPHE}|"
    f"{_APOSTROPHE}(?:em|cause|till|til|[2-9]0s)|(?-i:[A-HJ-XZn]){_LIKE_APOSTROPHE}[{LETTER}]{{2,}}|"
    f"[{LETTER}]+[aeiouy]{_LIKE_APOSTROPHE}(?-i:[aeiouA-Z])[{LETTER}]*|O{_LIKE_APOSTROPHE}o|"
    r"cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l"
)
_WORDS = [
    Rule("letter other", _WORD, f"{_APOSTROPHE}{_AUXILIARY}", no_soft_hyphens),
    Rule("letter", "[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", f"n{_LIKE_APOSTROPHE}t", no_soft_hyphens),
    Rule("letter other", _WORD, token=no_soft_hyphens),
    Rule("letter other", _WHOLE_WITH_APOSTROPHE),
    Rule("letter", f"y{_APOSTROPHE}", f"[{LETTER}]"),
]

_NO_TEXT = r" \t\n\f\r\"<>|"
_PAGE = rf"/[^{_NO_TEXT}()]+[^{_NO_TEXT}.!?()\{{\}},-]"
_HOST, _FIRST_HOST = (rf"www\.(?:[^{_NO_TEXT}.!?()\{{\}},]+\.){many}[a-z]{{2,4}}" for many in ("+", "+?"))
# The range from , to _ is Java's: no capital, no digit, no slash.
_SITE = rf"(?:(?-i:[^{_NO_TEXT}`'!?()\{{\}},-_$]+)\.)+(?:com|net|org|edu)"
_ADDRESSES = [
    Rule("letter", rf"https?://[^{_NO_TEXT}()\{{\}}]+[^{_NO_TEXT}.!?()\{{\}},-]"),
    Rule("letter digit other", f"(?:{_FIRST_HOST}|{_SITE}){_PAGE}"),
    Rule("letter digit other", f"{_HOST}|{_SITE}"),
    Rule(
        "letter digit other",
        rf"(?:&lt;|<)?[a-z0-9][^{_NO_TEXT}()\xa0\{{\}}]*@(?:[^{_NO_TEXT}()\{{\}}.\xa0]+\.)*[^{_NO_TEXT}().\xa0\{{\}}]+"
        "(?:&gt;|>)?",
    ),
    Rule("other", f"@[a-z_][a-z_0-9]*|#{_FIRST}+"),
]

_ENDINGS = [
    Rule("other", f"{_APOSTROPHE}{_AUXILIARY}", "[^A-Za-z]", closing_quotes),
    Rule("other", rf"(?:[\x92’]|&apos;){_AUXILIARY}", token=closing_quotes),
    Rule("letter", f"n{_LIKE_APOSTROPHE}t", "[^A-Za-z]", closing_quotes),
]

_NUMBERS = [
    Rule("digit", f"[{DIGIT}]{{1,2}}[-/][{DIGIT}]{{1,2}}[-/][{DIGIT}]{{2,4}}"),
    Rule("digit other", f"[-+]?{_NUMBER}", token=no_soft_hyphens),
    Rule("other", "[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+)"),
    Rule("digit", rf"(?:[{DIGIT}]{{1,4}}[- \xa0])?[{DIGIT}]{{1,4}}(?:\\?/|⁄)[{DIGIT}]{{1,4}}", token=in_one_piece),
    Rule("other", "[¼½¾⅓-⅞]", token=ascii_symbol),
]

_WORD_WITH_HYPHENS = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_SPECIAL = [
    Rule(
        "letter other",
        r"-(?:RRB|LRB|RCB|LCB|RSB|LSB)-|C\.D\.s|pro-|anti-|S(?:&amp;|&)(?:P-500|Ls)|"
        f"Cap{_APOSTROPHE}n|c{_APOSTROPHE}est",
        token=plain_ampersand,
    ),
    Rule("letter digit", rf"{_WORD_WITH_HYPHENS}(?:\\?/{_WORD_WITH_HYPHENS}){{1,2}}"),
    Rule("letter other", r"(?-i:[A-Z]*)\$|#"),
    Rule("other", "[¢-¥\x80₠€\u060b฿₤\uffe0\uffe1\uffe5\uffe6]", token=ascii_symbol),
]

_SHORT = LEXICON["abbreviations"]
_BEFORE_END = rf"(?:{either(_SHORT['before_end'])}|{capitalized(_SHORT['before_end_capital'])}|(?:Ed|Ph)\.D)\."
_STARTS = rf"{capitalized(LEXICON['after_acronym'])}|(?-i:M)[rs]\."
_ABBREVIATIONS = [
    Rule("letter", rf"{_ACRONYM}\.", rf"[{SPACE_LINE}]+(?:{_STARTS}|{_MARKUP})[{SPACE_LINE}]", acronym, back=1),
    Rule("letter", rf"(?:{either(_SHORT['before_number'])})\.", f"[{SPACE_LINE}]?[{DIGIT}]"),
    Rule("letter", r"(?:pt[ey]|co)\.", f"[{SPACE}](?:ltd|lim)"),
    Rule("letter", _BEFORE_END, f"[{SPACE_LINE}](?:[{SPACE_LINE}]|(?-i:[{UPPER}])|{_MARKUP})", back=1),
    Rule("letter", _BEFORE_END, r"[\s\S]{2}"),
    Rule("letter", _BEFORE_END, back=1),
    Rule("letter", rf"(?:{either(_SHORT['inside'])}|M(?-i:[ft]g)|a\.k\.a|{_ACRONYM})\."),
    Rule("letter", _ACRONYM, f"[{SPACE_LINE}]"),
    Rule("other", f"{_APOSTROPHE}[0-9]{{2}}", f"[{SPACE_LINE}]"),
]

_FILE = rf"[{WORD_LETTER}{DIGIT}]+(?:\.[{WORD_LETTER}{DIGIT}]+)*\.(?:{either(LEXICON['file_endings'])})"
_AREA = r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
_WITH_MARKS = [
    Rule("letter digit", _FILE, f"[{SPACE_LINE}.?!,]"),
    Rule("letter other", rf"{_WORD}\.", _CLAUSE_MARK, no_soft_hyphens),
    Rule(
        "digit other",
        rf"{_AREA}[0-9]{{3,4}}[- \xa0]?[0-9]{{3,5}}|"
        r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        token=named_brackets,
    ),
]

_QUOTE = rf"(?:''|[`‘-‟\x91-\x94‹›«»]{{1,2}}|{_APOSTROPHE})"
_BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
_MARKS = [
    Rule("other", '"|&quot;', "[A-Za-z0-9$]", opening_quotes),
    Rule("other", '"|&quot;', token=closing_quotes),
    Rule("other", "<<|>>"),
    Rule("other", "<|&lt;", token=always("<")),
    Rule("other", ">|&gt;", token=always(">")),
    Rule("other", r"(?-i:[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])", "[^A-Za-z0-9]", named_brackets),
    Rule(
        "letter other",
        r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)",
        token=named_brackets,
    ),
    *(Rule("other", re.escape(bracket), token=always(name)) for bracket, name in _BRACKETS.items()),
    Rule("other", "-+", token=dash),
    Rule("other", r"\.{3,5}|…|\.[ \xa0](?:\.[ \xa0])+\.", token=always("...")),
    Rule("other", r"@+|#+|_+|\*+|(?:\\\*){1,3}|[,;:、]|[?!]+|[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa。]|=|/"),
]

_COMPOUNDS = [
    Rule("letter digit", _HYPHENATED, token=no_soft_hyphens),
    Rule("letter digit", rf"{_HYPHENATED}\.", _CLAUSE_MARK, no_soft_hyphens),
    Rule("letter digit", rf"{_JOINED}\.", _CLAUSE_MARK),
    Rule("letter digit", _JOINED),
    Rule("letter", rf"{_FIRM}\.", _CLAUSE_MARK, plain_ampersand),
    Rule("letter", _FIRM, token=plain_ampersand),
]

_REMAINDER = [
    Rule("other", "'", r"[A-Za-z][^ \t\n\r\xa0]", opening_quotes),
    Rule("other", _QUOTE, token=closing_quotes),
    Rule("other", rf"[+%&~^|\\⁄{SYMBOL}]"),
]

RULES = [
    *_CONTRACTED, *_MARKED_UP, *_WORDS, *_ADDRESSES, *_ENDINGS, *_NUMBERS, *_SPECIAL, *_ABBREVIATIONS, *_WITH_MARKS,
    *_MARKS, *_COMPOUNDS, *_REMAINDER,
]  # fmt: skip
