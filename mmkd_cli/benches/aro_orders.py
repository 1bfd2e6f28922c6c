"""ARO's order tasks: a caption and four shuffles of it, as the authors' code draws them.

Source: mertyg/vision-language-models-are-bows (Yuksekgonul et al. 2023, When and why vision-language models behave like
bags-of-words). Shuffled in turn: nouns among nouns and adjectives among adjectives; all words but these; the words
inside each trigram; the trigrams. The first two cut a caption into words as spaCy does, the others as nltk does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

SEED = 1
MOST_WORDS = 30
NOUNS = frozenset({"NN", "NNS", "NNP", "NNPS"})
ADJECTIVES = frozenset({"JJ", "JJR", "JJS"})
SPACY_MODEL = "en_core_web_sm"

Tagged = Sequence[tuple[str, str]]
"""Words with their Penn Treebank tags."""


class Tools(NamedTuple):
    """tag: a caption's words with their tags. words: its words."""

    tag: Callable[[str], Tagged]
    words: Callable[[str], Sequence[str]]


class Absent(Exception):
    """What the shuffles need is not on this machine; the message says what, and how to get it."""


def open_tools() -> Tools:
    """spaCy's tagger and nltk's tokenizer, or Absent. Nothing is downloaded."""
    try:
        import nltk
        import spacy

        tagger = spacy.load(SPACY_MODEL, disable=["parser", "ner", "lemmatizer"])
        nltk.word_tokenize("a word.")
    except ImportError as error:
        raise Absent(f"{error.name} is not installed: pip install {error.name}") from None
    except OSError:
        raise Absent(f"spaCy's English model is not here: python -m spacy download {SPACY_MODEL}") from None
    except LookupError:
        raise Absent("nltk's tokenizer data are not here: python -m nltk.downloader punkt_tab") from None
    return Tools(lambda text: [(token.text, token.tag_) for token in tagger(text)], nltk.word_tokenize)


class Orders:
    """Draws the shuffles of one task's captions, which are to come in the file's order: the generators go on."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.numpy, self.python = np.random.RandomState(SEED), random.Random(SEED)

    def candidates(self, caption: str) -> list[str]:
        """The caption and its four shuffles, all five cleaned."""
        tagged = self.tools.tag(caption)
        content = [np.array([tag in kind for _, tag in tagged], bool) for kind in (NOUNS, ADJECTIVES)]
        words = np.array([word for word, _ in tagged], dtype=object)
        shuffled = [
            self._among(words, content),
            self._among(words, [~(content[0] | content[1])]),
            self._inside_trigrams(self.tools.words(caption)),
            self._trigrams(self.tools.words(caption)),
        ]
        return [cleaned(text) for text in (caption, *(" ".join(order) for order in shuffled))]

    def _among(self, words: np.ndarray, kinds: Sequence[np.ndarray]) -> list[str]:
        """The words of each kind change places among themselves."""
        out = words.copy()
        for kind in kinds:
            out[kind] = self.numpy.permutation(out[kind])
        return list(out)

    def _inside_trigrams(self, words: Sequence[str]) -> list[str]:
        out = []
        for trigram in trigrams_of(words):
            self.python.shuffle(trigram)
            out += trigram
        return out

    def _trigrams(self, words: Sequence[str]) -> list[str]:
        trigrams = trigrams_of(words)
        self.python.shuffle(trigrams)
        return [word for trigram in trigrams for word in trigram]


def trigrams_of(words: Sequence[str]) -> list[list[str]]:
    """Three words at a time; the last may have fewer."""
    return [list(words[first : first + 3]) for first in range(0, len(words), 3)]


def cleaned(text: str) -> str:
    """Lower case, . ! " ( ) * # : ; ~ to spaces, single spaces, at most 30 words."""
    text = re.sub(r"\s{2,}", " ", re.sub(r'[.!"()*#:;~]', " ", text.lower()))
    return " ".join(text.rstrip("\n").strip(" ").split(" ")[:MOST_WORDS])
