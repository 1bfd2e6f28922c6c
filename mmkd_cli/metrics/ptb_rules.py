"""The caption tokenizer's rules: where several match, the longest does (what must follow counts), then the first.

Written by asking the official Java tokenizer for its answers; no source of it was read. The comments show what it said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from mmkd_cli.metrics.ptb_pieces import (
    AMPERSANDS,
    CONTRACTION,
    DIGIT,
    DOTTED,
    ENDS,
    ENTITY,
    EXTENSIONS,
    HOST,
    HYPHENED,
    INITIALS,
    JOINED,
    LETTER,
    MARK,
    NEXT,
    NOT,
    NUMBER,
    NUMBERED,
    PATH,
    QUOTE,
    SLASHED,
    SPACE,
    SYMBOL,
    TAG,
    TITLES,
    UPPER,
    WORD,
    D,
    W,
)
from mmkd_cli.metrics.ptb_spelling import (
    Spelling,
    ampersand,
    as_text,
    contraction,
    each_spelled,
    raw,
    spelled,
    unbroken,
    whole,
    with_period,
    word,
)

Match = Callable[[str, int], re.Match[str] | None]

_ANY, _ASCII, _ALNUM = f"{LETTER}{MARK}{DIGIT}\\xad&", "A-Za-z", "A-Za-z0-9"
_QUOTES = "'’\\x92&"

# What it may begin with; the token, in brackets, and what must follow it; its spelling.
_RULES: list[tuple[str, str, Spelling]] = [
    # cannot -> can not, Gonna -> Gon na
    (_ASCII, "((?i:can))(?i:not)|((?i:gon|wan))(?i:na)|((?i:got))(?i:ta)|((?i:lem|gim))(?i:me)", raw),
    # don't -> do n't, but 5xn't -> 5xn ' t
    (_ASCII, rf"([A-Za-z\xad]*[A-MO-Za-mo-z\xad]){NOT}", word),
    ("Nn", f"({NOT})", contraction),
    # it's -> it 's; he'sx -> he ` sx, x ’sb -> x 's b, and between them: x 'll5 -> x 'll 5
    (_ANY, f"({WORD}|{JOINED}){CONTRACTION}", word),
    (_QUOTES, rf"({CONTRACTION})(?:[^A-Za-z]|\Z)", contraction),
    # 'Tis -> 'T is, but ’tis -> ' tis
    ("'", "('[tT])(?i:is|was)", raw),
    # rock 'n' roll, 'emx -> 'em x, '90s but not '10s
    (_QUOTES, r"(['’\x92](?:[nN]['’\x92]?|(?i:em|cause|till?)|[2-9]0[sS]))", raw),
    # 'ab -> ` ab, 'a- -> ` a -; but 'a b -> ' a b, and '5, 'é
    ("'&", r"('|&apos;)[A-Za-z][^ \n\xa0]", as_text("`")),
    (_QUOTES, f"({CONTRACTION})", contraction),
    # '05 x, but '05. -> ' 05 .
    (_QUOTES, f"(['’][0-9][0-9]){SPACE}", raw),
    # l'a -> l' a, ol'x -> ol' x; y'all -> y' all, but y'5 -> y ' 5
    (_ASCII, r"((?i:d|l|ol)['’\x92])", raw),
    ("JYjy", rf"([jyJY]['’\x92])[{LETTER}]", raw),
    # N'Gabe, n'tx, o'o, c'mon; ma'am, ho'ohu, be'X, but ab'cd -> ab ` cd
    (_ASCII, f"([A-HJ-XZn]{QUOTE}[{LETTER}]{{2,}}|[oO]{QUOTE}[oO]|(?i:c['’](?:est|mon)|li['’]l|cap['’]n))", raw),
    (_ANY, f"([{LETTER}]+[aeiouyAEIOUY]{QUOTE}[aeiouA-Z][{LETTER}]*)", raw),
    # river.A, wow!great; a.5 -> a. 5
    (_ANY, f"({JOINED})", word),
    # etc. A -> etc. . A, and before a tag, a blank line or the end; etc.a -> etc. a, but etc.ab
    (_ASCII, rf"({ENDS})\.(?:{SPACE}(?:{SPACE}|[{UPPER}]|{TAG})|{SPACE}*\Z)", with_period),
    (_ASCII, rf"({ENDS}\.)(?s:.{{0,2}})", raw),
    # words, t-shirt, a_b, 4x4, D'Or-x, jack-o'lantern
    (_ANY, f"({WORD})", word),
    (_ANY, f"({HYPHENED})", word),
    # pro- anti-, but multi- -> multi -
    ("AaPp", "((?i:anti|pro)-)", raw),
    # 5.-b, b,-b, bb.b-b-b, but é.b-b -> é.b - b
    (_ALNUM, f"({DOTTED})", raw),
    # and/or, 1/2/3, a\/b; a/b/c/d -> a/b/c / d, bar/café -> bar/caf é
    (_ALNUM, rf"({SLASHED}(?:\\?/{SLASHED}){{1,2}})", raw),
    # a word's full stop before other punctuation stays with it: ab., -> ab. ,
    (_ANY, rf"((?:{WORD}|{HYPHENED}|{DOTTED}|{JOINED}|{AMPERSANDS})\.)[,;:、]", word),
    # I. The -> I . The; U.S. The -> U.S. . The; a. U.S.A. x-U.S., but US. -> US .
    (_ASCII, rf"([A-Za-z])\.{NEXT}", raw),
    (_ALNUM, rf"({INITIALS})\.{NEXT}", with_period),
    (_ALNUM, rf"((?:{INITIALS}|[A-Za-z])\.)", raw),
    # Mr. x; co. Ltd; no. 5, but no. x -> no . x
    (_ASCII, rf"({TITLES}\.)", raw),
    (_ASCII, rf"((?i:co|pty|pte)\.){SPACE}(?i:ltd|limited)", raw),
    (_ASCII, rf"({NUMBERED}\.){SPACE}?{D}", raw),
    # 5 -5 +.5 1,000.5 12:43 1.5.2; 5+5 -> 5 +5
    (f"{DIGIT}.,:٫٬+\\-", rf"((?:[-+]\xad*)?(?:(?:{NUMBER})?(?:[.,:٫٬]{NUMBER})+|{NUMBER}))", word),
    # 1 1/2, 1-1/2, 10\/2, 1⁄2
    (DIGIT, rf"((?:{D}{{1,4}}[- \xa0])?{D}{{1,4}}(?:\\?/|⁄){D}{{1,4}})", whole),
    # telephone numbers: (555) 555-1234, 555 123 4567, +44 20 7946 0958, 55 555555
    (
        "0-9(+",
        r"((?:\([0-9]{2,3}\)[ \xa0]?|(?:\+?[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])[0-9]{3,4}[- \xa0]?[0-9]{3,5})",
        whole,
    ),
    # x² -> x ², 10⁻³ -> 10 ⁻³
    ("⁰-₎²³¹", "([⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+))", raw),
    # US$5 -> US$ 5, us$ -> us $
    ("A-Z", r"([A-Z]+\$)", raw),
    # AT&T R&R A+B, but r&r -> r & r; C++ f#
    ("A-Z", f"({AMPERSANDS})", ampersand),
    ("Ss", "((?i:s&p-500|s&ls))", raw),
    ("CFcf", r"([cC]\+\+|[cCfF]#)", raw),
    # http://a.b/c?d, www.a.com, “x.com, a.com/b/c, a@b.c; 12.jpg, but 12.jpgx -> 12 . jpgx
    ("Hh", f"((?i:https?)://{PATH})", raw),
    ("Ww", rf"((?i:www)\.(?:[^\s!\"(),<>?{{|}}.]+\.)+[A-Za-z]{{2,4}}(?:/{PATH})?)", raw),
    (r"\S\xa0", rf"((?:{HOST}\.)+(?:com|net|org|edu)(?:/{PATH})?)", raw),
    (
        "A-Za-z0-9<&",
        r'((?:<|&lt;)?[A-Za-z0-9][^\s"<>|(){}]*@(?:[^\s"<>|(){}.]+\.)*[^\s"<>|(){}.]+(?:>|&gt;)?)',
        raw,
    ),
    (_ANY, rf"({W}+(?:\.{W}+)*\.{EXTENSIONS})(?={SPACE}|[.,!?]|\Z)", raw),
    # #tag5 -> #tag 5, @a_5
    ("#", f"(#[{LETTER}{MARK}]+)", raw),
    ("@", "(@[A-Za-z_][A-Za-z0-9_]*)", raw),
    # <a b="c d"> <br /> <!-- c -->
    ("<", rf"({TAG}|<[!?][A-Za-z-][^>\n]*>)", unbroken),
    # &eacute; &#39; stay; &lt; -> <, but &copy; -> & copy ;
    ("&", f"({ENTITY}|&#[0-9]+;|&(?i:HT|UR|LR|QL);)", raw),
    ("&", "(&(?i:md|mdash|ndash);)", as_text("--")),
    ("&", "(&(?i:lt|gt|amp|quot|apos|nbsp);)", spelled),
    ("-", "(-(?i:[LR][RSC]B)-)", raw),
    # :-) ;P >:( =D but :Dx -> : Dx; ^_^ (-.-)
    ("<>:;=", r"([<>]?[:;=][-o*']?[()DPOdp{@|\\\[\]])(?![A-Za-z0-9])", whole),
    (r"\-^x=~<>'(", r"([-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.-]?[-^x=~<>']\))", whole),
    # "a" -> `` a '', "$5, but "é -> '' é; ’’ -> ''
    ('"&', '("|&quot;)[A-Za-z0-9$]', as_text("``")),
    (r"`\x91-\x94‘-‟‹›«»", r"([`\x91-\x94‘-‟‹›«»]{1,2})", each_spelled),
    # .... -> ..., ...... -> ... .; a---b -> a -- b, ----- stays
    (".", r"(\.{3,5}|\.(?:[ \xa0]\.){2,3})", as_text("...")),
    ("-", "(-{2,4})(?!-)", as_text("--")),
    # *** \*\* ## __ @@ << '' ?!! together, any other character alone
    (r"*\\#_@<>!?'\-", r"(\*+|(?:\\\*)+|#+|_+|@+|<{1,2}|>{1,2}|[!?]+|''|-{5,})", raw),
    (r"\S", rf"([!-~{SYMBOL}\xad])", spelled),
]


@cache
def rules_for(character: str) -> list[tuple[Match, Spelling]]:
    """The rules that may match where this character stands, in order."""
    return [
        (_compiled(token), spelling) for first, token, spelling in _RULES if re.match(f"[{first}]", character, re.ASCII)
    ]


@cache
def _compiled(token: str) -> Match:
    return re.compile(token, re.ASCII).match
