"""Porter's stemmer (Porter 1980, An algorithm for suffix stripping) with the extensions that nltk has, ROUGE's default.

Tests hold it equal to nltk's on real and random words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

_IRREGULAR = (
    "sky>sky skies>sky dying>die lying>lie tying>tie news>news howe>howe proceed>proceed exceed>exceed succeed>succeed "
    "inning>inning innings>inning outing>outing outings>outing canning>canning cannings>canning"
)
_STEP_2 = (
    "ational>ate tional>tion enci>ence anci>ance izer>ize bli>ble alli>al entli>ent eli>e ousli>ous ization>ize "
    "ation>ate ator>ate alism>al iveness>ive fulness>ful ousness>ous aliti>al iviti>ive biliti>ble fulli>ful"
)
_STEP_3 = "icate>ic ative> alize>al iciti>ic ical>ic ful> ness>"
_STEP_4 = "al> ance> ence> er> ic> able> ible> ant> ement> ment> ent> ion> ou> ism> ate> iti> ous> ive> ize>"

_WHOLE = dict(rule.split(">") for rule in _IRREGULAR.split())


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Of a word in lower case."""
    if word in _WHOLE:
        return _WHOLE[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _y_to_i, _double_suffix, _suffix, _last_suffix, _final_e, _final_l):
        word = step(word)
    return word


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        stem_ = word[: -len(ending)]
        if word.endswith(ending):
            return _mended(stem_) if any(_is_vowel(stem_, place) for place in range(len(stem_))) else word
    return word


def _mended(word: str) -> str:
    """What is left of a past tense or a participle."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _ends_in_double_consonant(word):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _is_short(word) else word


def _y_to_i(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and len(word) > 2 and not _is_vowel(word, len(word) - 2) else word


def _double_suffix(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _double_suffix(word[:-2])
    if word.endswith("logi") and not word.endswith("fulli"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, _STEP_2, lambda rest: _measure(rest) > 0)


def _suffix(word: str) -> str:
    return _replaced(word, _STEP_3, lambda rest: _measure(rest) > 0)


def _last_suffix(word: str) -> str:
    if word.endswith("ion") and word[-4:-3] not in ("s", "t"):
        return word
    return _replaced(word, _STEP_4, lambda rest: _measure(rest) > 1)


def _final_e(word: str) -> str:
    if not word.endswith("e"):
        return word
    measure = _measure(word[:-1])
    return word[:-1] if measure > 1 or (measure == 1 and not _is_short(word[:-1])) else word


def _final_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _replaced(word: str, rules: str, fits: Callable[[str], bool]) -> str:
    """By the first rule whose ending the word has, if what is left fits."""
    for rule in rules.split():
        ending, by = rule.split(">")
        if word.endswith(ending):
            rest = word[: -len(ending)]
            return rest + by if fits(rest) else word
    return word


def _is_vowel(word: Sequence[str], place: int) -> bool:
    """a, e, i, o, u, and y behind a consonant."""
    letter = word[place]
    return letter in "aeiou" or (letter == "y" and place > 0 and not _is_vowel(word, place - 1))


def _measure(word: str) -> int:
    """How often consonants follow vowels."""
    vowels = [_is_vowel(word, place) for place in range(len(word))]
    return sum(before and not after for before, after in pairwise(vowels))


def _ends_in_double_consonant(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and not _is_vowel(word, len(word) - 1)


def _is_short(word: str) -> bool:
    """It ends in consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant."""
    vowels = [_is_vowel(word, place) for place in range(len(word))]
    return (vowels[-3:] == [False, True, False] and word[-1] not in "wxy") or vowels == [True, False]
