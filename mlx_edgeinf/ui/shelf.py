"""The library's column, as HTML: the documents there, or where the words of a search stand."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..wording import count, counted
from .session import Book, Session

if TYPE_CHECKING:
    from ..library import Hit

EMPTY = '<p class="empty">What you read is kept here, on this machine only.</p>'
BUSY = '<p class="empty">To look at another document meanwhile, open another tab.</p>'


def shelf(session: Session) -> str:
    """The documents, the latest first, or what was found; each opens its document."""
    hits, books = session.shelf.hits, session.shelf.books
    if hits is None:
        rows, empty, label = [_book(book, session) for book in books], EMPTY, "Documents"
    else:
        rows, label = [_hit(hit, session) for hit in hits], "Found"
        empty = '<p class="empty" role="status">Nothing in the library has these words.</p>'
    if not rows:
        return empty
    busy = BUSY if session.busy else ""
    return f'<nav class="shelf" aria-label="{label}">{busy}<ol>{"".join(rows)}</ol></nav>'


def _book(book: Book, session: Session) -> str:
    return _row(session, book.entry.id, book.entry.name, _how_far(book, session))


def _hit(hit: Hit, session: Session) -> str:
    where = {"name": "Name", "page": f"Page {count(hit.number)}", "summary": "Summary"}[hit.kind]
    excerpt = "" if hit.kind == "name" else hit.excerpt
    return _row(session, hit.document, hit.name, where, excerpt)


def _row(session: Session, document: int, name: str, note: str, excerpt: str = "") -> str:
    current = ' aria-current="true"' if session.entry and session.entry.id == document else ""
    disabled = " disabled" if session.busy else ""
    quoted = f'<span class="excerpt">{escape(excerpt)}</span>' if excerpt else ""
    return f"""<li><button type="button" data-do="open" data-id="{document}"{current}{disabled}>
<span class="name">{escape(name)}</span>
<span class="note">{escape(note)}</span>{quoted}</button></li>"""


def _how_far(book: Book, session: Session) -> str:
    pages = counted(book.entry.pages, "page")
    if session.under_way and session.entry.id == book.entry.id:
        return f"{pages}, being read"
    if book.pages_read >= book.entry.pages:
        return f"{pages}, read"
    return f"{pages}, read to page {count(book.pages_read)}" if book.pages_read else f"{pages}, not read yet"
