"""Numbers, times and sizes, as people say them, and where what they say ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .documents import Page

SIZE_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def count(number: int) -> str:
    """A whole number with its thousands apart: 163,204."""
    return f"{number:,}"


def counted(number: int, thing: str) -> str:
    """A number with what it counts: 1 page, 352 pages."""
    return f"{count(number)} {thing}" if number == 1 else f"{count(number)} {thing}s"


def size(number: float) -> str:
    """Bytes in decimal units, to three digits at most: 214 MB, 3.8 GB, 2 GB."""
    unit = 0
    while number >= 999.5 and unit < len(SIZE_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    digits = 1 if number < 9.95 else 0
    return f"{number:.{digits}f}".removesuffix(".0") + f" {SIZE_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A measured time: 45 s, 12 min 3 s, 1 h 4 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def time_left(seconds: float) -> str:
    """An estimated time, no finer than it can be trusted: about 14 min left."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    if minutes < 60:
        return f"about {minutes} min left"
    return f"about {minutes // 60} h {minutes % 60} min left"


def page_ranges(pages: Sequence[int]) -> str:
    """Ascending page numbers with neighbours joined: 3, 17–19."""
    runs = groupby(enumerate(pages), key=lambda item: item[1] - item[0])
    spans = [[page for _, page in run] for _, run in runs]
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}–{span[-1]}" for span in spans)


def page_places(pages: Sequence[Page], numbers: Sequence[int]) -> str:
    """Ascending page numbers, in a collection by file: 3, 17–19; or 3–4 of report.pdf, 1 of notes.md."""
    origins = [pages[number - 1].origin for number in numbers]
    if None in origins:
        return page_ranges(numbers)
    files = groupby(origins, key=lambda origin: origin.file)
    return ", ".join(f"{page_ranges([each.number for each in group])} of {file}" for file, group in files)


def percent(fraction: float) -> str:
    """A fraction of one in whole percent: 40 %."""
    return f"{100 * fraction:.0f} %"


def read_pages(read: int, pages: int) -> str:
    """How far into a document of `pages`: the whole document, pages 1–120."""
    if read == pages:
        return "the whole document"
    if read < 2:
        return "the first page" if read else "the beginning of the first page"
    return f"pages 1–{count(read)}"


def whole_sentences(text: str) -> str:
    """The text up to its last finished sentence; all of it if there is none."""
    ends = [match.end() for match in re.finditer(r"[.!?][\"'”’)\]]*(?=\s|$)", text)]
    return text[: ends[-1]] if ends else text
