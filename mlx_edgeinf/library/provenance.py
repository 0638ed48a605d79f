"""Where the text of a page comes from: which file of a collection, and whether it was recognised."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

from ..documents import Origin, Page
from .rows import rows

# A row for each page of which there is something to say. file, place: of a collection alone.
TABLE = """
CREATE TABLE provenance (
    page INTEGER PRIMARY KEY REFERENCES pages ON DELETE CASCADE,
    file TEXT,
    place INTEGER,
    recognised INTEGER NOT NULL
);
"""


def add_pages(db: Connection, document: int, pages: Sequence[Page]) -> None:
    """Add pages to a document, with where they come from."""
    for page in pages:
        new = "INSERT INTO pages (document, number, text) VALUES (?, ?, ?)"
        row = db.execute(new, (document, page.number, written(page.text))).lastrowid
        if page.origin or page.recognised:
            file, place = (written(page.origin.file), page.origin.number) if page.origin else (None, None)
            db.execute("INSERT INTO provenance VALUES (?, ?, ?, ?)", (row, file, place, page.recognised))


def pages(db: Connection, document: int) -> tuple[Page, ...]:
    """The pages of a document, in their order."""
    query = """
        SELECT pages.number, text, file, place, recognised FROM pages
        LEFT JOIN provenance ON provenance.page = pages.id WHERE document = ? ORDER BY pages.number
    """
    return tuple(map(_page, rows(db, query, document)))


def written(text: str) -> str:
    """A text that can be stored: file names and browsers may bring halves of characters."""
    return text.encode("utf-8", "replace").decode()


def _page(row: dict[str, Any]) -> Page:
    origin = None if row["file"] is None else Origin(row["file"], row["place"])
    return Page(row["number"], row["text"], origin, bool(row["recognised"]))
