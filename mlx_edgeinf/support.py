"""Which pages of a document support a sentence: decided by its words, without a model.

A passage is up to four sentences of one page. It supports a sentence when

- the words of the sentence that it has make up at least `COVERED` of the sentence's weight, where a word
  weighs its inverse document frequency, names and numbers twice, and a word that the document lacks the most;
- together they are as rare as a word that stands in the document once, so "He said no." points nowhere;
- it has every number of the sentence, and its page every name. A name is a word with a capital that the
  document never writes small; so in German, with its capitals, every noun has to be on the page.

What this cannot see: other words for the same thing count as missing, and words that are all there may
still be put together wrongly, or denied. `python -m mlx_edgeinf.evaluate support` measures how often.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .documents import Page

COVERED = 0.45
"""Chosen by `evaluate support` on documents that are not those it reports on."""
PASSAGE = 4
"""Sentences of a passage."""
MOST = 3
NEARLY = 0.9
"""Pages given at most, and the share of the best one's score that each other must have."""
STEM = 6
"""Letters by which words are told apart, so that endings do not matter."""
EMPHASIS = 2.0
"""Weight of names and numbers beside other words."""

# A run of marks is looked at once, as a whole: a page may hold thousands of them.
SENTENCE_END = re.compile(
    r"""(?<!\b[A-Z])(?<!\b[DMS]r)(?<!\bMrs)(?<!\bSt)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)
    (?<![.!?\u2026])[.!?\u2026]++["'\u201d\u2019)\]*_]*(?=\s)(?!\s+[a-z])
    | [\u3002\uff01\uff1f]+[\u300d\u300f\u201d]? | \n""",
    re.VERBOSE,
)
# Letters that cling to a number are part of it: 3x, 90s.
WORD = re.compile(r"\d+(?:[.,]\d+)*[A-Za-z]{0,3}|[^\W\d_]+")
THOUSANDS = re.compile(r"[.,](?=\d{3}(?!\d))")
UNSPACED = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1780-\u17ff]+")


class Passage(NamedTuple):
    """A part of a page: index among the pages, characters from `start` to `end`, share of weight covered."""

    page: int
    start: int
    end: int
    score: float


class Word(NamedTuple):
    """A word as it is compared. capital: it is written with one; number: it is written in digits."""

    stem: str
    capital: bool
    number: bool


class Evidence:
    """The pages of a document, indexed by word; a book of 500 pages takes a second or two.

    Args:
        pages: the text of each.
    """

    def __init__(self, pages: Sequence[str]):
        self._pages = pages
        self._spans: list[tuple[int, int]] = []  # of each sentence on its page
        self._where: dict[str, array] = {}  # sentences in which a word stands, ascending
        self._small: set[str] = set()  # words that are written without a capital somewhere
        page_of, first = array("l"), array("l")
        for page, text in enumerate(pages):
            opening = len(self._spans)
            for start, end in sentences(text):
                page_of.append(page)
                first.append(opening)
                self._index(text[start:end])
                self._spans.append((start, end))
        # By sentence: its page, and the first sentence there.
        self._page_of = np.array(page_of, dtype=np.intp)
        self._first = np.array(first, dtype=np.intp)

    def supporting(self, sentence: str, covered: float = COVERED) -> tuple[Passage, ...]:
        """The passages that support a sentence, one a page, best first; none if none covers that share."""
        said = distinct(words(sentence))
        if not said or not self._spans:
            return ()
        scores = self._scores(said)
        best = scores.max()
        if best < covered:
            return ()
        found: dict[int, Passage] = {}
        enough = np.flatnonzero(scores >= max(covered, NEARLY * best))
        for start in enough[np.argsort(-scores[enough], kind="stable")]:
            page = int(self._page_of[start])
            if page not in found:
                found[page] = self._passage(int(start), set(said), float(scores[start]))
            if len(found) == MOST:
                break
        return tuple(found.values())

    def pages(self, sentence: str) -> list[int]:
        """The numbers of the pages that support a sentence, from 1, ascending."""
        return sorted(passage.page + 1 for passage in self.supporting(sentence))

    def _index(self, text: str) -> None:
        number = len(self._spans)
        said = distinct(words(text))
        self._small.update(stem for stem, word in said.items() if not word.capital)
        for stem in said:
            self._where.setdefault(stem, array("l")).append(number)

    def _scores(self, said: dict[str, Word]) -> np.ndarray:
        """By the sentence that a passage begins with: the share of weight it covers, 0 if a rule fails."""
        passages = len(self._spans)
        covered, rarity = np.zeros(passages), np.zeros(passages)
        allowed = np.ones(passages, dtype=bool)
        total = 0.0
        for position, (stem, word) in enumerate(said.items()):
            places = np.array(self._where.get(stem, ()), dtype=np.intp)
            having = self._having(places)
            idf = self._idf(np.count_nonzero(having))
            name = self._is_name(word, position)
            weight = EMPHASIS * idf if name or word.number else idf
            total += weight
            covered += weight * having
            rarity += idf * having
            if word.number:
                allowed &= having
            elif name:
                allowed &= np.isin(self._page_of, self._page_of[places])
        allowed &= rarity >= self._idf(PASSAGE)
        return np.where(allowed, covered / total, 0.0) if total else covered

    def _having(self, places: np.ndarray) -> np.ndarray:
        """Which passages have a word that stands in these sentences."""
        having = np.zeros(len(self._spans), dtype=bool)
        for back in range(PASSAGE):
            starts = places - back
            having[starts[starts >= self._first[places]]] = True
        return having

    def _idf(self, passages: int) -> float:
        return max(0.0, math.log((len(self._spans) + 1) / (passages + 0.5)))

    def _is_name(self, word: Word, position: int) -> bool:
        """Whether a capital is more than that of a sentence's first word."""
        if not word.capital or word.stem in self._small:
            return False
        return position > 0 or word.stem in self._where

    def _passage(self, start: int, said: set[str], score: float) -> Passage:
        """The passage that begins with a sentence, without what adds nothing at either end."""
        page = int(self._page_of[start])
        spans = [
            self._spans[number]
            for number in range(start, min(start + PASSAGE, len(self._spans)))
            if self._page_of[number] == page
        ]
        has = [said & {word.stem for word in words(self._pages[page][slice(*span)])} for span in spans]
        while len(has) > 1 and has[-1] <= set().union(*has[:-1]):
            del has[-1], spans[-1]
        while len(has) > 1 and has[0] <= set().union(*has[1:]):
            del has[0], spans[0]
        return Passage(page, spans[0][0], spans[-1][1], score)


def cited(text: str, supporting: Callable[[str], Sequence[Passage]], pages: Sequence[Page]) -> str:
    """A text with the pages that support it behind each sentence: (p. 12, 14); nothing where none does.

    supporting: the passages of a sentence, as `Evidence.supporting` finds them. pages: of the document.
    """
    parts, done = [], 0
    for start, end in sentences(text):
        found = sorted(passage.page for passage in supporting(text[start:end]))
        places = ", ".join(pages[page].place for page in found)
        parts += [text[done:end], f" (p. {places})" if found else ""]
        done = end
    return "".join([*parts, text[done:]])


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence starts and ends; one that has no letters is part of the next."""
    start = 0
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    for end in [*ends, len(text)]:
        piece = text[start:end]
        if any(map(str.isalpha, piece)):
            lead = len(piece) - len(piece.lstrip())
            yield start + lead, start + len(piece.rstrip())
            start = end


def words(text: str) -> Iterator[Word]:
    """The words of a text; scripts without spaces between words by pairs of characters."""
    for match in WORD.finditer(text):
        word = match[0]
        if word[0].isdigit():
            yield Word(THOUSANDS.sub("", word).casefold(), capital=False, number=True)
        elif UNSPACED.match(word):
            for at in range(max(1, len(word) - 1)):
                yield Word(word[at : at + 2], capital=False, number=False)
        else:
            yield Word(word.casefold()[:STEM], word[0].isupper() and len(word) > 1, number=False)


def distinct(said: Iterator[Word]) -> dict[str, Word]:
    """Words by their stem in the order of their first use; one written small anywhere has no capital."""
    found: dict[str, Word] = {}
    for word in said:
        if word.stem not in found or not word.capital:
            found[word.stem] = word
    return found
