"""What a person does on the page, without a browser: handlers called as the page calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlx_edgeinf.documents import Document, DocumentError, Page, PasswordRequired
from mlx_edgeinf.library import Entry
from mlx_edgeinf.library.files import Files
from mlx_edgeinf.ui import handlers, librarian
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.session import Session
from mlx_edgeinf.ui.view import View

PASSWORD = "open sesame"
PAGES = 12
BOOK = "book.pdf"


def pages(count: int = PAGES, blank: tuple[int, ...] = ()) -> tuple[Page, ...]:
    """Pages of text, some of them blank."""
    return tuple(
        Page(number, "" if number in blank else f"Chapter {number} of the story of the sea.")
        for number in range(1, count + 1)
    )


def book(name: str = BOOK, count: int = PAGES, blank: tuple[int, ...] = ()) -> Document:
    """A document; another name is another document."""
    return Document(name, name.encode().hex().rjust(64, "0")[:64], pages(count, blank))


def read_document(path: Path, password: str | None, on_page) -> Document:
    """Opens any path as a book of that name; some names are trouble."""
    if path.name == "damaged.pdf":
        raise DocumentError("damaged.pdf is damaged: save it again.")
    if path.name == "locked.pdf" and password != PASSWORD:
        raise PasswordRequired("locked.pdf is protected: enter its password.")
    for number in range(1, PAGES + 1):
        on_page(number, PAGES)
    return book(path.name)


@pytest.fixture
def any_path_is_a_book(monkeypatch) -> None:
    """No files: what is opened is made up, and so no original is kept."""
    monkeypatch.setattr(handlers, "read_document", read_document)

    @contextmanager
    def copied(self: Files, source: Path, document: Document) -> Iterator[Path]:
        with self.placing(source.suffix) as path:
            path.write_bytes(b"pdf")
            yield path

    monkeypatch.setattr(Files, "copied", copied)


def read(room: Room, session: Session, *uploads: str, password: str = "", strategy: str = "rolling"):
    """Press Read; without uploads a book is handed in."""
    return handlers.read(room, session, uploads or (f"/uploads/{BOOK}",), "", password, strategy)


def read_on(room: Room, session: Session, strategy: str = "rolling") -> Iterator[View]:
    """Press Read with nothing handed in."""
    return handlers.read(room, session, None, "", "", strategy)


def finish(views: Iterator[View]) -> View:
    """The last of the views."""
    *_, last = views
    return last


def until(views: Iterator[View], condition: Callable[[View], bool]) -> View:
    """The first view that is so."""
    return next(view for view in views if condition(view))


def at_page(page: int) -> Callable[[View], bool]:
    return lambda view: f"<strong>{page}</strong>" in view.progress


def stopped(room: Room, session: Session, page: int = 6, upload: str = f"/uploads/{BOOK}") -> View:
    """Read up to a page and stop there."""
    views = read(room, session, upload)
    until(views, at_page(page))
    handlers.stop(session)
    return finish(views)


def do(room: Room, session: Session, **wish: str) -> View:
    """Press a button in the HTML."""
    return finish(librarian.act(room, session, wish))


def opened(room: Room, entry: Entry | None = None) -> tuple[Session, View]:
    """A document in a page that was opened later."""
    session = Session()
    librarian.enter(room, session)
    entry = entry or room.library.entries()[0]
    return session, do(room, session, do="open", id=str(entry.id))
