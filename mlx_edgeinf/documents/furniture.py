"""Running heads, running feet and page numbers: what a page carries that is not its text.

Furniture stands in the first or last rows of a page and comes back, up to the page number,
in the same row of the pages around it. Looking at neighbours only, and not at the whole
document, finds heads that alternate left and right or change with the chapter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain
from statistics import median
from typing import TypeVar

from .line import Line, same_row

EDGE_ROWS = 2
NEIGHBOURS = 6
REPEATS = 3
SHARE = 0.3
"""Of the pages around, or of all pages, the share that carries a mark of furniture."""
HEAD_SIZE = 1.15
"""Larger than this against the page's type, a recurring line is a heading."""
HEAD_WORDS = 14
FOLIO_DIGITS = 5

ROMAN = re.compile("m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
BRACKETS = "-–—|[]()<>"

Mark = TypeVar("Mark", bound=Hashable)
Edge = list[tuple[int, Line]]
"""The outer lines of a page, each with its row: 0 and 1 from the top, -1 and -2 from below."""


def without_furniture(sheets: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Return the lines of each of these consecutive pages, without the furniture."""
    edges = [edge_of(sheet) for sheet in sheets]
    shifts = recurring([folio_shifts(edge, index) for index, edge in enumerate(edges)])
    folios = [{index + shift for _, shift in found} for index, found in enumerate(shifts)]
    heads = [head_keys(*each) for each in zip(sheets, edges, folios)]
    furniture = [
        {line for row, line in edge if key(row, line, own) in known or is_folio(line, own)}
        for edge, own, known in zip(edges, folios, recurring(heads))
    ]
    return [[line for line in sheet if line not in out] for sheet, out in zip(sheets, furniture)]


def edge_of(sheet: Sequence[Line]) -> Edge:
    """The lines in the outer rows of a page, whatever order they come in."""
    rows: list[list[Line]] = []
    for line in sorted(sheet, key=lambda line: -line.top):
        if rows and same_row(rows[-1][0], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    top = enumerate(rows[:EDGE_ROWS])
    bottom = enumerate(reversed(rows[EDGE_ROWS:][-EDGE_ROWS:]))
    above = [(place, line) for place, row in top for line in row]
    return above + [(-1 - place, line) for place, row in bottom for line in row]


def recurring(pages: Sequence[set[Mark]]) -> list[set[Mark]]:
    """Of each page's marks, those on enough of the pages around it or of all pages."""
    throughout = frequent(pages)
    result = []
    for index, marks in enumerate(pages):
        around = pages[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]
        result.append(marks & (throughout | frequent(around)))
    return result


def frequent(pages: Sequence[set[Mark]]) -> set[Mark]:
    """The marks that stand on a good share of the pages, and on three of them at least."""
    enough = max(REPEATS, SHARE * len(pages))
    return {mark for mark, count in Counter(chain(*pages)).items() if count >= enough}


def folio_shifts(edge: Edge, index: int) -> set[tuple[int, int]]:
    """The row of each number on a page's edge, and its distance from the page's own index.

    Numbers change from page to page; the distance of a page number stays the same.
    """
    found = [(row, number(word)) for row, line in edge for word in line.text.split()]
    return {(row, value - index) for row, value in found if value is not None}


def number(word: str) -> int | None:
    """The value of a word in decimal or roman digits, None for any other word."""
    word = word.strip(BRACKETS).lower()
    if word.isdecimal() and len(word) <= FOLIO_DIGITS:
        return int(word)
    if not word or not ROMAN.fullmatch(word):
        return None
    values = [ROMAN_VALUES[digit] for digit in word]
    return sum(-a if a < b else a for a, b in zip(values, values[1:] + [0]))


def key(row: int, line: Line, folios: set[int]) -> tuple[int, str]:
    """A line's row, and its text without the page's own number."""
    words = ["#" if number(word) in folios else word for word in line.text.split()]
    return row, " ".join(words)


def head_keys(sheet: Sequence[Line], edge: Edge, folios: set[int]) -> set[tuple[int, str]]:
    """The keys of the edge lines that are not set larger than the page's text."""
    largest = HEAD_SIZE * median(line.height for line in sheet) if sheet else 0
    return {key(row, line, folios) for row, line in edge if line.height <= largest}


def is_folio(line: Line, folios: set[int]) -> bool:
    """Whether a line of the edge is short and begins or ends with the page's number."""
    words = line.text.split()
    return len(words) <= HEAD_WORDS and bool({number(words[0]), number(words[-1])} & folios)
