"""Two lines become one: words broken at the line's end are whole again.

Print does not say whether a broken word has a hyphen of its own. The document does, where
the same word stands unbroken elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .characters import HYPHEN

HALVES = re.compile(rf"\w+[{HYPHEN}\u2010-]\n\w+")
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
LEFT_HALF = re.compile(rf"([^\W_]+)[{HYPHEN}\u2010-]$")
RIGHT_HALF = re.compile(r"[^\W_]+")
CLINGING = re.compile(rf"(?<=\S)[{HYPHEN}\u2010\u2014/-]$")
IDEOGRAPH = "[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]"
IDEOGRAPHS = re.compile(f"{IDEOGRAPH}\n{IDEOGRAPH}")
WORD_LETTERS = 3


class Joiner:
    """Joins lines of a document whose words it has learnt."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Learn the unbroken words of `lines`, the document's lines in reading order."""
        unbroken = HALVES.sub("", "\n".join(lines))
        self.words = Counter(word.lower() for word in WORD.findall(unbroken))

    def join(self, first: str, second: str) -> str:
        """Return `first` continued by `second`, with a space, a hyphen or nothing between."""
        left, right = LEFT_HALF.search(first), RIGHT_HALF.match(second)
        if left and right:
            return first[:-1] + self.hyphen(left[1], right[0]) + second
        first = first.replace(HYPHEN, "-")
        clings = CLINGING.search(first) or IDEOGRAPHS.match(first[-1:] + "\n" + second[:1])
        return first + ("" if clings else " ") + second

    def hyphen(self, left: str, right: str) -> str:
        """Return the hyphen that belongs between two halves of a word, or nothing."""
        left, small = left.lower(), right.lower()
        if left + small in self.words:
            return ""
        both = all(len(half) >= WORD_LETTERS and self.words[half] > 2 for half in (left, small))
        compound = f"{left}-{small}" in self.words or not right[0].islower()
        return "-" if both or compound else ""
