"""The door of this room: one file or one pasted text in, one document out, whatever its format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from textwrap import shorten

from .document import Document, DocumentError, Page
from .kinds import HEAD_BYTES, PDF, kind_of
from .parts import Progress
from .pdf import read_pdf, recognise_pdf
from .plain import check_length, decoded, text_pages

MOST_BYTES = 500_000_000
PASTED = "Pasted text"
LONGEST_NAME = 48
"""Characters of the name that a pasted text is given."""


def read_document(
    path: str | Path,
    password: str | None = None,
    on_page: Progress | None = None,
    on_scan: Progress | None = None,
) -> Document:
    """Read a PDF, Word, EPUB, HTML, text or Markdown file into pages of clean text.

    `on_page` is called after each page, in an EPUB after each chapter, with the number of those
    read and their total; what it raises ends the reading. Pages of a PDF without text stay in
    the document, with their numbers; with `on_scan` their text is recognised in pictures of them,
    and it is told how many of them are done.

    Raises `PasswordRequired` for an encrypted PDF, and `DocumentError` for anything else that
    cannot be read; the message is a sentence for people.
    """
    path = Path(path)
    report = on_page or (lambda done, total: None)
    digest, head = inspected(path)
    kind = kind_of(path, head)
    if kind is not PDF:
        return Document(path.name, digest, numbered(kind.read(path, report)))
    if on_scan is None:
        return Document(path.name, digest, numbered(read_pdf(path, report, password)))
    texts, recognised = recognise_pdf(path, report, on_scan, password)
    pages = (replace(page, recognised=page.number in recognised) for page in numbered(texts))
    return Document(path.name, digest, tuple(pages))


def pasted_document(text: str) -> Document:
    """Make a document of a text that was pasted; its first words are its name.

    Raises `DocumentError` for one that is empty or too long.
    """
    if not text.strip():
        raise DocumentError("There is no text in what was pasted: copy it again and paste it here.")
    # A browser may hand over halves of characters.
    data = text.encode("utf-8", "surrogatepass")
    check_length(len(data), "What was pasted")
    pages = numbered(text_pages(text, markdown=False))
    return Document(name_of(pages), hashlib.sha256(data).hexdigest(), pages)


def piped_document(data: bytes) -> Document:
    """Make a document of a text that came through a pipe, whatever the encoding of the terminal.

    Raises `DocumentError` as `pasted_document`, and for what is no text.
    """
    return pasted_document(decoded(data, "What came through the pipe"))


def numbered(texts: Sequence[str]) -> tuple[Page, ...]:
    """The pages of these texts."""
    return tuple(Page(number, text) for number, text in enumerate(texts, 1))


def name_of(pages: Sequence[Page]) -> str:
    """The first words of a text."""
    lines = chain.from_iterable(page.text.split("\n") for page in pages)
    first = next(filter(None, (line.strip("#>*- ") for line in lines)), "")
    return shorten(first, LONGEST_NAME, placeholder=" …").strip(" …") or PASTED


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
            head = file.read(HEAD_BYTES)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest(), head
    except OSError as error:
        raise DocumentError(
            f"{path.name} cannot be opened ({error.strerror}): check that you may read it."
        ) from error
