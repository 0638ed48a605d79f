"""Reads the lines of a PDF's pages, and says in a sentence what is wrong with a bad one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .clean import clean_pages
from .document import SCAN_CHARACTERS, DocumentError, PasswordRequired
from .line import Line
from .parts import REPAIR, Progress, read_parts, readable
from .scans import recognised_lines

PASSWORD_ERROR, SECURITY_ERROR = 4, 5
"""The error codes of PDFium that deserve their own sentence."""


def read_pdf(path: Path, on_page: Progress, password: str | None = None) -> list[str]:
    """Return the text of every page, empty for a page that cannot be read.

    `on_page` is called with the pages done and the number of pages; what it raises ends the
    reading. Raises `PasswordRequired`, or `DocumentError` where no page can be read.
    """
    return clean_pages(sheets_of(path, on_page, password))


def recognise_pdf(
    path: Path, on_page: Progress, on_scan: Progress, password: str | None = None
) -> tuple[list[str], set[int]]:
    """Return the text of every page, and the numbers of those whose text was recognised in a picture.

    Looked at are the pages without text. `on_scan` is called with those done and their number; what it
    raises ends the reading. Raises as `read_pdf`, and `DocumentError` without a recogniser.
    """
    sheets = sheets_of(path, on_page, password)
    texts = clean_pages(sheets)
    scans = without_text(texts)
    if not scans:
        return texts, set()
    refused = partial(refusal, path.name, password)
    for page, lines in recognised_lines(path, scans, on_scan, refused, password).items():
        sheets[page - 1] = lines
    texts = clean_pages(sheets)
    return texts, set(scans) - set(without_text(texts))


def sheets_of(path: Path, on_page: Progress, password: str | None) -> list[list[Line]]:
    """The lines of every page."""
    refused = partial(refusal, path.name, password)
    pages = read_parts("pdf_lines", path, on_page, refused, password=password)
    return [[Line(*line) for line in page or []] for page in readable(pages, path.name)]


def without_text(texts: Sequence[str]) -> list[int]:
    """Numbers of the pages that are blank or scanned."""
    return [page for page, text in enumerate(texts, 1) if len(text) < SCAN_CHARACTERS]


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
