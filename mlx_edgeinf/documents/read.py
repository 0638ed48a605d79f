"""The door of this room: one file in, one document out, whatever its format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from .clean import clean_pages
from .document import Document, DocumentError, Page
from .pdf import read_pdf
from .plain import SUFFIXES, read_text

PDF_MARK = b"%PDF-"
PDF_MARK_WITHIN = 1024
MOST_BYTES = 500_000_000

Progress = Callable[[int, int], None]


def read_document(
    path: str | Path, password: str | None = None, on_page: Progress | None = None
) -> Document:
    """Read a PDF, text or Markdown file into pages of clean text.

    `on_page` is called after each page with the number of pages read and their total; what it
    raises ends the reading. Pages without text stay in the document, with their numbers.

    Raises `PasswordRequired` for an encrypted PDF, and `DocumentError` for anything else that
    cannot be read; the message is a sentence for people.
    """
    path = Path(path)
    report = on_page or (lambda done, total: None)
    digest, head = inspected(path)
    if is_pdf(path, head):
        texts = clean_pages(read_pdf(path, password, report))
    else:
        texts = read_text(path, report)
    pages = tuple(Page(number, text) for number, text in enumerate(texts, 1))
    return Document(path.name, digest, pages)


def inspected(path: Path) -> tuple[str, bytes]:
    """Return the SHA-256 and the first bytes of a file that is neither empty nor too large."""
    if path.is_dir():
        raise DocumentError(f"{path.name} is a folder: choose a file in it.")
    if not path.is_file():
        raise DocumentError(f"{path.name} does not exist: check its name or choose it again.")
    size = path.stat().st_size
    if size == 0:
        raise DocumentError(f"{path.name} is empty: it has 0 bytes, so choose another file.")
    if size > MOST_BYTES:
        raise DocumentError(
            f"{path.name} has {size // 1_000_000:,} MB and {MOST_BYTES // 1_000_000} can be "
            "read: cut it into several files or save it with smaller pictures."
        )
    try:
        with path.open("rb") as file:
            head = file.read(PDF_MARK_WITHIN)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest(), head
    except OSError as error:
        raise DocumentError(
            f"{path.name} cannot be opened ({error.strerror}): check that you may read it."
        ) from error


def is_pdf(path: Path, head: bytes) -> bool:
    """Whether a file is a PDF or else a text, by its first bytes and then by its name.

    A text may speak of PDFs, so there the mark counts at the very beginning only. Raises
    `DocumentError` for everything else.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return head.startswith(PDF_MARK)
    if PDF_MARK in head:
        return True
    if suffix == ".pdf":
        raise DocumentError(f"{path.name} is not a PDF in spite of its name: choose the original.")
    raise DocumentError(
        f"{path.name} is of a kind that cannot be read: choose a PDF, .txt or .md file, or print "
        "it to PDF."
    )
