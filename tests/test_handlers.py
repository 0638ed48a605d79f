from __future__ import annotations

import re
import threading

import pytest
from pages import (
    BOOK,
    PAGES,
    PASSWORD,
    any_path_is_a_book,  # noqa: F401
    at_page,
    book,
    finish,
    read,
    stopped,
    until,
)

from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.ui import handlers
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


def shown(update: dict) -> bool:
    return update["visible"]


def failing(error: Exception):
    def summarize(*arguments, **options):
        raise error
        yield

    return summarize


def in_need_of(load, room: Room) -> Room:
    """A room whose model is still to be made ready."""
    return Room(Preparation(load), room.library)


# -- reading -------------------------------------------------------------------------


def test_reading_shows_every_page_then_the_summary_and_its_receipt(room, session):
    views = list(read(room, session))
    progress = " ".join(view.progress for view in views)
    assert all(f"<strong>{page}</strong> of {PAGES} pages" in progress for page in range(1, PAGES + 1))
    assert "Summary of the whole document" in views[-1].summary
    assert "up to page 12" in views[-1].summary
    assert session.finished.receipt.sentence() in views[-1].summary
    assert "Copy summary" in views[-1].summary


def test_drafts_are_shown_with_the_page_they_reach_while_reading_goes_on(room, session):
    view = until(read(room, session), at_page(6))
    assert "Draft after page 3" in view.summary
    assert "Copy summary" not in view.summary


def test_stop_shows_while_reading_and_read_before_and_after(room, session):
    views = list(read(room, session))
    assert all(shown(view.stop) and not shown(view.read) for view in views[:-1])
    assert shown(views[-1].read) and not shown(views[-1].stop)


def test_stop_ends_within_a_segment_and_keeps_what_was_read(room, session):
    views = read(room, session)
    until(views, at_page(6))
    stopping = handlers.stop(session)
    assert "Stopping" in stopping.progress and not stopping.stop["interactive"]
    last = finish(views)
    assert session.finished.receipt.stopped and session.finished.receipt.pages_read == 6
    assert "Summary of pages 1–3, stopped at page 6" in last.summary
    assert "what was kept of pages 1–6" in last.chat
    assert last.question["interactive"]


def test_a_draft_that_stop_cut_short_is_not_taken_for_the_summary(room, session):
    views = read(room, session)
    until(views, lambda view: "Draft after page 6" in view.summary)
    handlers.stop(session)
    last = finish(views)
    assert session.latest.page == 6 and len(session.latest.text) < len(session.finished.summary)
    assert "Summary of pages 1–3, stopped at page 6" in last.summary and "up to page 3" in last.summary


def test_stopped_before_the_first_draft_there_is_no_summary_to_copy(room, session):
    last = stopped(room, session, page=1)
    assert "No summary, stopped at page 1" in last.summary and "Copy summary" not in last.summary
    assert last.question["interactive"]


def test_stop_before_the_model_is_ready_gives_up(room, session):
    gate = threading.Event()
    views = read(in_need_of(lambda note: gate.wait(10), room), session)
    until(views, lambda view: "Preparing the model" in view.progress)
    handlers.stop(session)
    finish(views)
    gate.set()
    assert session.document is None and not session.busy


def test_stop_while_a_document_is_opened_keeps_the_one_before(monkeypatch, room, session):
    finish(read(room, session))
    going, ended = threading.Event(), threading.Event()

    def slow(path, password, on_page):
        assert going.wait(10)
        try:
            on_page(1, 1000)
        finally:
            ended.set()

    monkeypatch.setattr(handlers, "read_document", slow)
    views = read(room, session, "/uploads/slow.pdf")
    assert "Opening slow.pdf" in next(views).progress
    handlers.stop(session)
    assert BOOK in finish(views).summary
    going.set()
    assert ended.wait(10)


def test_a_closed_tab_ends_the_reading(room, fake, session):
    views = read(room, session)
    until(views, at_page(3))
    views.close()
    assert fake.cancels[-1].is_set() and not session.busy


def test_a_forgotten_page_keeps_nothing(room, session):
    finish(read(room, session))
    session.close()
    assert session.document is None and session.finished is None and session.memory is None


def test_pages_without_text_are_listed(monkeypatch, room, session):
    scan = book(blank=(3, 7, 8))
    monkeypatch.setattr(handlers, "read_document", lambda path, password, on_page: scan)
    view = until(read(room, session), at_page(1))
    assert "3 of 12 pages have no text (3, 7–8)" in view.summary


def test_the_title_of_the_tab_follows_the_reading(room, session):
    views = list(read(room, session))
    titles = [title for view in views for title in re.findall(r'data-title="(.*?)"', view.progress)]
    assert titles[0] == "8 % · book.pdf" and titles[-1] == "100 % · book.pdf"
    assert "data-busy" not in views[-1].progress


def test_a_tab_that_is_closed_while_it_reads_keeps_what_was_read_and_lets_go(room, session):
    views = read(room, session)
    until(views, at_page(6))
    session.close()
    finish(views)
    assert session.document is None and session.memory is None and not session.busy
    [reading] = room.library.readings(1)
    assert reading.pages_read == 6 and room.library.summaries(1)[-1].receipt.stopped


# -- what is handed in ---------------------------------------------------------------


def test_several_files_are_one_collection(room, session):
    view = finish(read(room, session, "/uploads/one.pdf", "/uploads/two.pdf"))
    assert "one.pdf and 1 more" in view.summary and f"{2 * PAGES} of {2 * PAGES}" in view.summary
    [entry] = room.library.entries()
    assert entry.pages == 2 * PAGES and entry.original is None


def test_pasted_text_is_a_document(room, session):
    session.pasting = True
    view = finish(handlers.read(room, session, None, "Call me Ishmael. Some years ago.", "", "one-shot"))
    assert "Call me Ishmael. Some years ago." in view.summary and not session.pasting
    assert view.upload["visible"] and not view.pasted["visible"]


def test_what_was_handed_in_is_taken_off_the_desk_when_its_reading_begins(room, session):
    view = until(read(room, session), at_page(1))
    assert view.upload["value"] is None and view.pasted["value"] == "" and not session.offered


def test_reading_nothing_asks_for_a_file(room, session):
    view = finish(handlers.read(room, session, None, "", "", "rolling"))
    assert handlers.NO_FILE in view.notice and shown(view.read)


def test_pasting_nothing_says_so(room, session):
    session.pasting = True
    view = finish(handlers.read(room, session, None, " ", "", "rolling"))
    assert "no text in what was pasted" in view.notice and session.pasting


# -- what goes wrong -----------------------------------------------------------------


def test_a_damaged_file_is_named_and_the_summary_before_stays(room, session):
    finish(read(room, session))
    memory = session.memory
    view = finish(read(room, session, "/uploads/damaged.pdf"))
    assert "damaged.pdf is damaged" in view.notice and 'role="alert"' in view.notice
    assert BOOK in view.summary and session.memory is memory
    assert view.question["interactive"]


def test_a_document_without_any_text_is_neither_read_nor_kept(monkeypatch, room, session):
    finish(read(room, session))
    blank = book("blank.epub", blank=tuple(range(1, PAGES + 1)))
    monkeypatch.setattr(handlers, "read_document", lambda *_: blank)
    view = finish(read(room, session, "/uploads/blank.epub"))
    assert "blank.epub has no text" in view.notice and len(room.library.entries()) == 1
    assert BOOK in view.summary and view.question["interactive"]


@pytest.mark.parametrize("uploads", [["/uploads/locked.pdf"], ["/uploads/one.pdf", "/uploads/locked.pdf"]])
def test_a_password_is_asked_for_and_then_reading_goes_on(room, session, uploads):
    asked = finish(read(room, session, *uploads))
    assert shown(asked.password) and "locked.pdf is protected" in asked.notice
    wrong = finish(read(room, session, *uploads, password="guess"))
    assert shown(wrong.password) and wrong.read["value"] == "Unlock and read"
    right = finish(read(room, session, *uploads, password=PASSWORD))
    assert "Summary of the whole document" in right.summary
    assert not shown(right.password) and right.password["value"] == "" and not session.passwords


def test_a_model_that_cannot_be_made_ready_says_why_and_is_tried_again(room, session, fake):
    attempts = []

    def load(note):
        attempts.append(note)
        if len(attempts) == 1:
            raise OSError("the network is down")
        return fake

    again = in_need_of(load, room)
    *_, line = handlers.show_model(again.preparation)
    assert "the network is down" in line
    assert "Summary of the whole document" in finish(read(again, session)).summary
    *_, line = handlers.show_model(again.preparation)
    assert "A small fake model is ready" in line


def test_a_model_that_never_gets_ready_is_told_in_the_page(room, session):
    def load(note):
        raise OSError("the network is down")

    assert "the network is down" in finish(read(in_need_of(load, room), session)).notice


def test_preparing_is_told_in_percent(fake):
    told, going = threading.Event(), threading.Event()

    def load(note):
        note("Downloading the starter model", 0.4)
        told.set()
        assert going.wait(5)
        return fake

    lines = handlers.show_model(Preparation(load))
    assert told.wait(5)
    assert any("Downloading the starter model: 40 %" in next(lines) for _ in range(2))
    going.set()
    assert "ready" in finish(lines)


def test_an_unforeseen_fault_leaves_the_page_usable(monkeypatch, room, session):
    finish(read(room, session))
    monkeypatch.setattr(handlers, "summarize", failing(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError):
        finish(read(room, session, "/uploads/other.pdf"))
    view = handlers.broken(session)
    assert handlers.BROKEN in view.notice and shown(view.read)
    assert BOOK in view.summary


def test_names_and_pages_of_a_document_are_escaped(monkeypatch, room, session):
    bad = "<img src=x>.pdf"
    hostile = Document(bad, "0" * 64, tuple(Page(n, "<b>bold</b> & more text here") for n in (1, 2)))
    monkeypatch.setattr(handlers, "read_document", lambda *_: hostile)
    html = " ".join(part for view in read(room, session) for part in view if isinstance(part, str))
    assert "&lt;img" in html and "&lt;b&gt;bold" in html
    assert "<img" not in html and "<b>" not in html


