"""A picture of one page of a PDF, with the rectangles of passages on it.

Its one part is `{"width": pixels, "height": pixels, "jpeg": base64, "marks": [[left, top, right, bottom]]}`;
rectangles are shares of the picture, from its upper left corner.
"""

from __future__ import annotations

import base64
import ctypes
import io
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from refusal import Refusal

LONGEST_EDGE = 1_700
LARGEST_SCALE = 3.0
"""Pixels of the longer edge, unless a small page would be blown up by more than this."""
QUALITY = 85
GRID = 1 << 20
"""Positions on a page are told by PDFium in whole steps: so many across and down."""

DOTLESS = "\u0131"
"""The letter i beneath a sign that old fonts draw by itself."""

Rectangle = tuple[float, float, float, float]


def answers(path: str, password: str | None, index: int, passages: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the number of parts, then the picture of the page `index` with `passages` found on it.

    Raises `Refusal` with PDFium's error code for a file that it does not open.
    """
    try:
        document = pypdfium2.PdfDocument(path, password=password)
    except pypdfium2.PdfiumError as error:
        raise Refusal(error.err_code) from error
    yield {"parts": 1}
    page = document[index]
    text_page = page.get_textpage()
    width, height = page.get_size()
    scale = min(LARGEST_SCALE, LONGEST_EDGE / max(width, height))
    picture = page.render(scale=scale).to_pil().convert("RGB")
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=QUALITY)
    marks = [mark for passage in passages for mark in rectangles(page, text_page, passage)]
    jpeg = base64.b64encode(data.getvalue()).decode("ascii")
    yield {"part": {"width": picture.width, "height": picture.height, "jpeg": jpeg, "marks": marks}}


def rectangles(page: Any, text_page: Any, passage: str) -> Iterator[Rectangle]:
    """Yield the rectangles of a passage, about one a line; none if it is not on the page as it stands."""
    letters, places = spelled(
        chr(pdfium.FPDFText_GetUnicode(text_page, index))
        for index in range(pdfium.FPDFText_CountChars(text_page))
    )
    wanted, _ = spelled(passage)
    at = letters.find(wanted) if wanted else -1
    if at < 0:
        return
    first, last = places[at], places[at + len(wanted) - 1]
    box = [ctypes.c_double() for _ in range(4)]
    for number in range(pdfium.FPDFText_CountRects(text_page, first, last - first + 1)):
        pdfium.FPDFText_GetRect(text_page, number, *box)
        left, top, right, bottom = (edge.value for edge in box)
        yield on_picture(page, left, top, right, bottom)


def spelled(characters: Sequence[str] | Iterator[str]) -> tuple[str, list[int]]:
    """The letters and digits, and which character each comes from.

    Spaces, hyphens, ligatures and capitals are not the same on a page and in its cleaned text.
    """
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(characters):
        for letter in unicodedata.normalize("NFKD", character).casefold().replace(DOTLESS, "i"):
            if letter.isalnum():
                letters.append(letter)
                places.append(place)
    return "".join(letters), places


def on_picture(page: Any, left: float, top: float, right: float, bottom: float) -> Rectangle:
    """A rectangle of the page as shares of its picture, wherever the page is turned."""
    corners = [device(page, left, top), device(page, right, bottom)]
    across, down = zip(*corners)
    return min(across), min(down), max(across), max(down)


def device(page: Any, x: float, y: float) -> tuple[float, float]:
    """A point of the page as shares of its picture, within it."""
    across, down = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(page, 0, 0, GRID, GRID, 0, x, y, across, down)
    return min(max(across.value / GRID, 0.0), 1.0), min(max(down.value / GRID, 0.0), 1.0)
