"""What the library's column, its search and the tools of a document do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..atomic import SaveError
from ..library import SUFFIX, Library, LibraryError, is_exported
from ..wording import size
from . import asof, handlers, keeping, leaf
from .record import file_name
from .room import Room
from .session import Form, Session
from .view import View, render, with_empty_desk, with_export, with_uploads


def enter(room: Room, session: Session) -> View:
    """A page was opened: show the library."""
    _or_say_why(session, lambda: keeping.look(room.library, session))
    return render(session)


def act(room: Room, session: Session, wish: Mapping[str, str]) -> Iterator[View]:
    """Do what a button in the HTML says: `do` names it, the rest is what it needs."""
    match wish:
        case {"do": "open", "id": document}:
            yield from open_document(room, session, int(document))
        case {"do": "rename", "name": name}:
            yield _changed(room, session, lambda: _rename(room.library, session, name))
        case {"do": "delete"}:
            yield _changed(room, session, lambda: _delete(room.library, session))
        case {"do": "export"}:
            yield from _export(room, session)
        case {"do": "page", "link": link}:
            leaf.turn_to(room, session, link)
            yield render(session)
        case {"do": "leave"}:
            session.leaf = None
            yield render(session)
        case {"do": "recognise"}:
            yield from handlers.recognise(room, session)
        case {"do": "as-of", "page": page}:
            yield _changed(room, session, lambda: asof.choose(room, session, int(page)))
        case {"do": "form", "form": form}:
            yield _changed(room, session, lambda: setattr(session, "form", Form[form]))


def open_document(room: Room, session: Session, document: int) -> Iterator[View]:
    """Show a document of the library at once, then open its memory."""
    if session.busy:
        yield render(session)
        return
    session.problem, session.form = "", Form.NONE
    session.nothing_offered()
    _or_say_why(session, lambda: keeping.lay_open(room.library, session, document))
    _or_say_why(session, lambda: keeping.look(room.library, session))
    yield with_empty_desk(render(session))
    for _ in keeping.remembering(room, session):
        yield render(session)
    yield render(session)


def search(room: Room, session: Session, words: str) -> View:
    """Show where the words stand in the library; all documents without any."""
    session.shelf.words = words
    _or_say_why(session, lambda: keeping.look(room.library, session))
    return render(session)


def choose(room: Room, session: Session, uploads: Sequence[str] | None) -> Iterator[View]:
    """Files were chosen or taken away; what another library exported is imported at once."""
    session.problem, session.locked = "", ""
    session.passwords.clear()
    exported = [upload for upload in uploads or () if is_exported(Path(upload))]
    session.uploads = tuple(upload for upload in uploads or () if upload not in exported)
    if not exported:
        yield render(session)
        return
    entries: list[int] = []
    _or_say_why(session, lambda: entries.extend(room.library.take_over(Path(each)).id for each in exported))
    _or_say_why(session, lambda: keeping.look(room.library, session))
    if entries and not session.busy and not session.uploads:
        problem = session.problem
        for view in open_document(room, session, entries[-1]):
            session.problem = problem
            yield view
    yield with_uploads(render(session), session.uploads)


def paste(session: Session) -> View:
    """Change between a file and pasted text."""
    session.pasting = not session.pasting
    session.problem = ""
    return render(session)


def choose_strategy(session: Session, strategy: str) -> View:
    """Another way to summarise: what Read would do may be another."""
    session.strategy = strategy
    return render(session)


def choose_recall(session: Session, recall: bool) -> None:
    """Whether what is read is kept on disk: of a document that was begun before, it stays as it was."""
    session.recall = recall


def _changed(room: Room, session: Session, change: Callable[[], object]) -> View:
    """The page after a change to the document on show, or with why there was none."""
    if not session.busy and session.entry:
        session.problem = ""
        _or_say_why(session, change)
        _or_say_why(session, lambda: keeping.look(room.library, session))
    return render(session)


def _rename(library: Library, session: Session, name: str) -> None:
    library.rename(session.entry.id, name)
    session.exported = ""
    session.form, session.entry = Form.NONE, library.entry(session.entry.id)


def _delete(library: Library, session: Session) -> None:
    session.form = Form.NONE
    library.delete(session.entry.id)
    session.open(None, None)


def _export(room: Room, session: Session) -> Iterator[View]:
    """Hand out the file for another machine; Gradio serves a copy of it, and this one goes again."""
    with TemporaryDirectory(prefix="mlx_edgeinf-") as folder:
        path = Path(folder) / file_name(session.entry.name if session.entry else "", SUFFIX)

        def write() -> None:
            room.library.export(session.entry.id, path)
            session.exported = size(path.stat().st_size)

        view = _changed(room, session, write)
        yield with_export(view, path) if path.exists() else view


def _or_say_why(session: Session, work: Callable[[], object]) -> None:
    """Do it, or say on the page why it cannot be done."""
    try:
        work()
    except (LibraryError, SaveError) as error:
        session.problem = str(error)
