from __future__ import annotations

import re
from pathlib import Path
from threading import Event, RLock
from unittest.mock import Mock

import fakes
import pytest
from pages import (
    BOOK,
    PAGES,
    any_path_is_a_book,  # noqa: F401
    at_page,
    do,
    finish,
    opened,
    read,
    read_on,
    stopped,
    until,
)

from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.library import Library, LibraryError
from mlx_edgeinf.ui import librarian
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.session import Session

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


def another_engine(room: Room, **changes) -> Room:
    """The same library, later, with another model or other gates."""
    engine = fakes.FakeEngine(**changes)
    return Room(Preparation(lambda note: engine), room.library)


def names(html: str) -> list[str]:
    return re.findall('<span class="name">(.*?)</span>', html)


def test_the_switch_says_whether_what_is_read_is_kept_on_disk(room, session, monkeypatch):
    engine, asked = room.preparation.engine, []
    opened_by, engine.recall_bytes = engine.open, None
    monkeypatch.setattr(engine, "open", lambda *args: asked.append(args[1:]) or opened_by(*args))
    finish(read(room, session, "/uploads/one.pdf"))
    librarian.choose_recall(session, False)
    finish(read(room, session, "/uploads/two.pdf"))
    first = room.library.pages.wanted(engine, 1)
    assert first and asked == [(first,), (None,)]


# -- the column ----------------------------------------------------------------------


def test_documents_are_listed_the_latest_first_with_how_far_they_were_read(room, session):
    assert "kept here" in librarian.enter(room, session).shelf
    finish(read(room, session, "/uploads/one.pdf"))
    view = stopped(room, session, upload="/uploads/two.pdf")
    assert names(view.shelf) == ["two.pdf", "one.pdf"]
    assert "12 pages, read to page 6" in view.shelf and "12 pages, read<" in view.shelf
    assert view.shelf.count('aria-current="true"') == 1
    assert librarian.enter(room, Session()).shelf.replace(' aria-current="true"', "") in view.shelf.replace(
        ' aria-current="true"', ""
    )


def test_a_search_shows_where_its_words_stand_and_opens_the_document(room, session):
    finish(read(room, session, "/uploads/one.pdf"))
    finish(read(room, session, "/uploads/two.pdf"))
    shelf = librarian.search(room, session, "chapter 7").shelf
    assert sorted(names(shelf)) == ["one.pdf", "two.pdf"]
    assert "Page 7" in shelf and "Chapter 7 of the story" in shelf
    assert "Nothing in the library has these words" in librarian.search(room, session, "submarine").shelf
    assert names(librarian.search(room, session, " ").shelf) == ["two.pdf", "one.pdf"]


def test_nothing_of_a_document_reaches_the_page_unescaped(room, session, library):
    finish(read(room, session))
    do(room, session, do="rename", name='<img src=x onerror="x()"> bees')
    for wish in ({"do": "form", "form": "RENAME"}, {"do": "form", "form": "DELETE"}):
        view = do(room, session, **wish)
        assert "<img" not in view.tools + view.shelf + view.summary and "&lt;img" in view.tools
    assert "<img" not in librarian.search(room, session, "bees").shelf


# -- opening -------------------------------------------------------------------------


def test_a_document_opens_with_its_summary_its_receipt_and_its_memory(room, session):
    finish(read(room, session))
    finish(read(room, session, "/uploads/next.pdf"))
    view = do(room, session, do="open", id="1")
    assert "Summary of the whole document" in view.summary and f"<h2>{BOOK}</h2>" in view.summary
    assert "Read all 12 pages" in view.summary and view.question["interactive"]
    assert view.read["value"] == "Summarise again" and view.notice == view.progress == ""


def test_a_document_is_shown_before_the_model_is_ready(room, session, fake):
    finish(read(room, session))
    gate, later = Event(), Session()
    waiting = Room(Preparation(lambda note: gate.wait(10) and fake), room.library)
    views = librarian.open_document(waiting, later, 1)
    first = next(views)
    assert "Read all 12 pages" in first.summary and not first.question["interactive"]
    assert "as soon as the model is ready" in first.chat
    gate.set()
    assert finish(views).question["interactive"]


def test_another_document_that_is_opened_meanwhile_is_the_one_that_stays(room, session, fake):
    finish(read(room, session, "/uploads/one.pdf"))
    finish(read(room, session, "/uploads/two.pdf"))
    gate, later = Event(), Session()
    waiting = Room(Preparation(lambda note: gate.wait(10) and fake), room.library)
    one, two = (librarian.open_document(waiting, later, number) for number in (1, 2))
    next(one), next(one), next(two)
    gate.set()
    finish(one), finish(two)
    assert later.entry.name == later.memory.document.name == "two.pdf"


def test_what_keeps_one_document_from_being_opened_is_not_said_of_the_next(room, session, monkeypatch):
    finish(read(room, session, "/uploads/one.pdf"))
    finish(read(room, session, "/uploads/two.pdf"))
    later, taken = Session(), Library.open

    def slow(library, engine, reading):
        if reading > 1:
            return taken(library, engine, reading)
        finish(librarian.open_document(room, later, 2))
        raise SaveFileError("The first one is damaged.")

    monkeypatch.setattr(Library, "open", slow)
    monkeypatch.setattr(room.picker, "changing", RLock())
    view = finish(librarian.open_document(room, later, 1))
    assert view.notice == "" and later.obstacle == "" and later.can_chat and later.entry.name == "two.pdf"


def test_what_passes_is_no_reason_to_read_anew(room, session, monkeypatch):
    finish(read(room, session))
    with monkeypatch.context() as patch:
        patch.setattr(Library, "open", Mock(side_effect=LibraryError("The library is busy.")))
        later, view = opened(room)
    assert "The library is busy." in view.notice and view.read["value"] == "Summarise again"
    assert finish(librarian.open_document(room, later, 1)).question["interactive"]


def test_the_page_the_summary_reached_is_known_later(room, session):
    stopped(room, session)
    _, view = opened(room)
    assert "Summary of pages 1–3, stopped at page 6" in view.summary
    assert "what was kept of pages 1–6" in view.chat


def test_a_document_read_in_part_is_read_on_from_there(room, session):
    stopped(room, session)
    later, view = opened(room)
    assert view.read["value"] == "Read on from page 7"
    views = list(read_on(room, later))
    progress = " ".join(view.progress for view in views)
    pages = [int(number) for number in re.findall(r"<strong>(\d+)</strong> of", progress)]
    assert min(pages) == 6 and max(pages) == PAGES
    assert "Summary of the whole document" in views[-1].summary
    assert views[-1].read["value"] == "Summarise again"


def test_a_way_to_summarise_that_does_not_go_on_is_not_promised_to(room, session):
    stopped(room, session)
    assert librarian.choose_strategy(session, "map-reduce").read["value"] == "Summarise again"
    assert librarian.choose_strategy(session, "one-shot").read["value"] == "Read on from page 7"


def test_a_reading_without_a_summary_says_so(room, session):
    stopped(room, session, page=1)
    later, view = opened(room)
    assert "Read the first page, no summary yet" in view.summary and view.question["interactive"]
    assert view.read["value"] == "Read on from page 2"


def test_a_killed_page_reads_on_from_its_last_checkpoint(monkeypatch, room, session):
    monkeypatch.setattr("mlx_edgeinf.library.reader.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("mlx_edgeinf.library.reader.SHARE", 1e9)
    views = read(room, session)
    until(views, at_page(5))
    views.close()
    later, view = opened(room)
    assert view.read["value"] == "Read on from page 5" and view.question["interactive"]
    assert "Summary of the whole document" in finish(read_on(room, later)).summary


@pytest.mark.parametrize("changes", [{"name": "Another model"}, {"gates": "trained"}], ids=["model", "gates"])
def test_another_model_or_other_gates_are_told_and_reading_anew_is_offered(room, session, changes):
    finish(read(room, session))
    other = another_engine(room, **changes)
    later, view = opened(other)
    part = "gates" if "gates" in changes else "base model"
    assert f"with another {part} than those of" in view.notice and view.notice.count(". ") == 0
    assert "Read all 12 pages" in view.summary and not view.question["interactive"]
    assert view.read["value"] == "Read anew"
    again = finish(read_on(other, later))
    assert again.notice == "" and again.question["interactive"] and again.read["value"] == "Summarise again"
    assert opened(room)[1].question["interactive"]


def test_a_damaged_memory_is_told_and_reading_anew_is_offered(room, session, library):
    finish(read(room, session))
    [reading] = library.readings(1)
    (library.folder / "files" / reading.memory).write_text("rubbish")
    later, view = opened(room)
    assert "is damaged: read the document again" in view.notice and view.read["value"] == "Read anew"
    assert finish(read_on(room, later)).question["interactive"]


def test_a_document_in_the_making_keeps_others_from_being_opened(room, session):
    finish(read(room, session, "/uploads/one.pdf"))
    views = read(room, session)
    view = until(views, at_page(3))
    assert view.shelf.count(" disabled") == 2 and "open another tab" in view.shelf
    assert BOOK in do(room, session, do="open", id="1").summary and session.busy


# -- two windows ---------------------------------------------------------------------


def test_a_second_window_that_reads_the_same_document_is_refused_in_one_sentence(room, session):
    stopped(room, session)
    views = read_on(room, session)
    until(views, at_page(8))
    other, view = opened(room)
    assert view.question["interactive"]
    refused = finish(read_on(room, other))
    assert "book.pdf is being read at this moment, here or in another window" in refused.notice
    assert "stopped at page 6" in refused.summary and refused.question["interactive"]
    assert "is being read at this moment" in do(room, other, do="delete").notice and other.entry
    assert "Summary of the whole document" in finish(views).summary


def test_a_document_deleted_in_another_window_is_told(room, session, library):
    finish(read(room, session))
    library.delete(1)
    assert "no longer in the library" in do(room, session, do="open", id="1").notice
    assert "no longer in the library" in do(room, session, do="rename", name="x").notice


def test_a_disk_that_is_full_ends_the_reading_and_the_page_stays_usable(monkeypatch, room, session, fake):
    def full(memory, path: Path) -> None:
        raise SaveError("The disk is full.")

    fake.save = full
    view = finish(read(room, session))
    assert "The disk is full" in view.notice and view.read["visible"] and not session.busy


# -- tending -------------------------------------------------------------------------


def test_a_document_is_renamed(room, session, library):
    finish(read(room, session))
    assert 'value="book.pdf"' in do(room, session, do="form", form="RENAME").tools
    view = do(room, session, do="rename", name=" The sea ")
    assert "<h2>The sea</h2>" in view.summary and names(view.shelf) == ["The sea"]
    assert "at least one letter" in do(room, session, do="rename", name=" ").notice


def test_a_document_is_deleted_after_it_was_asked_once_more(room, session, library):
    finish(read(room, session))
    view = do(room, session, do="form", form="DELETE")
    assert "cannot be undone" in view.tools and library.entries()
    assert "Rename" in do(room, session, do="form", form="NONE").tools and library.entries()
    view = do(room, session, do="delete")
    assert not library.entries() and "Bring a long document" in view.summary and view.tools == ""
    assert session.memory is None


def test_an_error_goes_when_another_file_is_chosen(room, session):
    finish(read(room, session, "/uploads/damaged.pdf"))
    view = finish(librarian.choose(room, session, ["/uploads/other.pdf"]))
    assert view.notice == "" and view.read["value"] == "Read"


def test_the_button_means_what_was_handed_in_until_another_document_is_opened(room, session):
    stopped(room, session)
    assert finish(librarian.choose(room, session, ["/uploads/new.pdf"])).read["value"] == "Read"
    view = next(librarian.open_document(room, session, 1))
    assert view.read["value"] == "Read on from page 7" and view.upload["value"] is None
    assert librarian.paste(session).read["value"] == "Read"
