"""From the lines of a PDF's pages to text that reads on: the order of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .characters import HYPHEN, is_font_code, readable
from .furniture import without_furniture
from .hyphens import Joiner
from .line import Line
from .paragraphs import paragraphs


def clean_pages(sheets: Sequence[Sequence[Line]]) -> list[str]:
    """Return the text of each page, a line per paragraph; consecutive pages are expected."""
    sheets = without_furniture([readable_lines(sheet) for sheet in sheets])
    joiner = Joiner(line.text for sheet in sheets for line in sheet)
    pages = [paragraphs(sheet, joiner) for sheet in sheets]
    mend_page_breaks(pages, joiner)
    return ["\n".join(page).replace(HYPHEN, "-") for page in pages]


def readable_lines(sheet: Sequence[Line]) -> list[Line]:
    """The lines of a page in readable characters; none where the font hides its letters."""
    if is_font_code("".join(line.text for line in sheet)):
        return []
    lines = [line._replace(text=readable(line.text)) for line in sheet]
    return [line for line in lines if line.text]


def mend_page_breaks(pages: Sequence[list[str]], joiner: Joiner) -> None:
    """Finish a word that is broken by the end of a page on that page."""
    for page, after in pairwise(pages):
        if page and after and page[-1].endswith(HYPHEN):
            word, _, rest = after[0].partition(" ")
            page[-1] = joiner.joined([page[-1], word])
            after[:1] = [rest] if rest else []
