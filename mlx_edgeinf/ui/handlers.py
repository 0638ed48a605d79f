"""What the page's buttons do: plain functions from a session to what is to be shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from pathlib import Path

from .. import chat
from ..chat import Turn
from ..documents import READABLE, Document, DocumentError, PasswordRequired, read_document
from ..summarize import summarize
from . import desk
from .background import Background
from .preparation import Preparation
from .session import Session, Stage
from .view import View, render, with_empty_question

NO_FILE = f"Choose a file first: {READABLE}."
BROKEN = (
    "This broke off because of a fault in the program, which the terminal it was started from "
    "describes; what was finished before is still here."
)


class Stopped(Exception):
    """Stop was pressed before the reading had begun."""


class NotReady(Exception):
    """The model could not be made ready; the message says why."""


def show_model(preparation: Preparation) -> Iterator[str]:
    """Yield the line about the model until the model is ready or cannot be."""
    for step in preparation.progress():
        yield desk.model_preparing(step)
    yield desk.model_settled(preparation)


def choose(session: Session) -> View:
    """A file was chosen or taken away: what was said about the one before is out of date."""
    session.problem, session.wants_password = "", False
    return render(session)


def read(
    preparation: Preparation,
    session: Session,
    upload: str | None,
    password: str,
    strategy: str,
) -> Iterator[View]:
    """Open the uploaded file, read it and summarise it, showing each step.

    Ends normally on bad files and on Stop: the page then says what happened. What was read
    before stays until the new document is open.
    """
    if upload is None:
        session.problem = NO_FILE
    if upload is None or session.busy:
        yield render(session)
        return
    session.begin(Stage.OPENING)
    try:
        document = yield from _open(session, upload, password)
        yield from _prepare(session, preparation)
        yield from _summarize(session, preparation, document, upload, strategy)
    except PasswordRequired as error:
        session.wants_password, session.problem = True, str(error)
    except (DocumentError, NotReady) as error:
        session.problem = str(error)
    except Stopped:
        pass
    finally:
        session.rest()
    yield render(session)


def ask(preparation: Preparation, session: Session, question: str) -> Iterator[View]:
    """Answer a question about what was read, showing the answer as it grows."""
    question = question.strip()
    if not question or session.busy or not session.can_chat:
        yield render(session)
        return
    session.begin(Stage.ANSWERING)
    try:
        yield from _answer(session, preparation, question)
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


def _open(session: Session, upload: str, password: str) -> Generator[View, None, Document]:
    """Open the uploaded file, unless it is the document already, and return it.

    On Stop the file is left at once; its opening ends by itself at the next page.
    """
    if upload == session.source:
        return session.document
    path, cancel = Path(upload), session.cancel
    opening = Background(lambda note: _opened(path, password, cancel, note))
    for note in opening.notes():
        session.step = f"Opening {path.name}" + (": page {} of {}".format(*note) if note else "")
        yield render(session)
        _obey(session)
    return opening.result


def _opened(path: Path, password: str, cancel: threading.Event, note: Callable[[int, int], None]) -> Document:
    def on_page(page: int, pages: int) -> None:
        if cancel.is_set():
            raise Stopped
        note(page, pages)

    return read_document(path, password or None, on_page)


def _prepare(session: Session, preparation: Preparation) -> Iterator[View]:
    """Wait for the model, or for Stop."""
    session.stage = Stage.PREPARING
    preparation.retry()
    for session.step in preparation.progress():
        yield render(session)
        _obey(session)
    if preparation.problem:
        raise NotReady(preparation.problem)


def _obey(session: Session) -> None:
    if session.cancel.is_set():
        raise Stopped


def _summarize(
    session: Session, preparation: Preparation, document: Document, upload: str, strategy: str
) -> Iterator[View]:
    """Show the events of a run; the first one lets the document replace the one before."""
    session.step = f"Reading {document.name}"
    yield render(session)
    events = summarize(preparation.engine, document, strategy, cancel=session.cancel)
    first = next(events)
    session.open(document, upload)
    for event in chain([first], events):
        session.take(event)
        yield render(session)


def _answer(session: Session, preparation: Preparation, question: str) -> Iterator[View]:
    history = tuple(session.turns)
    session.turns.append(Turn(question, ""))
    yield with_empty_question(render(session))
    memory = session.finished.memory
    for answer in chat.ask(preparation.engine, memory, question, history, session.cancel):
        session.turns[-1] = Turn(question, answer)
        yield render(session)
