"""The lines recognised in pictures of a PDF's pages: a part is `[[text, left, bottom, right, top], ...]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from statistics import median
from typing import Any

import pypdfium2
from PIL.Image import Image
from refusal import Refusal

DOTS_PER_INCH = 300
MOST_PIXELS = 25_000_000
"""Of a picture: A3 has 17 million at this density, a poster is drawn smaller."""
SIZE_SLACK = 1.4
"""Boxes are as high as the letters in them; up to this factor they stand for type of one size."""

Box = tuple[str, float, float, float, float]
Recognise = Callable[[Image], Iterable[Box] | None]
"""Text and box of each line, as shares of the picture, y upwards; None where it gave up."""


def answers(
    path: str, first: int, password: str | None, pages: list[int], recogniser: str
) -> Iterator[dict[str, Any]]:
    """Yield the number of pages asked for, then the lines of each but the `first` ones.

    recogniser: the module that has `recognise`. Raises `Refusal` as `pdf_lines` does.
    """
    recognise = import_module(recogniser).recognise
    try:
        document = pypdfium2.PdfDocument(path, password=password)
    except pypdfium2.PdfiumError as error:
        raise Refusal(error.err_code) from error
    yield {"parts": len(pages)}
    for number in pages[first:]:
        yield {"part": page_lines(document, number - 1, recognise)}


def page_lines(document: pypdfium2.PdfDocument, index: int, recognise: Recognise) -> list[Box] | None:
    """The lines of one page in points, or None where it cannot be drawn or recognised."""
    try:
        page = document[index]
        width, height = page.get_size()
        picture = page.render(scale=scale_of(width, height), grayscale=True).to_pil()
        page.close()
    except pypdfium2.PdfiumError:
        return None
    found = recognise(picture)
    if found is None:
        return None
    placed = [(text, x * width, y * height, right * width, top * height) for text, x, y, right, top in found]
    return evened(placed)


def scale_of(width: float, height: float) -> float:
    """Pixels to a point for a page of this size in points."""
    return min(DOTS_PER_INCH / 72, math.sqrt(MOST_PIXELS / max(width * height, 1.0)))


def evened(lines: list[Box]) -> list[Box]:
    """The lines with boxes of one height where their type is about of one size, as fonts give them."""
    if not lines:
        return []
    usual = median(top - bottom for _, _, bottom, _, top in lines)
    return [
        (text, left, bottom, right, bottom + (usual if alike(top - bottom, usual) else top - bottom))
        for text, left, bottom, right, top in lines
    ]


def alike(height: float, usual: float) -> bool:
    """Whether a line of letters this high may be of the usual size."""
    return usual / SIZE_SLACK < height < usual * SIZE_SLACK
