from __future__ import annotations

import pytest
from pages import any_path_is_a_book, finish, opened, read, until  # noqa: F401

from mlx_edgeinf.ui import handlers

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


def test_there_is_nothing_to_ask_until_something_was_read(room, session):
    view = finish(handlers.ask(room, session, "What is it about?"))
    assert not view.question["interactive"] and not session.turns
    assert "Once something was read" in view.chat


def test_there_is_nothing_to_ask_while_a_document_is_read(room, session):
    finish(read(room, session))
    view = until(read(room, session, "/uploads/next.pdf"), lambda view: "Reading next.pdf" in view.progress)
    assert not view.question["interactive"] and not view.ask["interactive"]


def test_an_answer_grows_and_the_question_field_is_emptied(room, session):
    finish(read(room, session))
    views = list(handlers.ask(room, session, "Who is it about?"))
    assert views[0].question["value"] == ""
    assert all("value" not in view.question for view in views[1:])
    lengths = [len(view.chat) for view in views]
    assert lengths == sorted(lengths) and lengths[-1] > lengths[0] + 20
    assert "after 0 others, of 12 pages" in views[-1].chat


def test_earlier_questions_go_along(room, session):
    finish(read(room, session))
    finish(handlers.ask(room, session, "First?"))
    assert "after 1 others" in finish(handlers.ask(room, session, "Second?")).chat


def test_an_answer_can_be_stopped_and_what_was_said_stays(room, session):
    finish(read(room, session))
    views = handlers.ask(room, session, "Who is it about?")
    running = until(views, lambda view: "You asked" in view.chat)
    assert running.stop_answer["visible"] and not running.ask["visible"]
    handlers.stop(session)
    last = finish(views)
    assert "You asked" in last.chat and "pages read" not in last.chat
    assert last.ask["visible"] and not last.stop_answer["visible"]


def test_another_document_starts_another_chat(room, session):
    finish(read(room, session))
    finish(handlers.ask(room, session, "Who is it about?"))
    assert "Who is it about?" not in finish(read(room, session, "/uploads/next.pdf")).chat


def test_each_turn_is_in_the_library_as_it_ended(room, session):
    finish(read(room, session))
    finish(handlers.ask(room, session, "First?"))
    [chat] = room.library.chats(session.entry.id)
    assert chat.turns == tuple(session.turns)
    views = handlers.ask(room, session, "Second?")
    until(views, lambda view: "You asked “Second?”" in view.chat)
    handlers.stop(session)
    finish(views)
    [chat] = room.library.chats(session.entry.id)
    assert chat.turns == tuple(session.turns) and len(chat.turns) == 2


def test_a_chat_goes_on_where_it_was(room, session):
    finish(read(room, session))
    finish(handlers.ask(room, session, "First?"))
    later, view = opened(room)
    assert "First?" in view.chat and view.question["interactive"]
    assert "after 1 others, of 12 pages" in finish(handlers.ask(room, later, "Second?")).chat
    [chat] = room.library.chats(later.entry.id)
    assert [turn.question for turn in chat.turns] == ["First?", "Second?"]


def test_summarising_again_keeps_the_chat(room, session):
    finish(read(room, session))
    finish(handlers.ask(room, session, "First?"))
    view = finish(read(room, session))
    assert "First?" in view.chat and session.turns and not session.earlier


def test_questions_to_another_memory_are_shown_but_do_not_go_along(room, session):
    finish(read(room, session))
    finish(handlers.ask(room, session, "First?"))
    finish(read(room, session, strategy="truncate"))
    assert [(turn.question, turn.page) for turn in session.earlier] == [("First?", None)]
    assert session.turns == []
    view = finish(handlers.ask(room, session, "Second?"))
    assert "First?" in view.chat and "after 0 others, of 3 pages" in view.chat


def test_an_answer_about_a_document_that_was_deleted_meanwhile_is_shown(room, session):
    finish(read(room, session))
    room.library.delete(session.entry.id)
    view = finish(handlers.ask(room, session, "Who is it about?"))
    assert "no longer in the library" in view.notice and "of 12 pages read" in view.chat
