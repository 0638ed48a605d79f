"""The lines of a PDF's pages: a part is `[[text, left, bottom, right, top], ...]`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median_low as median
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from refusal import Refusal

HYPHEN = "\x02"
LINE_ENDS = {"\r", "\n", HYPHEN}
QUARTER_TURN = math.pi / 2

Box = tuple[float, float, float, float]


def answers(path: str, first: int, password: str | None) -> Iterator[dict[str, Any]]:
    """Yield the number of pages, then the lines of each page but the `first` ones.

    Raises `Refusal` with PDFium's error code for a file that it does not open.
    """
    try:
        document = pypdfium2.PdfDocument(path, password=password)
    except pypdfium2.PdfiumError as error:
        raise Refusal(error.err_code) from error
    yield {"parts": len(document)}
    for index in range(first, len(document)):
        yield {"part": page_lines(document, index)}


def page_lines(document: pypdfium2.PdfDocument, index: int) -> list[tuple[Any, ...]] | None:
    """The lines of one page, or None where PDFium cannot open it."""
    try:
        page = document[index]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        return None
    lines = list(split_lines(text_page.raw, page.get_bbox()))
    text_page.close()
    page.close()
    return lines


def split_lines(text_page: Any, visible: Box) -> Iterator[tuple[Any, ...]]:
    """Yield text and box of each line in PDFium's order, without printer's marks off the page."""
    text: list[str] = []
    boxes: list[Box] = []
    angle = 0.0
    for index in range(pdfium.FPDFText_CountChars(text_page)):
        character = chr(pdfium.FPDFText_GetUnicode(text_page, index))
        if character in LINE_ENDS:
            yield from line([*text, character], boxes, angle)
            text, boxes = [], []
        elif character.isspace():
            text.append(character)
        elif inside(box := box_of(text_page, index), visible):
            angle = angle if boxes else pdfium.FPDFText_GetCharAngle(text_page, index)
            text.append(character)
            boxes.append(box)
    yield from line(text, boxes, angle)


def line(text: list[str], boxes: list[Box], angle: float) -> Iterator[tuple[Any, ...]]:
    """Yield the line these boxes make up, if any; a raised character does not raise the line."""
    if boxes:
        lefts, bottoms, rights, tops = zip(*(upright(box, angle) for box in boxes))
        edges = min(lefts), median(bottoms), max(rights), median(tops)
        yield "".join(text), *(round(edge, 1) for edge in edges)


def box_of(text_page: Any, index: int) -> Box:
    """The box of one character, as high as its font and not as its own shape."""
    rectangle = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, rectangle)
    return rectangle.left, rectangle.bottom, rectangle.right, rectangle.top


def inside(box: Box, visible: Box) -> bool:
    """Whether the middle of `box` lies in `visible`."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return visible[0] <= x <= visible[2] and visible[1] <= y <= visible[3]


def upright(box: Box, angle: float) -> Box:
    """Turn the box of text written at `angle`, clockwise, so that its line runs to the right."""
    left, bottom, right, top = box
    for _ in range(round(-angle / QUARTER_TURN) % 4):
        left, bottom, right, top = bottom, -right, top, -left
    return left, bottom, right, top
