"""Asking a document as of one of its pages: the memory as it was then gives nothing later away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..document_memory import SaveFileError
from ..wording import count, read_pages
from .session import Session

if TYPE_CHECKING:
    from ..library import Library
    from .room import Room


def note(library: Library, session: Session) -> None:
    """Note as of which pages the kept reading can be asked; as of its end, to begin with."""
    kept = session.kept
    session.checkpoints = tuple(library.past.checkpoints(kept.id)) if kept else ()
    session.as_of = session.past = None


def choose(room: Room, session: Session, page: int) -> None:
    """Ask as of a page from now on; 0 is the end.

    Raises:
        LibraryError: the memory of then is no longer kept.
    """
    note(room.library, session)
    chosen = next((each for each in session.checkpoints if each.page == page), None)
    if chosen is None:
        return
    try:
        with room.engine() as engine:
            session.past, session.as_of = room.library.past.open(engine, chosen), chosen
    except SaveFileError as error:
        note(room.library, session)
        session.problem = str(error)


def choices(session: Session) -> str:
    """What can be chosen, as HTML; empty where there is only the end."""
    if not session.checkpoints or session.memory is None:
        return ""
    end = "the end" if session.kept.complete else "where it stopped"
    pages = [(0, end), *((each.page, f"page {count(each.page)}") for each in session.checkpoints)]
    buttons = "".join(_button(page, label, session) for page, label in pages)
    return f'<p class="as-of" role="group" aria-label="Ask as of"><span>Ask as of</span>{buttons}</p>'


def basis(session: Session) -> str:
    """What answers are based on while a page is chosen."""
    pages = read_pages(session.as_of.page, len(session.document.pages))
    return f"Answered from the memory as it was in {pages}: what comes later is not in it."


def asked_at(page: int | None) -> str:
    """As of which page a question was asked, as HTML; empty for all that was read."""
    return "" if page is None else f'<p class="asked-at">Asked as of page {count(page)}</p>'


def _button(page: int, label: str, session: Session) -> str:
    chosen = page == (session.as_of.page if session.as_of else 0)
    disabled = " disabled" if session.busy else ""
    return (
        f'<button type="button" data-do="as-of" data-page="{page}" aria-pressed="{str(chosen).lower()}"'
        f"{disabled}>{label}</button>"
    )
