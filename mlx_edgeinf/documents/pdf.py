"""Reads the lines of a PDF's pages, and says in a sentence what is wrong with a bad one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .clean import clean_pages
from .document import DocumentError, PasswordRequired
from .line import Line
from .parts import REPAIR, Progress, read_parts

PASSWORD_ERROR, SECURITY_ERROR = 4, 5
"""The error codes of PDFium that deserve their own sentence."""


def read_pdf(path: Path, on_page: Progress, password: str | None = None) -> list[str]:
    """Return the text of every page, empty for a page that cannot be read.

    `on_page` is called with the pages done and the number of pages; what it raises ends the
    reading. Raises `PasswordRequired`, or `DocumentError` where no page can be read.
    """
    refused = partial(refusal, path.name, password)
    pages = read_parts("pdf_lines", path, on_page, refused, password=password)
    return clean_pages([[Line(*line) for line in page or []] for page in pages])


def refusal(name: str, password: str | None, code: int) -> DocumentError:
    """The error for a file that PDFium refuses to open with this code."""
    if code == PASSWORD_ERROR and not password:
        return PasswordRequired(f"{name} is protected: enter its password to open it.")
    if code == PASSWORD_ERROR:
        return PasswordRequired(f"This is not the password of {name}: check it and try again.")
    if code == SECURITY_ERROR:
        return DocumentError(
            f"{name} is encrypted in a way that cannot be opened here: choose a copy without it."
        )
    return DocumentError(f"{name} is damaged or is not a PDF: {REPAIR}.")
