"""Eight documents at once in one engine: fair turns, no crossed words, memory that is bounded, given back."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlx.core as mx
from tiny import document, sequence

from mlx_edgeinf import chat
from mlx_edgeinf.documents import Document
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.events import Finished, Reading
from mlx_edgeinf.summarize import summarize

READERS, PAGES = 8, 8
TOKENS = 64 * PAGES


def books() -> list[Document]:
    """Documents of as many tokens, none of them like another."""
    return [
        replace(document(*(page(100 * reader + number) for number in range(PAGES))), name=f"{reader}.pdf")
        for reader in range(READERS)
    ]


def page(seed: int) -> str:
    return bytes((97 + sequence(62, seed) % 26).tolist()).decode()


def read_and_ask(engine: Engine, book: Document, at: dict[str, int], start: threading.Barrier) -> list[str]:
    """The summary and an answer; `at` is told how far the reading is."""
    start.wait(60)
    for event in summarize(engine, book, max_tokens=12):
        match event:
            case Reading(stats):
                at[book.name] = stats.tokens
            case Finished(memory=memory, summary=summary):
                turns = list(chat.ask(engine, memory, "Who is it about?", max_tokens=12))
    return [summary, turns[-1].answer]


def test_eight_readers_take_fair_turns_and_do_not_hear_each_other(engine):
    alone = [read_and_ask(engine, book, {}, threading.Barrier(1)) for book in books()]
    slowest: list[int] = []

    class Watched(dict):
        def __setitem__(self, name: str, tokens: int) -> None:
            super().__setitem__(name, tokens)
            if tokens >= TOKENS and not slowest:
                slowest.append(min(self.values()) if len(self) == READERS else 0)

    at, start = Watched(), threading.Barrier(READERS)
    with ThreadPoolExecutor(READERS) as pool:
        together = list(pool.map(lambda book: read_and_ask(engine, book, at, start), books()))
    assert together == alone and len({summary for summary, _ in alone}) == READERS
    # When the first is through, the last one is not far behind: nobody waited for another to finish.
    assert slowest[0] > TOKENS / 2


def test_eight_documents_take_eight_constant_states_and_give_them_back(engine):
    before = in_use()
    memories = [engine.open(book) for book in books()]
    readings = [engine.ingest(memory) for memory in memories]
    turns = list(zip(*readings))
    taken = [max(stats.active_bytes for stats in turn) - before for turn in turns]
    state, half = turns[-1][0].state_bytes, len(turns) // 2
    assert READERS * state <= max(taken) < 3 * READERS * state
    # It does not grow with what is read.
    assert max(taken[half:]) <= max(taken[:half]) + state
    del memories, readings
    assert in_use() - before < state


def in_use() -> int:
    """Bytes of MLX that something still holds."""
    gc.collect()
    return mx.get_active_memory()
