"""Recognises text with tesseract, in every language that is installed for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby

import pytesseract
from PIL.Image import Image

SECONDS = 100
"""For one page; its process is ended then."""
NO_LANGUAGES = {"osd", "equ"}

Box = tuple[str, float, float, float, float]


def recognise(picture: Image) -> list[Box] | None:
    """Text and box of each line, as shares of the picture, y upwards; None where tesseract gave up."""
    try:
        found = pytesseract.image_to_data(
            picture, "+".join(languages()), timeout=SECONDS, output_type=pytesseract.Output.DICT
        )
    except RuntimeError:
        return None
    return list(lines(found, *picture.size))


@cache
def languages() -> tuple[str, ...]:
    """The languages that are installed."""
    return tuple(sorted(set(pytesseract.get_languages()) - NO_LANGUAGES))


def lines(found: dict[str, list], width: int, height: int) -> Iterator[Box]:
    """Put the words of each line together."""
    names = ("block_num", "par_num", "line_num", "text", "left", "top", "width", "height")
    words = [word for word in zip(*(found[name] for name in names)) if word[3].strip()]
    for _, group in groupby(words, key=lambda word: word[:3]):
        _, _, _, texts, lefts, tops, widths, heights = zip(*group)
        right, bottom = max(map(sum, zip(lefts, widths))), max(map(sum, zip(tops, heights)))
        yield (
            " ".join(texts), min(lefts) / width, 1 - bottom / height, right / width, 1 - min(tops) / height
        )  # fmt: skip
