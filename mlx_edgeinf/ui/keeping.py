"""From the library into a session: the documents there, and one of them laid open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..document_memory import SaveFileError
from ..events import Finished
from ..library import Entry, Library, LibraryError, OtherModel, Reading, Summary
from . import asof
from .room import Room
from .session import Book, Session

if TYPE_CHECKING:
    from ..engine import Engine


def look(library: Library, session: Session) -> None:
    """Note what is in the library now, and where the words searched for stand."""
    shelf = session.shelf
    shelf.books = tuple(Book(entry, _pages_read(library, entry)) for entry in library.entries())
    shelf.hits = tuple(library.search(shelf.words)) if shelf.words.strip() else None


def lay_open(library: Library, session: Session, document: int) -> None:
    """Show a document as it was left; its memory is opened by `remember`.

    Raises:
        LibraryError: it was deleted.
    """
    session.open(library.entry(document), library.document(document))
    readings, summary = library.readings(document), _latest_summary(library, document)
    if summary:
        session.finished = Finished(summary.text, summary.receipt, None)
    session.kept = next((each for each in readings if summary and each.id == summary.reading), None)
    # Which of them the model can open is known once it is ready; most people have one model.
    session.reading = next((each for each in reversed(readings) if each.whole), None)
    session.kept = session.kept or (readings[-1] if readings else None)
    lay_out_chats(library, session)


def lay_out_chats(library: Library, session: Session) -> None:
    """Show every question that was asked about the document; a chat about the kept reading goes on."""
    chats = library.chats(session.entry.id)
    own = [chat for chat in chats if session.kept and chat.reading == session.kept.id][-1:]
    session.chat = own[0].id if own else None
    session.turns = [turn for chat in own for turn in chat.turns]
    session.earlier = tuple(turn for chat in chats if chat not in own for turn in chat.turns)
    asof.note(library, session)


def remembering(room: Room, session: Session) -> Iterator[None]:
    """Wait for the model and open the memory of the document; given up when something else begins.

    Without a model there is nothing to say here: the line about the model says why.
    """
    document = session.document
    if session.kept is None:
        return
    for _ in room.preparation.progress():
        if session.document is not document or session.busy:
            return
        yield
    if not room.preparation.problem:
        remember(room, session)


def remember(room: Room, session: Session) -> None:
    """Open the memory that answers about the document, or note why there is none."""
    with room.engine() as engine:
        _remember(room.library, engine, session)


def _remember(library: Library, engine: Engine, session: Session) -> None:
    document, readings = session.document, library.readings(session.entry.id)
    kept = _openable(readings, _latest_summary(library, session.entry.id), engine)
    if kept is None:
        return
    memory, problem, obstacle = None, "", ""
    try:
        memory = library.open(engine, kept.id)
    except (OtherModel, SaveFileError) as error:
        obstacle = str(error)
    except LibraryError as error:
        problem = str(error)
    # Another document may have been opened while this one was on its way.
    if session.document is not document or session.busy:
        return
    session.problem, session.obstacle = problem or session.problem, obstacle
    if obstacle:
        session.reading = None
    elif memory:
        session.kept, session.memory = kept, memory
        session.tell_recall()
        session.reading = library.reading_of(engine, session.entry.id)
        lay_out_chats(library, session)


def restore(room: Room, session: Session) -> None:
    """After a reading that failed: show what of it is in the library."""
    document = session.entry.id
    session.rest()
    if session.closed:
        return
    with suppress(LibraryError):
        lay_open(room.library, session, document)
        remember(room, session)


def _openable(readings: Sequence[Reading], summary: Summary | None, engine: Engine) -> Reading | None:
    """The reading whose memory is asked: of those made with this engine that of the summary, if it can be."""
    own = [each for each in readings if each.identity == engine.identity and each.position]
    if not own:
        return readings[-1] if readings else None
    return max(own, key=lambda each: (bool(summary) and each.id == summary.reading, each.whole, each.id))


def _latest_summary(library: Library, document: int) -> Summary | None:
    summaries = library.summaries(document)
    return summaries[-1] if summaries else None


def _pages_read(library: Library, entry: Entry) -> int:
    """Pages read to their end: by a reading of the whole, or else for a summary in another way."""
    with suppress(LibraryError):
        whole = [each.pages_read for each in library.readings(entry.id) if each.whole]
        read = [summary.receipt.pages_read for summary in library.summaries(entry.id)]
        return max(whole + read, default=0)
    return 0
