from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from serving import WHALE, about, client_of, served, until

from mlx_edgeinf import engine as engine_module
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.pieces import Piece
from mlx_edgeinf.server import app
from mlx_edgeinf.server.answers import until as up_to
from mlx_edgeinf.server.jobs import Jobs
from mlx_edgeinf.server.wire import Ended

ASK = [{"role": "user", "content": "Who swam?"}]


class Gate:
    """Lets segments be read one by one, and knows where each began."""

    def __init__(self, monkeypatch) -> None:
        self.begun, self._passes, self._open = [], threading.Semaphore(0), False
        read = Engine._read_segment

        def waiting(engine, memory):
            self.begun.append(memory.position)
            if not self._open:
                self._passes.acquire(timeout=30)
            read(engine, memory)

        monkeypatch.setattr(Engine, "_read_segment", waiting)

    def open(self) -> None:
        self._open = True
        self._passes.release(1000)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


@pytest.fixture
def small_queue(monkeypatch):
    """One request at a time, one that waits; the jobs that were begun."""
    begun = []

    class Small(Jobs):
        def __init__(self):
            super().__init__(at_once=1, waiting=1)

        def begin(self, work):
            begun.append(super().begin(work))
            return begun[-1]

    monkeypatch.setattr(app, "Jobs", Small)
    return begun


@pytest.fixture
def client(engine, tmp_path):
    with served(engine, tmp_path / "library") as address, client_of(address) as client:
        yield client


@pytest.fixture
def whale(client):
    return client.files.create(file=("whale.txt", WHALE), purpose="user_data").id


def leave_plain(ask, messages, **options) -> None:
    with pytest.raises(openai.APITimeoutError):
        ask(messages, timeout=1, **options)


def leave_stream(ask, messages, **options) -> None:
    stream = ask(messages, stream=True, **options)
    # The first chunk only says whose turn it is.
    chunks = iter(stream)
    next(chunks)
    if options:
        next(chunks)
    # As long as `leave_plain` waits: by then the work has begun.
    threading.Event().wait(1)
    stream.close()


LEAVING = pytest.mark.parametrize("leave", [leave_plain, leave_stream], ids=["plain", "stream"])


@LEAVING
def test_a_client_that_leaves_ends_the_reading_which_goes_on_for_the_next(leave, gate, ask, whale):
    leave(ask, about(whale))
    until(lambda: gate.begun)
    threading.Event().wait(0.5)
    for _ in range(3):
        gate._passes.release()
    threading.Event().wait(1)
    assert 1 <= len(gate.begun) <= 2
    gate.open()
    answer = ask(about(whale))
    assert gate.begun == sorted(set(gate.begun)) and len(gate.begun) > 20
    assert answer.usage.prompt_tokens_details.cached_tokens > 0


@LEAVING
def test_a_client_that_leaves_ends_the_answer(leave, ask, monkeypatch):
    pieces, ended, answer = [], threading.Event(), Engine.answer

    def counted(self, *arguments):
        try:
            for piece in answer(self, *arguments):
                pieces.append(piece)
                yield piece
        finally:
            ended.set()

    monkeypatch.setattr(Engine, "answer", counted)
    leave(ask, ASK, max_tokens=60_000)
    assert ended.wait(10) and 0 < len(pieces) < 60_000 and pieces[-1].finish_reason is None


def test_a_client_that_leaves_while_it_waits_is_never_worked_for(small_queue, gate, ask, whale, client):
    other = client.files.create(file=("other.txt", WHALE[::-1]), purpose="user_data").id
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(ask, about(whale))
        until(lambda: gate.begun)
        leave_plain(ask, about(other))
        until(lambda: small_queue[1].cancel.is_set())
        # Nor does it keep others out.
        second = clients.submit(ask, ASK)
        until(lambda: len(small_queue) == 3)
        gate.open()
        assert first.result().usage.completion_tokens == second.result().usage.completion_tokens == 8
    cached = ask(about(other)).usage.prompt_tokens_details.cached_tokens
    assert cached == 0 and len(small_queue) == 4


def test_a_full_queue_is_told_and_has_room_again(small_queue, gate, ask, whale):
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(ask, about(whale)) for _ in range(2)]
        until(lambda: len(small_queue) == 2)
        with pytest.raises(openai.RateLimitError, match="2 requests are being answered or waiting") as full:
            ask(ASK)
        assert full.value.response.headers["retry-after"] and full.value.code == "rate_limit_exceeded"
        gate.open()
        first, second = (answer.result() for answer in answers)
    assert first.choices[0].message == second.choices[0].message
    assert ask(ASK).choices[0].message.content


def test_two_who_ask_about_a_new_document_at_once_have_it_read_once(gate, ask, whale):
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(ask, about(whale)) for _ in range(2)]
        until(lambda: gate.begun)
        gate.open()
        assert len({answer.result().choices[0].message.content for answer in answers}) == 1
    assert gate.begun == sorted(set(gate.begun))


def test_a_short_question_does_not_wait_for_a_long_text(ask, monkeypatch):
    fed, read_on = [], engine_module.read_on
    monkeypatch.setattr(engine_module, "read_on", lambda *given: fed.append(1) or read_on(*given))
    text, ended = WHALE.decode() * 40, threading.Event()

    def read_long() -> None:
        ask([{"role": "user", "content": text}])
        ended.set()

    with ThreadPoolExecutor(1) as clients:
        long = clients.submit(read_long)
        until(lambda: fed)
        ask(ASK)
        assert not ended.is_set() and len(fed) < len(text) // 16 // 2
        long.result()
    assert len(fed) > len(text) // 16 - 16


def test_a_stream_tells_how_far_the_reading_is(client, engine, whale):
    body = {"model": engine.name, "messages": about(whale), "stream": True, "max_tokens": 2}
    told = client.post("/chat/completions", body=body, cast_to=str)
    assert ": read 0 of 1 page" in told and ": read 1 of 1 pages" in told and told.endswith("[DONE]\n\n")


def test_a_document_that_is_read_elsewhere_is_a_conflict(client, engine, ask, whale, tmp_path):
    from mlx_edgeinf.library import Library

    library = Library(tmp_path / "library")
    with library.under_way(library.entries()[0].id):
        with pytest.raises(openai.ConflictError, match="whale.txt is being read at this moment"):
            ask(about(whale))
        with pytest.raises(openai.APIError, match="whale.txt is being read at this moment"):
            list(ask(about(whale), stream=True))
        with pytest.raises(openai.ConflictError):
            client.files.delete(whale)
    assert ask(about(whale)).usage.completion_tokens == 8


def test_silence_is_broken_so_that_nobody_gives_up(monkeypatch):
    from mlx_edgeinf.server import jobs

    monkeypatch.setattr(jobs, "SILENCE_SECONDS", 0.05)
    go = threading.Event()

    async def watched() -> list:
        items = []
        async for item in Jobs().begin(lambda cancel: iter([go.wait(10), "said"])).items():
            items.append(item)
            if len(items) == 2:
                go.set()
        return items

    items = asyncio.run(watched())
    assert items[:2] == [None, None] and items[-2:] == [True, "said"]


@pytest.mark.parametrize(
    "texts, stops, expected",
    [
        (["ab", "cd", "ef"], ["de"], "abc"),
        (["ab", "cd", "ef"], ["xy"], "abcdef"),
        (["ab", "cd"], [], "abcd"),
        (["abab", "c"], ["abc", "ba"], "a"),
        (["end"], ["end"], ""),
    ],
    ids=["across pieces", "none comes", "none", "the first place counts", "all of it"],
)
def test_what_may_begin_a_stop_is_held_back(texts, stops, expected):
    pieces = [Piece(text, 3, n) for n, text in enumerate(texts, 1)] + [Piece("", 3, 9, "length")]
    *said, ended = up_to(iter(pieces), stops)
    assert "".join(said) == expected
    reason = "stop" if any(stop in "".join(texts) for stop in stops) else "length"
    assert isinstance(ended, Ended) and ended.reason == reason
