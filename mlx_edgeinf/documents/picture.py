"""A page of a PDF as it looks, with passages of its text marked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .child import Child, ChildDied
from .document import DocumentError
from .kinds import HEAD_BYTES, PDF, kind_of
from .parts import answered
from .pdf import refusal

PATIENCE = 60.0
"""Seconds that a picture may take: somebody is waiting for it."""


class Mark(NamedTuple):
    """A rectangle on a picture, in shares of its width and height from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


class Picture(NamedTuple):
    """A page as JPEG in base64, its size in pixels, and where the passages stand on it."""

    jpeg: str
    width: int
    height: int
    marks: tuple[Mark, ...]


def is_pdf(path: Path) -> bool:
    """Whether a file that was read before is a PDF."""
    with path.open("rb") as file:
        return kind_of(path, file.read(HEAD_BYTES)) is PDF


def page_picture(path: Path, name: str, page: int, passages: Sequence[str]) -> Picture:
    """The picture of a page, drawn in a process of its own.

    A passage that is not on the page as it stands in the text has no mark.

    Args:
        name: of the document, for people. page: its number, from 1.

    Raises:
        DocumentError: the page cannot be drawn, or the file is encrypted.
    """
    refused = partial(refusal, name, None)
    request = {"path": str(path), "password": None, "index": page - 1, "passages": list(passages)}
    try:
        with Child("pdf_picture", **request) as child:
            child.channel.settimeout(PATIENCE)
            answered(child, refused)
            drawn = answered(child, refused)["part"]
    except ChildDied as death:
        raise DocumentError(f"Page {page:,} of {name} cannot be drawn: here is its text.") from death
    marks = tuple(Mark(*mark) for mark in drawn["marks"])
    return Picture(drawn["jpeg"], drawn["width"], drawn["height"], marks)
