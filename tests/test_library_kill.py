"""kill -9 at any moment: nothing that was reported saved is lost, and reading goes on to the same end."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
import pytest
import victim
from test_engine import same, state

from mlx_edgeinf.library import Library
from mlx_edgeinf.library.queries import files
from mlx_edgeinf.measure import kills

# A forked process shares what was imported; on a Mac, Metal does not survive a fork.
FORKS = sys.platform == "linux"
KILLS = 100 if FORKS else 10
# Steps that a victim is let live, and seconds into the next one.
STEPS, SECONDS = 14, 0.03
PATIENCE = 120


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: what kill -9 leaves does not depend on a disk."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    yield folder / "library"
    shutil.rmtree(folder)


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    context = multiprocessing.get_context("forkserver" if FORKS else "spawn")
    if FORKS:
        context.set_forkserver_preload(["victim"])
    return context


@pytest.fixture(scope="module")
def engine():
    engine = victim.tiny_engine()
    yield engine
    engine.close()


def whole_reading(engine, memory) -> dict[int, list[np.ndarray]]:
    """The state at each position to the end of the document, read on from where the memory stands."""
    states = {memory.position: state(memory)}
    for _ in engine.ingest(memory):
        states[memory.position] = state(memory)
    return states


def on_disk(memory) -> list[np.ndarray]:
    """Keys and values of all pages that a reading keeps for recall, by layer."""
    assert memory.has_recall and not memory.without_recall
    assert memory.pages.tokens == memory.cache[0].folded > 0
    shape, kept = memory.pages.shape, []
    for layer in range(shape.layers):
        every = np.tile(np.arange(memory.pages.pages(layer)), (shape.kv_heads, 1))
        kept += [*memory.pages.gather(layer, every), *memory.pages.waiting(layer)]
    return kept


def killed(context, folder: Path, steps: int, seconds: float) -> list[tuple[int, str, int]]:
    """What a victim told before it was killed, so many seconds after so many steps."""
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=victim.live, args=(folder, there))
    process.start()
    there.close()
    assert _next(here) == "ready"
    news = [_next(here) for _ in range(steps)]
    time.sleep(seconds)
    process.kill()
    process.join()
    assert process.exitcode == -9
    return news + list(_rest(here))


def _next(pipe: Connection):
    assert pipe.poll(PATIENCE), "the victim is stuck"
    return pipe.recv()


def _rest(pipe: Connection) -> Iterator:
    try:
        while True:
            yield _next(pipe)
    except EOFError:
        pipe.close()


def check(library: Library, told: dict[tuple[int, str], int], engine, states, pages) -> None:
    """Everything that was ever told is there, and nothing is there by half.

    states: of an unbroken reading, by position. pages: all that it keeps for recall.
    """
    entries = {int(entry.sha256, 16): entry for entry in library.entries()}
    for (number, what), much in told.items():
        if what == "deleted":
            assert number not in entries
        elif number in entries:
            assert found(library, engine, entries[number].id)[what] >= much, (number, what)
        elif number + 1 in entries:
            # The victim deletes a document once the next one is finished, and may be killed before it tells.
            assert found(library, engine, entries[number + 1].id)["turns"] == victim.TURNS
        else:
            assert number < max(entries)
    for number, entry in entries.items():
        assert library.document(entry.id) == victim.numbered(number)
        assert [summary.text for summary in library.summaries(entry.id)] in ([], ["A summary."])
        for chat in library.chats(entry.id):
            assert list(chat.turns) == [victim.turn(at) for at in range(len(chat.turns))]
        for reading in library.readings(entry.id):
            memory = library.open(engine, reading.id)
            for position, read in whole_reading(engine, memory).items():
                assert same(read, states[position])
            assert same(on_disk(memory), pages)
            for checkpoint in library.past.checkpoints(reading.id):
                assert checkpoint.position < reading.position
                # Without pages, which are of the whole reading: it is there to be asked, not to be read on.
                past = library.past.open(engine, checkpoint)
                assert same(state(past), states[checkpoint.position])


def found(library: Library, engine, id: int) -> dict[str, int]:
    """What a victim could have told of a document."""
    reading = library.reading_of(engine, id)
    return {
        "document": 1,
        "reading": reading.position if reading else 0,
        "summary": len(library.summaries(id)),
        "turns": sum(len(chat.turns) for chat in library.chats(id)),
    }


def check_disk(folder: Path) -> None:
    """Before and after the library is opened the database is whole, and then no file is without a row."""
    database = sqlite3.connect(folder / "library.sqlite")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    named, there = files(database), {path.name for path in (folder / "files").iterdir()}
    known = {str(id) for (id,) in database.execute("SELECT id FROM documents")}
    database.close()
    assert named == there
    assert {path.name.split("-")[0] for path in (folder / "pages").glob("*")} <= known


def test_whatever_is_killed_whenever_nothing_that_was_reported_saved_is_lost(
    context, folder, engine, recorded
):
    moments, told, kinds = Random(0), {}, Counter()
    unbroken = engine.open(victim.numbered(0), folder.parent / "pages")
    states, pages = whole_reading(engine, unbroken), on_disk(unbroken)
    for _ in range(KILLS):
        news = killed(context, folder, moments.randrange(STEPS), moments.uniform(0, SECONDS))
        for number, what, much in news:
            told[number, what] = max(much, told.get((number, what), 0))
        kinds[news[-1][1] if news else "nothing"] += 1
        library = Library(folder)
        check(library, told, engine, states, pages)
        library.close()
        check_disk(folder)
    documents = 1 + max(number for number, _ in told)
    assert documents > KILLS // 10 and {"reading", "turns", "document"} <= kinds.keys()
    assert {what for _, what in told} == {"document", "reading", "summary", "turns", "deleted"}
    saved = {(number, what): much for (number, what), much in told.items() if what != "deleted"}
    reported = sum(much if what == "turns" else 1 for (_, what), much in saved.items())
    if recorded:
        kills.record(recorded, dict(kinds), documents, reported)
