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
Edge = list[list[Line]]
"""The outer rows of one side of a page, from the outermost inwards."""


def without_furniture(sheets: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Return the lines of each of these consecutive pages, without the furniture."""
    pages = [rows_of(sheet) for sheet in sheets]
    sizes = [median(line.height for line in sheet) if sheet else 0.0 for sheet in sheets]
    above = furniture([rows[:EDGE_ROWS] for rows in pages], sizes)
    below = furniture([rows[: -EDGE_ROWS - 1 : -1] for rows in pages], sizes)
    return [
        [line for line in sheet if line not in out]
        for sheet, out in zip(sheets, map(set.union, above, below))
    ]


def rows_of(sheet: Sequence[Line]) -> list[list[Line]]:
    """The rows of a page from top to bottom, whatever order its lines come in."""
    rows: list[list[Line]] = []
    for line in sorted(sheet, key=lambda line: -line.top):
        if rows and same_row(rows[-1][0], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def furniture(edges: Sequence[Edge], sizes: Sequence[float]) -> list[set[Line]]:
    """Return the furniture on one side of each page; `sizes` are those of the pages' type."""
    shifts = recurring([folio_shifts(edge, index) for index, edge in enumerate(edges)])
    folios = [{index + shift for shift in found} for index, found in enumerate(shifts)]
    heads = recurring([head_keys(*each) for each in zip(edges, folios, sizes)])
    return [outer_furniture(*each) for each in zip(edges, folios, heads)]


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


def folio_shifts(edge: Edge, index: int) -> set[int]:
    """How far each number on an edge is from the page's own index.

    Numbers change from page to page; the distance of a page number stays the same.
    """
    words = chain.from_iterable(line.text.split() for row in edge for line in row)
    return {value - index for value in map(number, words) if value is not None}


def number(word: str) -> int | None:
    """The value of a word in decimal or roman digits, None for any other word."""
    word = word.strip(BRACKETS).lower()
    if word.isdecimal() and len(word) <= FOLIO_DIGITS:
        return int(word)
    if not word or not ROMAN.fullmatch(word):
        return None
    values = [ROMAN_VALUES[digit] for digit in word]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0]))


def head_keys(edge: Edge, folios: set[int], size: float) -> set[tuple[int, str]]:
    """The keys of the lines on an edge that are not set larger than the page's type."""
    lines = [(place, line) for place, row in enumerate(edge) for line in row]
    return {key(place, line, folios) for place, line in lines if line.height <= HEAD_SIZE * size}


def key(place: int, line: Line, folios: set[int]) -> tuple[int, str]:
    """The place of a line's row, and its text without the page's own number."""
    words = ["#" if number(word) in folios else word for word in line.text.split()]
    return place, " ".join(words)


def outer_furniture(edge: Edge, folios: set[int], heads: set[tuple[int, str]]) -> set[Line]:
    """The furniture on one edge of a page: nothing within a row of text, one page number."""
    found: set[Line] = set()
    for place, row in enumerate(edge):
        numbered = any(is_folio(line, folios) for line in found)
        out = {line for line in row if key(place, line, folios) in heads}
        out |= {line for line in row if not numbered and is_folio(line, folios)}
        if not out:
            break
        found |= out
    return found


def is_folio(line: Line, folios: set[int]) -> bool:
    """Whether a line of the edge is short and begins or ends with the page's number."""
    words = line.text.split()
    return len(words) <= HEAD_WORDS and bool({number(words[0]), number(words[-1])} & folios)
