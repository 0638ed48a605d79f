from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from test_engine import last, same, state
from test_growing import begun
from tiny import book, document

from mlx_edgeinf import engine as engine_module
from mlx_edgeinf.document_memory import DocumentMemory
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library, Reader

BOOK, QUESTION = book(8), ["Who is it about?"]
PAGES = len(BOOK.pages)


@pytest.fixture
def recalling(engine, monkeypatch) -> Engine:
    """An engine whose readings may take a gigabyte on disk."""
    monkeypatch.setattr(engine, "recall_bytes", 10**9)
    return engine


@pytest.fixture
def library(library):
    library.add(BOOK)
    return library


@pytest.fixture
def memory(recalling, tmp_path) -> DocumentMemory:
    """A book that was read with its pages."""
    memory = recalling.open(BOOK, tmp_path / "pages")
    list(recalling.ingest(memory))
    return memory


def id_of(library: Library) -> int:
    return library.entries()[0].id


def stores(library: Library) -> list[Path]:
    folder = library.folder / "pages"
    return list(folder.iterdir()) if folder.exists() else []


def answered(engine: Engine, memory: DocumentMemory) -> str:
    return last(engine.generate(QUESTION, memory, 24))


# -- answering -----------------------------------------------------------------------


def test_the_words_of_all_questions_name_what_comes_back(recalling, memory, monkeypatch):
    """Or those of what is said to be asked in them."""
    asked, named = [], recalling._lexicon.named
    monkeypatch.setattr(recalling._lexicon, "named", lambda *told: asked.append(told) or named(*told))
    texts, questions = ["Be brief. Who?", "He.", "And why?"], ["Who?", "And why?"]
    list(recalling.generate(texts, memory, 1))
    for options in ({}, {"asked": questions}, {"asked": []}):
        list(recalling.answer(texts, memory, 1, **options))
    expected = (texts[::2], texts[::2], questions, [])
    assert asked == [(memory.tokens, each, memory.cache[0].recall) for each in expected]


def test_what_is_named_comes_back_in_every_layer(recalling, memory, monkeypatch):
    pages = np.array([3, 1])
    monkeypatch.setattr(recalling._lexicon, "named", lambda *_: pages)
    cache = recalling._run(lambda: recalling._cache_after(memory, QUESTION, 8))
    assert all(layer.recall.named is pages for layer in cache)
    assert not any(layer.recall.named.size for layer in memory.cache)


# -- reading and keeping -------------------------------------------------------------


def test_a_branch_reads_on_as_the_reading_would(recalling, tmp_path):
    """And looks nothing up before it is asked."""
    memory = recalling.open(begun(BOOK, 3), tmp_path / "pages", growing=True)
    list(recalling.ingest(memory))
    branch = recalling.branch(memory, BOOK.pages[3:4])
    whole = recalling.open(begun(BOOK, 4), tmp_path / "whole")
    for each in (branch, whole):
        list(recalling.ingest(each))
    assert same(state(branch), state(whole))
    assert not any(layer.recall.consulted for layer in branch.cache)
    *_, end = recalling.answer(QUESTION, branch, 24)
    assert end.consulted and not branch.without_recall
    assert branch.pages is branch.cache[0].recall.pages is not memory.pages
    list(recalling.ingest(memory))
    assert answered(recalling, branch) and not branch.without_recall and not memory.without_recall


def test_what_leaves_the_window_is_on_disk_and_is_asked(recalling, memory):
    stats = recalling.stats(memory)
    assert memory.has_recall and stats.disk_bytes == stats.disk_bytes_total > 0
    assert memory.pages.tokens == memory.cache[0].folded
    without = recalling.open(BOOK)
    list(recalling.ingest(without))
    assert not without.has_recall and recalling.stats(without).disk_bytes == 0
    assert answered(recalling, memory) != answered(recalling, without)


def test_a_short_document_needs_no_pages(recalling, tmp_path):
    memory = recalling.open(book(1), tmp_path / "pages")
    assert not memory.has_recall and not memory.refused and not (tmp_path / "pages").exists()


def test_what_fits_only_without_an_answer_has_pages_too(recalling, tmp_path, monkeypatch):
    """Its beginning is folded while it is asked about."""
    monkeypatch.setattr(engine_module, "ANSWER_TOKENS", 120)
    memory = recalling.open(document("x" * 20), tmp_path / "pages")
    assert len(memory.tokens) < memory.cache[0].capacity and memory.has_recall
    list(recalling.ingest(memory))
    assert answered(recalling, memory) and not memory.without_recall


def test_an_answer_names_the_pages_that_it_went_back_to(recalling, memory, monkeypatch):
    for layer in memory.cache:
        monkeypatch.setattr(layer.recall, "_tokens", 16)
    *pieces, end = recalling.answer(QUESTION, memory, 24)
    assert not any(piece.consulted for piece in pieces)
    assert 0 < len(end.consulted) <= 5 and set(end.consulted) <= set(range(PAGES))
    without = recalling.open(BOOK)
    list(recalling.ingest(without))
    assert not any(piece.consulted for piece in recalling.answer(QUESTION, without, 24))


def test_an_answer_leaves_the_pages_as_they_were(recalling, memory):
    before = memory.pages.tokens
    assert answered(recalling, memory) == answered(recalling, memory)
    assert memory.pages.tokens == before and memory.has_recall


@pytest.mark.parametrize("segments", [0, 1, 9, 17])
def test_stopped_saved_and_read_on_is_read_at_once(recalling, memory, tmp_path, segments):
    folder, file = tmp_path / "other pages", tmp_path / "memory"
    first = recalling.open(BOOK, folder)
    list(islice(recalling.ingest(first), segments))
    recalling.save(first, file)
    # Read on beyond what was saved, as when a process is killed before its next checkpoint.
    list(islice(recalling.ingest(first), 2))
    second = recalling.restore(file, BOOK, folder)
    list(recalling.ingest(second))
    assert second.has_recall and same(state(second), state(memory))
    assert answered(recalling, second) == answered(recalling, memory)


def test_a_reading_can_go_on_after_it_was_stopped(recalling, memory, tmp_path):
    stopped = recalling.open(BOOK, tmp_path / "other pages")
    list(islice(recalling.ingest(stopped), 5))
    assert answered(recalling, stopped)
    list(recalling.ingest(stopped))
    assert stopped.has_recall and same(state(stopped), state(memory))


# -- in the library --------------------------------------------------------------------


def test_the_library_keeps_pages_finds_them_again_and_deletes_them(recalling, library):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    list(reader.ingest(memory))
    (store,) = stores(library)
    assert library.disk_use(id_of(library)).pages == sum(file.stat().st_size for file in store.iterdir())
    reading = library.reading_of(recalling, id_of(library))
    again = library.open(recalling, reading.id)
    assert again.has_recall and answered(recalling, again) == answered(recalling, memory)
    library.delete(id_of(library))
    assert not stores(library)
    # What is open stays whole until it is closed.
    assert answered(recalling, again)


def test_the_pages_of_a_reading_are_there_when_the_library_is_opened_again(recalling, library):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    list(reader.ingest(memory))
    answer = answered(recalling, memory)
    # As when the program has ended: nobody holds the store any more.
    memory.pages.close()
    library.close()
    with closing(Library(library.folder)) as later:
        assert stores(later)
        again = later.open(recalling, later.reading_of(recalling, id_of(later)).id)
        assert again.has_recall and answered(recalling, again) == answer


def test_pages_of_no_reading_are_swept_away_unless_they_are_being_written(recalling, library):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    Library(library.folder).close()
    assert stores(library)
    steps = recalling.ingest(memory)
    next(steps)
    Library(library.folder).close()
    assert stores(library)
    list(steps)
    Library(library.folder).close()
    assert not stores(library)


def test_with_recall_off_a_memory_opens_without_its_pages(recalling, library, monkeypatch):
    reader = Reader(library, recalling, id_of(library))
    list(reader.ingest(reader.open(reader.document)))
    monkeypatch.setattr(recalling, "recall_bytes", 0)
    memory = library.open(recalling, library.reading_of(recalling, id_of(library)).id)
    assert not memory.has_recall and not memory.refused and answered(recalling, memory)
