"""The kinds of file that can be read: how each is known, and who turns it into pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .books import read_html, read_package, refuse_old_office
from .document import DocumentError
from .parts import Progress
from .pdf import read_pdf
from .plain import SUFFIXES, read_text

READABLE = "PDF, Word, EPUB, HTML, text or Markdown"
HEAD_BYTES = 1024
"""As much of a file's beginning as its kind is looked for in."""
PDF_MARK = re.compile(b"%PDF-")
ZIP_MARK = re.compile(b"PK(?:\3\4|\5\6)")
OLD_OFFICE_MARK = re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
# Its groups are atomic, as a row of comments could be divided in more ways than can be tried.
HTML_MARK = re.compile(
    rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?(?>\s|<\?xml[^>]*>|<!--(?>.*?-->))*+<(?:!doctype\s+)?html\b",
    re.DOTALL | re.IGNORECASE,
)
NO_MARK = re.compile(b"(?!)")


class Kind(NamedTuple):
    """A kind of file.

    name: with its article. mark: what it begins with. suffixes: how its names end. marked: whether
    there is none without the mark. read: takes a file and `on_page`, and returns the text of each page.
    """

    name: str
    mark: re.Pattern[bytes]
    suffixes: set[str]
    marked: bool
    read: Callable[[Path, Progress], list[str]]


PDF = Kind("a PDF", PDF_MARK, {".pdf"}, True, read_pdf)
KINDS = (
    PDF,
    Kind("a Word document", ZIP_MARK, {".docx", ".docm"}, True, read_package),
    Kind("an EPUB", ZIP_MARK, {".epub"}, True, read_package),
    Kind("an old Office file", OLD_OFFICE_MARK, set(), True, refuse_old_office),
    Kind("a web page", HTML_MARK, {".html", ".htm", ".xhtml"}, False, read_html),
    Kind("a text", NO_MARK, SUFFIXES, False, read_text),
)


def kind_of(path: Path, head: bytes) -> Kind:
    """What kind of file this is, by the first bytes and then by the name.

    A text may speak of PDFs, so there the mark counts at the very beginning only. Raises
    `DocumentError` for a file of no kind that can be read.
    """
    # UTF-16 has a zero beside each letter.
    begins = head.replace(b"\0", b"")
    for kind in KINDS:
        if kind.mark.match(begins):
            return kind
    named = next((kind for kind in KINDS if path.suffix.lower() in kind.suffixes), None)
    if named and not named.marked:
        return named
    if PDF_MARK.search(head):
        return PDF
    if named:
        raise DocumentError(f"{path.name} is not {named.name} in spite of its name: choose the original.")
    raise DocumentError(
        f"{path.name} is of a kind that cannot be read: choose a file in {READABLE}, or print it to PDF."
    )
