"""Pages that are pictures: their text is recognised (OCR) where a recogniser is installed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from . import child
from .document import DocumentError
from .line import Line
from .parts import Progress, Refused, read_parts

RECOGNISER, PACKAGE = ("vision", "ocrmac") if sys.platform == "darwin" else ("tesseract", "pytesseract")
"""A module of the folder `workers`, and what it stands on."""

INSTALL_PACKAGE = "pip install 'mlx-edgeinf[ocr]'"
INSTALL_PROGRAM = "sudo apt install tesseract-ocr"
MISSING_PACKAGE = "Recognising text in pictures (OCR) needs one more package: run {}, then start again."
MISSING_PROGRAM = "Recognising text in pictures (OCR) needs the program tesseract: run {}, then start again."


def obstacle() -> str:
    """Why no text can be recognised here, in one sentence with the command that helps; empty if it can."""
    if find_spec(PACKAGE) is None:
        return MISSING_PACKAGE.format(INSTALL_PACKAGE)
    if PACKAGE == "pytesseract" and not shutil.which("tesseract"):
        return MISSING_PROGRAM.format(INSTALL_PROGRAM)
    return ""


def recognised_lines(
    path: Path, pages: Sequence[int], on_page: Progress, refused: Refused, password: str | None
) -> dict[int, list[Line]]:
    """The lines of these pages of a PDF, by their numbers; none for one that cannot be recognised.

    `on_page` is called with the pages done and their number, before the first and after each; what
    it raises ends the work. Each page has the child's time to itself, and all pages together theirs.

    Raises:
        DocumentError: no recogniser is installed, or it dies again and again.
    """
    if problem := obstacle():
        raise DocumentError(problem)
    on_page(0, len(pages))
    limit = child.PATIENCE * (1 + len(pages))
    parts = read_parts(
        "scans", path, on_page, refused, limit, password=password, pages=list(pages), recogniser=RECOGNISER
    )
    return {page: [Line(*line) for line in part or []] for page, part in zip(pages, parts)}
