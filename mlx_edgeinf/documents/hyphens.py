"""Lines become one text: words broken at a line's end are whole again.

Print does not say whether a broken word has a hyphen of its own. The document does, where
the same word, or its halves, stand unbroken elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from .characters import HYPHEN

HYPHENS = (HYPHEN, "-", "\u2010")
CLINGING = (*HYPHENS, "\u2014", "/")
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
LEFT_HALF = re.compile(r"[^\W_]+$")
RIGHT_HALF = re.compile(r"[^\W_]+")
LONGEST_HALF = 40
IDEOGRAPHS = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60]{2}")
WORD_LETTERS = 3
WORD_COUNT = 3


class Joiner:
    """Joins the lines of a document whose words it has learnt."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Learn the unbroken words of `lines`, the document's lines in reading order."""
        self.words: Counter[str] = Counter()
        broken = False
        for line in lines:
            words = WORD.findall(line.lower())[broken:]
            broken = line.endswith(HYPHENS)
            self.words.update(words[:-1] if broken else words)

    def joined(self, lines: Sequence[str]) -> str:
        """Return the text these lines carry, with a space, a hyphen or nothing at each end."""
        ended = [self.ended(line, after) for line, after in pairwise(lines)]
        return "".join(ended) + lines[-1]

    def ended(self, line: str, after: str) -> str:
        """Return `line` with what belongs between it and the line `after` it."""
        if line.endswith(HYPHENS):
            left = LEFT_HALF.search(line[-1 - LONGEST_HALF : -1])
            right = RIGHT_HALF.match(after)
            return line[:-1] + (self.hyphen(left[0], right[0]) if left and right else "-")
        clings = line.endswith(CLINGING) or IDEOGRAPHS.match(line[-1:] + after[:1])
        return line if clings else line + " "

    def hyphen(self, left: str, right: str) -> str:
        """Return the hyphen that belongs between the halves of a word, or nothing."""
        left, small = left.lower(), right.lower()
        if left + small in self.words:
            return ""
        compound = f"{left}-{small}" in self.words or not right[0].islower()
        return "-" if compound or (self.is_word(left) and self.is_word(small)) else ""

    def is_word(self, half: str) -> bool:
        """Whether half a word is known well enough as a word of its own."""
        return len(half) >= WORD_LETTERS and self.words[half] >= WORD_COUNT
