"""Pages without text: the offer to recognise it in pictures of them (OCR), and doing so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..documents import Document, DocumentError, PasswordRequired, ocr_obstacle, read_document
from ..wording import count
from .background import Background
from .session import Session

if TYPE_CHECKING:
    from .room import Room

T = TypeVar("T")

BUTTON = '<button type="button" class="quiet" data-do="recognise">Recognise their text</button>'
ONE_BY_ONE = "To have their text recognised, read the scanned file by itself."
NOTHING_FOUND = "No text was found in the pictures of {}'s pages: they may be blank."
LOCKED = (
    "{0} is protected, and its password is not kept: have its pages recognised on the command line, by "
    "mlx-edgeinf summarize --ocr."
)


def offer(session: Session) -> str:
    """A button; or what stands in its way, if it is something to be done about."""
    if session.busy:
        return ""
    if session.document.pages[0].origin:
        return ONE_BY_ONE
    if not Path(session.entry.original or "").suffix == ".pdf":
        return ""
    return escape(ocr_obstacle()) or BUTTON


def recognise(
    room: Room, session: Session, stopped: Callable[[], None], render: Callable[[Session], T]
) -> Iterator[T]:
    """Recognise the text of the document on show; the library has it from then on.

    Args:
        stopped: raises once Stop was pressed.

    Raises:
        DocumentError: there is no recogniser, no copy of the file, or its password would be needed.
    """
    entry, path = session.entry, room.library.original(session.entry.id)
    if path is None:
        raise DocumentError(f"There is no copy of {entry.name} to recognise text in: hand it in again.")
    work = Background(lambda note: _recognised(path, stopped, note))
    for note in work.notes():
        session.step = "Looking at the pages without text"
        if note:
            done, total = note
            session.step = f"Page {count(min(done + 1, total))} of {count(total)}, recognising"
        yield render(session)
        stopped()
    try:
        document = work.result
    except PasswordRequired as error:
        raise DocumentError(LOCKED.format(entry.name)) from error
    except DocumentError as error:
        # It speaks of the library's copy, whose name says nothing to people.
        raise DocumentError(str(error).replace(path.name, entry.name)) from error
    if document.pages == session.document.pages:
        raise DocumentError(NOTHING_FOUND.format(entry.name))
    with room.library.under_way(entry.id):
        room.library.revise(entry.id, document)


def _recognised(path: Path, stopped: Callable[[], None], note: Callable[[int, int], None]) -> Document:
    def on_scan(done: int, total: int) -> None:
        stopped()
        note(done, total)

    return read_document(path, on_page=lambda done, total: stopped(), on_scan=on_scan)
