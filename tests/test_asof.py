"""Asking as of a page: handlers called as the page calls them."""

from __future__ import annotations

import pytest
from pages import any_path_is_a_book, do, finish, opened, read, until  # noqa: F401

from mlx_edgeinf.library import past, reader
from mlx_edgeinf.ui import handlers

pytestmark = pytest.mark.usefixtures("any_path_is_a_book", "checkpoints")


@pytest.fixture
def checkpoints(monkeypatch) -> None:
    """One at every page at first."""
    monkeypatch.setattr(reader, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(reader, "SHARE", 1e9)


def ask(room, session, question: str):
    return finish(handlers.ask(room, session, question))


def pages(session) -> list[int]:
    return [each.page for each in session.checkpoints]


def test_the_end_and_a_few_pages_can_be_chosen(room, session):
    view = finish(read(room, session))
    assert len(pages(session)) == past.MOST and max(pages(session)) <= 12
    assert view.chat.count('data-do="as-of"') == past.MOST + 1
    assert 'data-page="0" aria-pressed="true">the end</button>' in view.chat


def test_an_answer_comes_from_the_memory_as_of_the_page_and_says_so(room, session):
    finish(read(room, session))
    page = pages(session)[2]
    view = do(room, session, do="as-of", page=str(page))
    assert f"memory as it was in pages 1–{page}: what comes later is not in it" in view.chat
    assert f'data-page="{page}" aria-pressed="true"' in view.chat
    view = ask(room, session, "Who did it?")
    assert f"of {page - 1} pages read" in view.chat and f"Asked as of page {page}</p>" in view.chat
    assert session.turns[-1].page == page
    do(room, session, do="as-of", page="0")
    view = ask(room, session, "And in the end?")
    assert "of 12 pages read" in view.chat and session.turns[-1].page is None


def test_nothing_said_of_later_pages_goes_along(room, session):
    finish(read(room, session))
    ask(room, session, "How does it end?")
    early, late = pages(session)[1], pages(session)[4]
    do(room, session, do="as-of", page=str(late))
    assert "after 0 others" in ask(room, session, "Who?").chat
    do(room, session, do="as-of", page=str(early))
    assert "after 0 others" in ask(room, session, "Where?").chat.split("Where?")[-1]
    do(room, session, do="as-of", page=str(late))
    assert "after 2 others" in ask(room, session, "When?").chat.split("When?")[-1]


def test_the_page_of_a_turn_is_there_after_reopening(room, session):
    finish(read(room, session))
    page = pages(session)[0]
    do(room, session, do="as-of", page=str(page))
    ask(room, session, "Who did it?")
    later, view = opened(room)
    assert f"Asked as of page {page}</p>" in view.chat and later.as_of is None
    assert pages(later) == pages(session)


def test_a_damaged_checkpoint_is_told_and_the_end_can_still_be_asked(room, session):
    finish(read(room, session))
    first, *others = session.checkpoints
    (room.library.folder / "files" / first.memory).write_bytes(b"rubbish")
    view = do(room, session, do="as-of", page=str(first.page))
    assert f"The memory as of page {first.page} is damaged and was removed" in view.notice
    assert list(session.checkpoints) == others and session.as_of is None
    assert "of 12 pages read" in ask(room, session, "Who did it?").chat


def test_a_page_that_is_no_longer_kept_changes_nothing(room, session):
    finish(read(room, session))
    view = do(room, session, do="as-of", page="999")
    assert session.as_of is None and 'data-page="0" aria-pressed="true"' in view.chat


def test_there_is_no_choice_while_reading_and_none_without_checkpoints(room, session):
    view = until(read(room, session), lambda view: "<strong>6</strong>" in view.progress)
    assert "as-of" not in view.chat
    session.close()


def test_part_by_part_there_is_only_the_end(room, session):
    assert "as-of" not in finish(read(room, session, strategy="map-reduce")).chat
