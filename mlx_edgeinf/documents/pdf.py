"""Reads the lines of a PDF's pages, and says in a sentence what is wrong with a bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .document import DocumentError, PasswordRequired
from .line import Line
from .pdf_process import PdfProcess, WorkerDied

MOST_PAGES = 20_000
MOST_CHARACTERS = 50_000_000
MOST_PROCESSES = 5
"""A child process that dies is replaced, to go on with the next page, this often."""

PASSWORD_ERROR, SECURITY_ERROR = 4, 5
"""The error codes of PDFium that deserve their own sentence."""

REPAIR = "save it again from another program, for instance by printing to PDF, and try the copy"

Sheet = list[Line]


def read_pdf(path: Path, password: str | None, on_page: Callable[[int, int], None]) -> list[Sheet]:
    """Return the lines of every page, none for a page that cannot be read.

    `on_page` is called with the pages done and the number of pages; what it raises ends the
    reading. Raises `PasswordRequired`, or `DocumentError` where no page can be read.
    """
    sheets: list[Sheet | None] = []
    characters = 0
    for _ in range(MOST_PROCESSES):
        with PdfProcess(path, password, len(sheets)) as process:
            total = page_count(process, path.name, password)
            for sheet in next_sheets(process, total - len(sheets)):
                sheets.append(sheet)
                characters += sum(len(line.text) for line in sheet or ())
                check_length(characters, path.name)
                on_page(len(sheets), total)
        if len(sheets) == total:
            return whole(sheets, path.name)
    failed = ", ".join(str(number) for number, sheet in enumerate(sheets, 1) if sheet is None)
    raise DocumentError(f"{path.name} cannot be read, it broke off at pages {failed}: {REPAIR}.")


def page_count(process: PdfProcess, name: str, password: str | None) -> int:
    """Wait for the file to be opened and return its number of pages."""
    try:
        answer = process.answer()
    except WorkerDied as death:
        raise DocumentError(
            f"{name} is so badly damaged that it cannot be opened: {REPAIR}."
        ) from death
    if "error" in answer:
        raise refusal(name, answer["error"], password)
    if not 0 < answer["pages"] <= MOST_PAGES:
        raise DocumentError(
            f"{name} has {answer['pages']:,} pages and 1 to {MOST_PAGES:,} can be read: "
            "choose another file or a part of this one."
        )
    return answer["pages"]


def refusal(name: str, code: int, password: str | None) -> DocumentError:
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


def check_length(characters: int, name: str) -> None:
    """Refuse a document that would fill our own memory."""
    if characters > MOST_CHARACTERS:
        raise DocumentError(
            f"{name} has more than the {MOST_CHARACTERS:,} characters that can be read at once: "
            "choose a part of it."
        )


def next_sheets(process: PdfProcess, count: int) -> Iterator[Sheet | None]:
    """Yield the lines of up to `count` pages; None for a bad page, the last if the child dies."""
    for _ in range(count):
        try:
            lines = process.answer()["lines"]
        except WorkerDied:
            yield None
            return
        yield None if lines is None else [Line(*line) for line in lines]


def whole(sheets: list[Sheet | None], name: str) -> list[Sheet]:
    """The document if any of its pages could be read, with bad pages empty."""
    if all(sheet is None for sheet in sheets):
        raise DocumentError(f"No page of {name} can be read: {REPAIR}.")
    return [sheet or [] for sheet in sheets]
