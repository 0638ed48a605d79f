"""Recognising the text of pages that have none, on the page, with a recogniser that is made up."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from pages import PAGES, any_path_is_a_book, book, do, finish, opened, read  # noqa: F401

from mlx_edgeinf.documents import DocumentError, Page, PasswordRequired, joined
from mlx_edgeinf.ui import handlers, recognising

SCAN = book("scan.pdf", blank=(3, 7, 8))
EMPTY = book("scan.pdf", blank=tuple(range(1, PAGES + 1)))
FOUND = "Found in a picture of the page."

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


@pytest.fixture
def handed_in(monkeypatch):
    """What every file is, when it is opened."""

    def install(document) -> None:
        monkeypatch.setattr(handlers, "read_document", lambda *_: document)

    install(SCAN)
    return install


@pytest.fixture(autouse=True)
def recogniser(monkeypatch):
    """Finds the same text on every page without any; another can be put in its place."""

    def recognised(path, on_page, on_scan):
        on_page(PAGES, PAGES)
        for done in range(4):
            on_scan(done, 3)
            time.sleep(0.3)
        filled = (page if page.text else Page(page.number, FOUND, None, True) for page in SCAN.pages)
        return replace(SCAN, pages=tuple(filled))

    monkeypatch.setattr(recognising, "ocr_obstacle", lambda: "")
    monkeypatch.setattr(recognising, "read_document", recognised)
    return lambda other: monkeypatch.setattr(recognising, "read_document", other)


def test_pages_without_text_are_recognised_and_the_document_read_anew(room, session, handed_in):
    view = finish(read(room, session, "/uploads/scan.pdf"))
    assert "3 of 12 pages have no text (3, 7–8)" in view.summary and 'data-do="recognise"' in view.summary
    views = list(handlers.recognise(room, session))
    assert any("Page 2 of 3, recognising" in view.progress for view in views)
    last = views[-1]
    assert "have no text" not in last.summary and "Text recognised in pictures: 3 pages." in last.summary
    assert "Recognised in pictures" in last.summary and "Read the whole document" in last.progress
    again, view = opened(room)
    assert again.document.pages_recognised == (3, 7, 8) and again.memory.pages_read == PAGES


def test_the_button_of_the_notice_does_it(room, session, handed_in):
    finish(read(room, session, "/uploads/scan.pdf"))
    do(room, session, do="recognise")
    assert session.document.pages_recognised == (3, 7, 8)


def test_a_scan_without_any_text_is_kept_and_can_be_recognised(room, session, handed_in):
    handed_in(EMPTY)
    view = finish(read(room, session, "/uploads/scan.pdf"))
    assert "scan.pdf has no text on any page" in view.notice and 'data-do="recognise"' in view.summary
    assert "Not read yet" in view.summary and len(room.library.entries()) == 1
    view = do(room, session, do="recognise")
    assert "Summary of the whole document" in view.summary and not view.notice


def test_stop_ends_the_recognising_and_changes_nothing(room, session, handed_in):
    finish(read(room, session, "/uploads/scan.pdf"))
    for view in handlers.recognise(room, session):
        if "recognising" in view.progress:
            handlers.stop(session)
    assert not session.busy and session.document.pages_without_text == (3, 7, 8)
    assert room.library.document(session.entry.id).pages_without_text == (3, 7, 8)


def refusing(error: Exception):
    def recognised(path, on_page, on_scan):
        raise error

    return recognised


@pytest.mark.parametrize("error, said", [
    (DocumentError("scan.pdf is damaged."), "scan.pdf is damaged."),
    (PasswordRequired("scan.pdf is protected."), "its password is not kept"),
])  # fmt: skip
def test_what_goes_wrong_is_said_and_the_summary_before_stays(
    room, session, handed_in, recogniser, error, said
):
    finish(read(room, session, "/uploads/scan.pdf"))
    finished, memory = session.finished, session.memory
    recogniser(refusing(error))
    assert said in do(room, session, do="recognise").notice
    assert session.finished is finished and session.memory is memory


def test_what_goes_wrong_with_the_librarys_copy_is_said_of_the_file(room, session, handed_in, recogniser):
    finish(read(room, session, "/uploads/scan.pdf"))

    def refused(path, on_page, on_scan):
        raise DocumentError(f"{path.name} is damaged: save it again.")

    recogniser(refused)
    assert "scan.pdf is damaged: save it again." in do(room, session, do="recognise").notice


def test_pages_in_which_nothing_is_found_are_not_read_again(room, session, handed_in, recogniser):
    finish(read(room, session, "/uploads/scan.pdf"))
    recogniser(lambda path, on_page, on_scan: SCAN)
    view = do(room, session, do="recognise")
    assert "No text was found in the pictures" in view.notice and session.memory is not None


def test_without_a_recogniser_the_command_that_installs_it_is_said(room, session, handed_in, monkeypatch):
    monkeypatch.setattr(recognising, "ocr_obstacle", lambda: "It needs more: run <pip>.")
    view = finish(read(room, session, "/uploads/scan.pdf"))
    assert "It needs more: run &lt;pip&gt;." in view.summary and 'data-do="recognise"' not in view.summary


def test_blank_pages_of_a_collection_are_named_by_file(room, session, handed_in):
    both = joined([book("a.pdf", 2, blank=(1,)), book("b.pdf", 2, blank=(1, 2))])
    session.open(room.library.add(both), both)
    view = finish(read_on(room, session))
    assert "3 of 4 pages have no text (1 of a.pdf, 1–2 of b.pdf)" in view.summary
    assert "read the scanned file by itself" in view.summary
    assert "Pages without text: 1 of a.pdf, 1–2 of b.pdf." in session.finished.receipt.sentence()


def read_on(room, session):
    return handlers.read(room, session, None, "", "", "one-shot")


def test_nothing_is_offered_where_there_is_no_file_to_look_at(room, session, handed_in):
    document = replace(SCAN, name="book.epub")
    session.open(room.library.add(document), document)
    assert recognising.offer(session) == ""
    assert "hand it in again" in do(room, session, do="recognise").notice
