"""What the rest of the house knows of a document: its pages, its text, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

SCAN_CHARACTERS = 20


class DocumentError(Exception):
    """A document that cannot be read; the message is one sentence for people."""


class PasswordRequired(DocumentError):
    """An encrypted document, opened without a password or with a wrong one."""


@dataclass(frozen=True)
class Origin:
    """Where a page of a collection comes from: a file's name, and the page's number there."""

    file: str
    number: int


@dataclass(frozen=True)
class Page:
    """One page: its place in the document, counted from 1, and its text, a line per paragraph.

    In a collection of files, `origin` tells its place in its own file. recognised: whether its text
    was recognised in a picture of the page (OCR), and may be misread.
    """

    number: int
    text: str
    origin: Origin | None = None
    recognised: bool = False

    @property
    def place(self) -> str:
        """What people call the page: 12, in a collection 12 of report.pdf."""
        if self.origin:
            return f"{self.origin.number:,} of {self.origin.file}"
        return f"{self.number:,}"


@dataclass(frozen=True)
class Document:
    """A document as it was read: the file's name, the SHA-256 of its bytes, every page.

    Of a text that is followed as it grows, the SHA-256 is that of what it is known by.
    """

    name: str
    sha256: str
    pages: tuple[Page, ...]

    @property
    def pages_without_text(self) -> tuple[int, ...]:
        """Numbers of the pages that are blank, scanned or unreadable: under 20 characters."""
        return tuple(page.number for page in self.pages if len(page.text) < SCAN_CHARACTERS)

    @property
    def pages_recognised(self) -> tuple[int, ...]:
        """Numbers of the pages whose text was recognised in a picture."""
        return tuple(page.number for page in self.pages if page.recognised)

    @property
    def text(self) -> str:
        """The text of all pages, a line per paragraph."""
        return "\n".join(page.text for page in self.pages if page.text)
