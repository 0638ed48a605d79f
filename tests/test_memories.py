from __future__ import annotations

from dataclasses import replace
from threading import Event

import pytest
from tiny import book

from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.documents import Page
from mlx_edgeinf.library import Library, LibraryError, Reader, reader
from mlx_edgeinf.pagestore import folder
from mlx_edgeinf.server.memories import Memories

BOOK = book(6)
OWN = 6 * 64


@pytest.fixture
def entry(library):
    return library.add(BOOK)


@pytest.fixture(autouse=True)
def saved_after_every_segment(monkeypatch):
    monkeypatch.setattr(reader, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(reader, "SHARE", 1e9)


@pytest.fixture
def memories(library, engine):
    return Memories(library, engine, most=4)


@pytest.fixture
def elsewhere(library, engine):
    """Another window's reader of the book."""
    other = Library(library.folder)
    yield lambda: Reader(other, engine, other.entries()[0].id)
    other.close()


def asked(memories: Memories, entry, stop_at: int = 10_000) -> tuple[list[int], object]:
    """Where the segments that were read ended, and the memory."""
    cancel, ends = Event(), []
    with memories.using(entry) as place:
        for stats in place.read(cancel):
            ends.append(stats.tokens)
            if stats.tokens >= stop_at:
                cancel.set()
        return ends, place.memory


def test_a_memory_stays_open_for_the_next_question(memories, entry):
    _, first = asked(memories, entry)
    ends, second = asked(memories, entry)
    assert ends == [] and second is first and first.position == OWN


def test_what_another_window_read_meanwhile_is_not_read_again(memories, entry, elsewhere):
    """The client of the first question went away."""
    asked(memories, entry, stop_at=100)
    reader = elsewhere()
    for _ in reader.ingest(reader.open(reader.document)):
        pass
    ends, memory = asked(memories, entry)
    assert ends == [] and memory.position == OWN


def test_a_memory_opened_while_another_window_reads_is_let_go_of(
    memories, entry, elsewhere, engine, monkeypatch
):
    """It has no pages on disk: reading on with it would delete them."""
    monkeypatch.setattr(engine, "recall_bytes", 10**9)
    monkeypatch.setattr(folder, "PATIENCE_SECONDS", 0.0)
    reader = elsewhere()
    reading = reader.ingest(reader.open(reader.document))
    next(reading), next(reading)
    with pytest.raises(LibraryError, match="is being read at this moment"):
        asked(memories, entry)
    for _ in reading:
        pass
    ends, memory = asked(memories, entry)
    assert ends == [] and memory.position == OWN and memory.has_recall


def test_a_text_that_was_revised_is_read_as_it_is_now(memories, entry, library):
    _, before = asked(memories, entry)
    pages = (Page(1, "Recognised: " + BOOK.pages[0].text), *BOOK.pages[1:])
    library.revise(entry.id, replace(BOOK, pages=pages))
    ends, after = asked(memories, entry)
    assert ends and after.document.pages == pages and after.tokens != before.tokens


def test_a_document_that_was_deleted_elsewhere_answers_no_more(memories, entry, library):
    asked(memories, entry)
    library.delete(entry.id)
    with pytest.raises(LibraryError, match="no longer in the library"):
        asked(memories, entry)


def test_a_reading_that_a_segment_tore_is_begun_from_what_was_saved(memories, entry, engine, monkeypatch):
    reading = engine._read_segment

    def torn(memory):
        reading(memory)
        memory.position -= 1
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_read_segment", torn)
        for _ in range(2):
            with pytest.raises((RuntimeError, SaveFileError)):
                asked(memories, entry)
    ends, memory = asked(memories, entry)
    assert ends[-1] == memory.position == OWN and all(layer.tokens == OWN for layer in memory.cache)


def test_what_could_not_be_saved_is_not_read_again(memories, entry, library, monkeypatch):
    def full(*_, **__):
        raise SaveError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(library, "save", full)
        with pytest.raises(SaveError):
            asked(memories, entry)
    with memories.using(entry) as place:
        read = place.memory.position
    ends, memory = asked(memories, entry)
    assert read and (not ends or ends[0] > read) and memory.position == OWN
