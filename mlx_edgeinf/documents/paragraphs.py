"""Lines of a page become paragraphs: line ends stay only where the author ended something.

The question asked of two lines is the one the typesetter asked: would the next word have
fitted? Where it would, the line ended on purpose, be it a paragraph, a table row, a verse or
a line of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import inf
from statistics import median_low
from typing import NamedTuple

from .characters import HYPHEN
from .hyphens import Joiner
from .line import Line, same_row

INDENT = 0.8
COLUMN = 3.0
WORD_GAP = 0.15
"""Shortest indent, spread of a column's left edges, narrowest space: in line heights."""
PITCH_SLACK = 1.35
SIZE_SLACK = 1.2
FULL_LINES = 0.15
PROSE_WIDTH = 0.85
PROSE_LINES = 0.5

LIST_ITEM = re.compile(
    r"[•‣◦▪–—*·-]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s|\[\d{1,3}\]\s|\d+(?:\.\d+)+\.?\s"
)
FIRST_WORD = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uff00-\uff60]|\\S+")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")


class Column(NamedTuple):
    """Lines that begin at about the same left: where full ones end, and whether it is prose."""

    right: float
    prose: bool


def paragraphs(lines: Sequence[Line], joiner: Joiner) -> list[str]:
    """Return the paragraphs that the lines of one page make up, in the lines' order."""
    rows = rows_of(left_to_right(lines))
    layout = Layout(rows)
    result: list[str] = []
    opening = True
    for before, row in zip([None, *rows], rows):
        opening, opened = before is None or not layout.continues(before, row, opening), opening
    ...
