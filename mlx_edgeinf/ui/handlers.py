"""What the buttons of the desk do: plain functions from a session to what is to be shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from .. import chat
from ..atomic import SaveError
from ..chat import Turn
from ..document_memory import EngineClosed, SaveFileError
from ..documents import (
    READABLE,
    Document,
    DocumentError,
    PasswordRequired,
    joined,
    pasted_document,
    read_document,
)
from ..library import Entry, LibraryError, Reader
from ..summarize import require_text, summarize
from . import desk, keeping, recognising
from .background import Background
from .preparation import Preparation
from .room import Room
from .session import Session, Stage
from .view import View, render, with_empty_desk, with_empty_question

NO_FILE = f"Choose a file first: {READABLE}."
BROKEN = (
    "This broke off because of a fault in the program, which the terminal it was started from "
    "describes; what was finished before is still here."
)


class Stopped(Exception):
    """Stop was pressed before the reading had begun."""


class NotReady(Exception):
    """The model could not be made ready; the message says why."""


PROBLEMS = (DocumentError, EngineClosed, LibraryError, NotReady, SaveError, SaveFileError)


def show_model(preparation: Preparation) -> Iterator[str]:
    """Yield the line about the model until the model is ready or cannot be."""
    for step in preparation.progress():
        yield desk.model_preparing(step)
    yield desk.model_settled(preparation)


def read(
    room: Room, session: Session, uploads: Sequence[str] | None, text: str, password: str, strategy: str
) -> Iterator[View]:
    """Read what is handed in, or else on in the document on show, and summarise it, showing each step.

    Ends normally on bad files and on Stop: the page then says what happened. What was read
    before stays until the new document is open.
    """
    if session.busy:
        yield render(session)
        return
    locked, session.strategy = session.locked, strategy
    session.uploads = tuple(uploads or ())
    session.begin(Stage.OPENING)
    if locked:
        session.passwords[locked] = password
    yield from _carried_out(room, session, _entry(room, session, text))


def recognise(room: Room, session: Session) -> Iterator[View]:
    """Recognise the text of the pages on show that have none, then read the document anew."""
    if session.busy or session.entry is None:
        yield render(session)
        return
    session.begin(Stage.OPENING)
    yield from _carried_out(room, session, _recognised(room, session))


def _carried_out(
    room: Room, session: Session, opening: Generator[View, None, Entry]
) -> Iterator[View]:
    """Open a document, read and summarise it; what goes wrong is said on the page."""
    try:
        entry = yield from opening
        yield from _prepare(session, room.preparation)
        yield from _summarize(room, session, entry)
    except PROBLEMS as error:
        if session.under_way:
            keeping.restore(room, session)
        session.problem = str(error)
    except Stopped:
        pass
    finally:
        session.rest()
    try:
        keeping.look(room.library, session)
    except LibraryError as error:
        session.problem = str(error)
    # The field was emptied when its file was opened, but Gradio drops a view that the next one overtakes.
    yield render(session) if session.offered else with_empty_desk(render(session))


def ask(room: Room, session: Session, question: str) -> Iterator[View]:
    """Answer a question about what was read, showing the answer as it grows; the library keeps it."""
    question = question.strip()
    # Held for a moment, so that no other model takes the place of the one whose memory is asked.
    with room.picker.changing:
        if asked := bool(question) and not session.busy and session.can_chat:
            session.begin(Stage.ANSWERING)
    if not asked:
        yield render(session)
        return
    try:
        yield from _answer(session, room.preparation, question)
        _keep_turn(room, session)
    except (EngineClosed, LibraryError) as error:
        session.problem = str(error)
    finally:
        session.rest()
    yield render(session)


def stop(session: Session) -> View:
    """Tell what runs to end after the segment or the word it is at."""
    if session.busy:
        session.cancel.set()
    return render(session)


def broken(session: Session) -> View:
    """Show that a handler failed in a way nobody foresaw."""
    session.problem = BROKEN
    return render(session)


def _entry(room: Room, session: Session, text: str) -> Generator[View, None, Entry]:
    """The document to read, in the library: what is handed in, or the one on show."""
    if not session.offered:
        if session.entry is None:
            raise DocumentError(NO_FILE)
        return session.entry
    document, original = yield from _open(session, text)
    # A scan is kept, as its text may be recognised.
    if not (original and original.suffix.lower() == ".pdf"):
        require_text(document)
    entry = room.library.add(document, original)
    document = room.library.document(entry.id)
    if len(document.pages_without_text) == len(document.pages):
        session.open(entry, document)
        session.nothing_offered()
    require_text(document)
    return entry


def _recognised(room: Room, session: Session) -> Generator[View, None, Entry]:
    entry = session.entry
    yield from recognising.recognise(room, session, lambda: _obey(session), render)
    keeping.lay_open(room.library, session, entry.id)
    require_text(session.document)
    return entry


def _open(session: Session, text: str) -> Generator[View, None, tuple[Document, Path | None]]:
    """What is handed in, and the file it was read from, if it is one alone."""
    if session.pasting:
        return pasted_document(text), None
    documents = []
    for upload in session.uploads:
        documents.append((yield from _open_file(session, upload)))
    alone = len(documents) == 1
    return joined(documents), Path(session.uploads[0]) if alone else None


def _open_file(session: Session, upload: str) -> Generator[View, None, Document]:
    """Open an uploaded file.

    On Stop the file is left at once; its opening ends by itself at the next page.
    """
    path, password, cancel = Path(upload), session.passwords.get(upload), session.cancel
    opening = Background(lambda note: _opened(path, password, cancel, note))
    for note in opening.notes():
        session.step = f"Opening {path.name}" + (": page {} of {}".format(*note) if note else "")
        yield render(session)
        _obey(session)
    try:
        return opening.result
    except PasswordRequired:
        session.locked = upload
        raise


def _opened(
    path: Path, password: str | None, cancel: threading.Event, note: Callable[[int, int], None]
) -> Document:
    def on_page(page: int, pages: int) -> None:
        if cancel.is_set():
            raise Stopped
        note(page, pages)

    return read_document(path, password or None, on_page)


def _prepare(session: Session, preparation: Preparation) -> Iterator[View]:
    """Wait for the model, or for Stop."""
    session.stage = Stage.PREPARING
    if preparation.occupied:
        raise NotReady(preparation.occupied)
    preparation.retry()
    for session.step in preparation.progress():
        yield render(session)
        _obey(session)
    if preparation.problem:
        raise NotReady(preparation.problem)


def _obey(session: Session) -> None:
    if session.cancel.is_set():
        raise Stopped


def _summarize(room: Room, session: Session, entry: Entry) -> Iterator[View]:
    """Show the events of a run; the first one lets the document replace the one before."""
    engine = room.preparation.engine
    reader = Reader(room.library, engine, entry.id, session.recall)
    session.step = f"Reading {reader.document.name}"
    yield render(session)
    run = summarize(reader, reader.document, session.strategy, cancel=session.cancel)
    with closing(run) as events:
        first = next(events)
        session.open(room.library.entry(entry.id), reader.document)
        session.problem = reader.problem
        session.nothing_offered()
        session.take(first)
        keeping.lay_out_chats(room.library, session)
        keeping.look(room.library, session)
        yield with_empty_desk(render(session))
        for event in events:
            session.take(event)
            yield render(session)
    session.tell_recall()
    _keep_finished(room, session)


def _keep_finished(room: Room, session: Session) -> None:
    """Put the summary in the library, with the memory that answers from now on."""
    engine, id = room.preparation.engine, session.entry.id
    if session.memory is None:
        return
    try:
        session.kept = room.library.finish(engine, id, session.finished)
        session.reading = room.library.reading_of(engine, id)
        keeping.lay_out_chats(room.library, session)
    except (LibraryError, SaveError, SaveFileError) as error:
        # What was read can still be asked about, here and now.
        session.problem = str(error)


def _answer(session: Session, preparation: Preparation, question: str) -> Iterator[View]:
    page = session.as_of.page if session.as_of else None
    history = tuple(session.turns)
    session.turns.append(Turn(question, "", page))
    yield with_empty_question(render(session))
    for turn in chat.ask(preparation.engine, session.asked, question, history, page, session.cancel):
        session.turns[-1] = turn
        yield render(session)
    session.tell_recall()


def _keep_turn(room: Room, session: Session) -> None:
    """Put the last question and its answer in the library."""
    if session.kept is None:
        return
    session.chat = session.chat or room.library.begin_chat(session.kept.id)
    room.library.add_turn(session.chat, session.turns[-1])
