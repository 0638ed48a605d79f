from __future__ import annotations

from threading import Event

import numpy as np
import pytest
from tiny import book

from mlx_edgeinf import engine as home
from mlx_edgeinf.chat import Turn, ask
from mlx_edgeinf.pieces import Piece
from mlx_edgeinf.turns import Prompter, Turns

HISTORY = (Turn("Who?", "A sailor."), Turn("Where?", "At sea."))


@pytest.fixture(scope="module")
def memory(engine):
    memory = engine.open(book(4))
    list(engine.ingest(memory))
    return memory


@pytest.fixture
def prompts(engine, monkeypatch) -> list[str]:
    """What is read after the document."""
    read, generate = [], home.stream_generate

    def watched(model, tokenizer, prompt, *args, **options):
        read.append(tokenizer.decode(prompt))
        return generate(model, tokenizer, prompt, *args, **options)

    monkeypatch.setattr(home, "stream_generate", watched)
    return read


def answer(engine, memory, question: str = "Why?", history=(), **options) -> list[str]:
    turns = list(ask(engine, memory, question, history, max_tokens=8, **options))
    assert {(turn.question, turn.page) for turn in turns} <= {(question, options.get("page"))}
    return [turn.answer for turn in turns]


def test_the_conversation_so_far_is_part_of_the_prompt(engine, memory, prompts):
    answer(engine, memory, history=HISTORY)
    assert prompts == [
        "Who?\n\nAnswer: A sailor.\n\nQuestion: Where?\n\nAnswer: At sea.\n\nQuestion: Why?\n\nAnswer: "
    ]


def test_the_opening_is_read_before_the_document_and_only_there(engine, memory, prompts, monkeypatch):
    monkeypatch.setattr(Turns, "of", lambda _: Turns("<open>", "<answer>", "<question>"))
    monkeypatch.setattr(engine, "_prompter", Prompter(engine._tokenizer))
    assert engine._tokenizer.decode(engine.open(book(1)).tokens[:6]) == "<open>"
    answer(engine, memory)
    list(engine.generate(["Why?"], max_tokens=1))
    assert prompts == ["Why?<answer>", "<open>Why?<answer>"]


def test_the_history_changes_the_answer(engine, memory):
    assert answer(engine, memory, history=HISTORY)[-1] != answer(engine, memory)[-1]


def test_conversations_never_see_each_other(engine, memory):
    before = [np.array(layer.local.keys) for layer in memory.cache]
    alone = answer(engine, memory)
    answer(engine, memory, "Quite another question?", HISTORY)
    assert answer(engine, memory) == alone and memory.complete
    assert all(np.array_equal(keys, layer.local.keys) for keys, layer in zip(before, memory.cache))


def test_questions_asked_at_the_same_time_are_answered_as_if_alone(engine, memory):
    alone = [answer(engine, memory, question) for question in ("Why?", "When?")]
    pair = zip(*(ask(engine, memory, question, max_tokens=8) for question in ("Why?", "When?")))
    assert [[turn.answer for turn in turns] for turns in zip(*pair)] == alone


def test_answers_carry_no_space_around_them(engine, memory, monkeypatch):
    pieces = [Piece(text, 1) for text in (" ", " A", " sailor.\n")]
    monkeypatch.setattr(engine, "answer", lambda *args: iter(pieces))
    assert answer(engine, memory) == ["", "A", "A sailor."]


def test_pages_that_were_looked_up_are_told_by_their_numbers(engine, memory, monkeypatch):
    pieces = [Piece("A", 1), Piece(" sailor.", 1, 2, "stop", consulted=(3, 0))]
    monkeypatch.setattr(engine, "answer", lambda *args: iter(pieces))
    assert [turn.consulted for turn in ask(engine, memory, "Who?")] == [(), (4, 1)]


def test_nothing_that_was_said_with_more_known_goes_along(engine, memory, prompts):
    answer(engine, memory, history=(Turn("Who?", "A sailor.", 2), Turn("Where?", "At sea.")), page=3)
    assert prompts == ["Who?\n\nAnswer: A sailor.\n\nQuestion: Why?\n\nAnswer: "]


def test_a_question_can_be_stopped(engine, memory):
    cancel = Event()
    words = ask(engine, memory, "Why?", cancel=cancel, max_tokens=50)
    next(words)
    cancel.set()
    assert list(words) == []


def test_what_was_stopped_before_its_first_word_is_not_gone_on_about(engine, memory):
    unanswered = Turn("What is this?", "")
    assert answer(engine, memory, "Why?", [unanswered, *HISTORY]) == answer(engine, memory, "Why?", HISTORY)


def test_what_was_only_partly_read_can_be_asked(engine):
    memory = engine.open(book(4))
    for stats in engine.ingest(memory):
        if stats.pages == 2:
            break
    assert answer(engine, memory)[-1] and memory.pages_read == 2
