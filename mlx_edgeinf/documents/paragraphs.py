"""Lines of a page become paragraphs: line ends stay only where the author ended something.

The question asked of two lines is the one the typesetter asked: would the next word have
fitted? Where it would, the line ended on purpose, be it a paragraph, a table row, a verse or
a line of code.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from .characters import HYPHEN
from .hyphens import Joiner
from .line import Line, same_row

INDENT = 0.8
WORD_GAP = 0.15
FARTHEST_STEP = 3.0
SHORTEST_FULL_LINE = 12.0
NARROWEST_PROSE = 17.0
"""In line heights; a character is about half as wide as its line is high."""
PITCH_SLACK = 1.35
SIZE_SLACK = 1.2
FULL_LINES = 0.15
FULL_WIDTH = 0.8
PROSE_LINES = 0.5

LIST_ITEM = re.compile(
    r"(?:[•‣◦▪–—*·-]"
    r"|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]"
    r"|\[\d{1,3}\]"
    r"|\d+(?:\.\d+)+\.?)\s"
)
FIRST_WORD = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uff00-\uff60]|\\S+")
SENTENCE_END = re.compile("[.!?:;][\"'\u2019\u201d)\\]]*$")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")


class Column(NamedTuple):
    """Lines that begin at about the same left: where, where full ones end, whether as prose."""

    left: float
    right: float
    prose: bool


def paragraphs(lines: Sequence[Line], joiner: Joiner) -> list[str]:
    """Return the paragraphs that the lines of one page make up, in the lines' order."""
    rows = rows_of(left_to_right(lines))
    layout = Layout(rows)
    groups: list[list[Line]] = []
    for row in rows:
        if groups and layout.continues(groups[-1], row):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [joiner.joined([row.text for row in group]) for group in groups]


def left_to_right(lines: Sequence[Line]) -> Sequence[Line]:
    """Mirror the boxes of a page written from right to left, so that lines begin at the left."""
    mirrored = sum(bool(RIGHT_TO_LEFT.search(line.text)) for line in lines)
    if 2 * mirrored < len(lines):
        return lines
    return [line._replace(left=-line.right, right=-line.left) for line in lines]


def rows_of(lines: Sequence[Line]) -> list[Line]:
    """Put together lines that stand side by side: exponents, drop capitals, split cells."""
    rows: list[Line] = []
    for line in lines:
        if rows and same_row(rows[-1], line):
            rows[-1] = beside(rows[-1], line)
        else:
            rows.append(line)
    return rows


def beside(a: Line, b: Line) -> Line:
    """One row of two pieces; the wider one says where the row stands."""
    wider = max(a, b, key=lambda piece: piece.right - piece.left)
    touching = abs(b.left - a.right) < WORD_GAP * wider.height
    text = a.text.replace(HYPHEN, "-") + ("" if touching else " ") + b.text
    return Line(text, min(a.left, b.left), wider.bottom, max(a.right, b.right), wider.top)


class Layout:
    """How one page is set: its columns, and the usual step from line to line."""

    def __init__(self, rows: Sequence[Line]) -> None:
        """Measure the rows of a page."""
        steps = [a.bottom - b.bottom for a, b in pairwise(rows) if is_below(a, b)]
        self.pitch = median_low(steps) if steps else 0.0
        self.columns = dict(columns_of(rows))

    def continues(self, paragraph: Sequence[Line], row: Line) -> bool:
        """Whether `row` carries on the paragraph that the rows before it make up."""
        last = paragraph[-1]
        if last.text.endswith(HYPHEN):
            return True
        if starts_anew(row) or are_entries(last, row) or not same_size(last, row):
            return False
        if is_next_column(last, row):
            return runs_on(last, row, self.columns[last])
        below = self.is_next_line(last, row) and is_aligned(paragraph, row)
        return below and runs_on(last, row, self.columns[row])

    def is_next_line(self, last: Line, row: Line) -> bool:
        """Whether `row` stands below `last` without extra space between them."""
        return is_below(last, row) and last.bottom - row.bottom <= PITCH_SLACK * self.pitch


def columns_of(rows: Sequence[Line]) -> Iterator[tuple[Line, Column]]:
    """Yield each row with the column of the rows that begin at about the same left."""
    rows = sorted(rows, key=lambda row: row.left)
    start = 0
    while start < len(rows):
        edge = rows[start].left + INDENT * rows[start].height
        end = bisect_right(rows, edge, lo=start, key=lambda row: row.left)
        column = column_of(rows[start:end])
        yield from ((row, column) for row in rows[start:end])
        start = end


def column_of(rows: Sequence[Line]) -> Column:
    """Measure a column; a few lines that run on across the next column do not widen it."""
    left = min(row.left for row in rows)
    rights = sorted((row.right for row in rows), reverse=True)
    right = rights[int(FULL_LINES * len(rights))]
    full = sum(each - left > FULL_WIDTH * (right - left) for each in rights)
    wide = right - left > NARROWEST_PROSE * rows[0].height
    return Column(left, right, wide and full >= PROSE_LINES * len(rights))


def runs_on(last: Line, row: Line, column: Column) -> bool:
    """Whether `last` ended for want of room for the next word, or nearly so in mid-sentence."""
    reach = last.right - column.left
    if reach < SHORTEST_FULL_LINE * last.height:
        return False
    word = FIRST_WORD.match(row.text)[0]
    needed = (1 + len(word)) * (row.right - row.left) / len(row.text)
    no_room = column.right - last.right < needed
    within = row.text[0].isalpha() and not row.text[0].isupper()
    if not column.prose:
        return within and no_room
    long = reach > FULL_WIDTH * (column.right - column.left)
    return no_room or (long and (within or not SENTENCE_END.search(last.text)))


def is_below(a: Line, b: Line) -> bool:
    """Whether `b` is the next line or so under `a`."""
    step = a.bottom - b.bottom
    return 0 < step < FARTHEST_STEP * a.height and a.left < b.right and b.left < a.right


def is_next_column(a: Line, b: Line) -> bool:
    """Whether `b` goes on in mid-sentence at the top of the column beside the one `a` ends."""
    return b.bottom > a.bottom and b.left > a.right and b.text[0].islower()


def starts_anew(row: Line) -> bool:
    """Whether a row is marked as an item of a list or begins with a sign, as formulae do."""
    return bool(LIST_ITEM.match(row.text)) or unicodedata.category(row.text[0]) == "Sm"


def are_entries(a: Line, b: Line) -> bool:
    """Whether both lines end in a number, as in a table or a list of contents."""
    return a.text[-1].isdigit() and b.text[-1].isdigit()


def same_size(a: Line, b: Line) -> bool:
    """Whether two lines are set in type of about one size."""
    return max(a.height, b.height) < SIZE_SLACK * min(a.height, b.height)


def is_aligned(paragraph: Sequence[Line], row: Line) -> bool:
    """Whether a row begins where its paragraph's rows do; the first row may stand apart."""
    last = paragraph[-1]
    shift = (row.left - last.left) / last.height
    if abs(shift) <= INDENT:
        return True
    return len(paragraph) == 1 and (shift < 0 or bool(LIST_ITEM.match(last.text)))
