"""Recognises text with macOS's own recogniser, Vision."""

from __future__ import annotations

from collections.abc import Iterator

from ocrmac import ocrmac
from PIL.Image import Image


def recognise(picture: Image) -> Iterator[tuple[str, float, float, float, float]]:
    """Yield text and box of each line, as shares of the picture, y upwards."""
    for text, _, (left, bottom, width, height) in ocrmac.OCR(picture).recognize():
        yield text, left, bottom, left + width, bottom + height
