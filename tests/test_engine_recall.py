from __future__ import annotations

import errno
import math
import shutil
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from test_engine import last, same, state
from test_growing import begun
from tiny import book

from mlx_edgeinf.document_memory import DocumentMemory
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library, Reader
from mlx_edgeinf.library import reader as reading
from mlx_edgeinf.pagestore import PageStore
from mlx_edgeinf.pagestore.errors import DiskFull
from mlx_edgeinf.pagestore.pages import SPARE_BYTES
from mlx_edgeinf.pagestore.records import RecordFile
from mlx_edgeinf.savefile import WITHOUT_RECALL

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


def test_the_words_of_all_questions_name_what_comes_back_in_every_layer(recalling, memory, monkeypatch):
    asked, pages = [], np.array([3, 1])
    monkeypatch.setattr(recalling._lexicon, "named", lambda *told: asked.append(told) or pages)
    cache = recalling._run(lambda: recalling._cache_after(memory, ["Who?", "He.", "And why?"], 8))
    assert asked == [(memory.tokens, ["Who?", "And why?"], memory.cache)]
    assert all(layer.recall.named is pages for layer in cache)
    assert not any(layer.recall.named.size for layer in memory.cache)


# -- reading and keeping -------------------------------------------------------------


def test_a_branch_reads_on_as_the_reading_would(recalling, tmp_path):
    """And looks nothing up before it is asked."""
    memory = recalling.open(begun(BOOK, 3), tmp_path / "pages", growing=True)
    list(recalling.ingest(memory))
    branch, whole = recalling.branch(memory, BOOK.pages[3:4]), recalling.open(begun(BOOK, 4))
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
    assert memory.recalls and stats.disk_bytes == stats.disk_bytes_total > 0
    assert memory.pages.tokens == memory.cache[0].folded
    without = recalling.open(BOOK)
    list(recalling.ingest(without))
    assert not without.recalls and recalling.stats(without).disk_bytes == 0
    assert answered(recalling, memory) != answered(recalling, without)


def test_a_short_document_needs_no_pages(recalling, tmp_path):
    memory = recalling.open(book(1), tmp_path / "pages")
    assert not memory.recalls and not memory.refused and not (tmp_path / "pages").exists()


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
    assert memory.pages.tokens == before and memory.recalls


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
    assert second.recalls and same(state(second), state(memory))
    assert answered(recalling, second) == answered(recalling, memory)


def test_a_reading_can_go_on_after_it_was_stopped(recalling, memory, tmp_path):
    stopped = recalling.open(BOOK, tmp_path / "other pages")
    list(islice(recalling.ingest(stopped), 5))
    assert answered(recalling, stopped)
    list(recalling.ingest(stopped))
    assert stopped.recalls and same(state(stopped), state(memory))


# -- in the library --------------------------------------------------------------------


def test_the_library_keeps_pages_finds_them_again_and_deletes_them(recalling, library):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    list(reader.ingest(memory))
    (store,) = stores(library)
    assert library.disk_use(id_of(library)).pages == sum(file.stat().st_size for file in store.iterdir())
    reading = library.reading_of(recalling, id_of(library))
    again = library.open(recalling, reading.id)
    assert again.recalls and answered(recalling, again) == answered(recalling, memory)
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
        assert again.recalls and answered(recalling, again) == answer


def test_pages_of_no_reading_are_swept_away_unless_they_are_being_written(recalling, library):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
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
    assert not memory.recalls and not memory.refused and answered(recalling, memory)


# -- faults: told, and read and answered without ------------------------------------------


def test_a_document_that_would_take_too_much_is_read_without(recalling, library, monkeypatch):
    monkeypatch.setattr(recalling, "recall_bytes", 1000)
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    assert "would take" in reader.problem and "1 kB are allowed" in reader.problem
    assert "start with --recall-gb 1, delete the document" in reader.problem
    list(reader.ingest(memory))
    assert memory.complete and answered(recalling, memory) and not stores(library)


@pytest.fixture
def filled(recalling, library, monkeypatch):
    """Say how much of the disk is free, in bytes; nobody says how much of it pages may take."""
    monkeypatch.setattr(recalling, "recall_bytes", None)
    usage = shutil.disk_usage(library.folder)
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(free)))


@pytest.mark.parametrize("free, allowed", [(5e9, 8e9), (400e9, 100e9)])
def test_a_quarter_of_what_is_free_is_allowed_if_nobody_says(recalling, library, filled, free, allowed):
    filled(free)
    reader = Reader(library, recalling, id_of(library))
    assert reader.open(reader.document).pages.quota_bytes == allowed


def test_what_was_allowed_in_the_beginning_is_allowed_to_the_end(recalling, filled, tmp_path, monkeypatch):
    monkeypatch.setattr("mlx_edgeinf.recall.document.USUAL_BYTES", 1000)
    folder, file = tmp_path / "pages", tmp_path / "memory"
    filled(400e9)
    memory = recalling.open(BOOK, folder)
    list(islice(recalling.ingest(memory), 5))
    recalling.save(memory, file)
    monkeypatch.setattr("mlx_edgeinf.recall.document.SHARE_OF_FREE", 1e-9)
    assert "1 kB are allowed" in recalling.open(BOOK, tmp_path / "others").refused
    again = recalling.restore(file, BOOK, folder)
    assert again.pages.quota_bytes == again.pages.forecast(len(again.tokens))
    list(recalling.ingest(again))
    assert again.complete and again.recalls and not again.pages.failure


def test_a_disk_without_room_for_all_of_it_is_told_before_reading(recalling, library, monkeypatch):
    usage = shutil.disk_usage(library.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=SPARE_BYTES + 1000))
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    assert "left for other programs, so it is read without. To have it, free space" in reader.problem
    list(reader.ingest(memory))
    assert memory.complete and answered(recalling, memory) and not stores(library)


@pytest.mark.parametrize("between", [30.0, 0.0], ids=["saved at the end", "saved all the time"])
def test_a_disk_that_fills_up_ends_the_recall_and_not_the_reading(recalling, library, monkeypatch, between):
    monkeypatch.setattr(reading, "SECONDS_BETWEEN", between)
    monkeypatch.setattr(reading, "SHARE", math.inf)
    write = RecordFile.write

    def filling(self, layer, page, payloads):
        if page > 10:
            raise DiskFull("The disk has no room.")
        write(self, layer, page, payloads)

    monkeypatch.setattr(RecordFile, "write", filling)
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    list(reader.ingest(memory))
    assert memory.complete and "The disk has no room." in memory.without_recall
    assert answered(recalling, memory) and not stores(library)
    again = library.open(recalling, library.reading_of(recalling, id_of(library)).id)
    assert not again.recalls and answered(recalling, again)
    assert again.without_recall == WITHOUT_RECALL


def test_a_damaged_page_is_told_and_the_memory_answers(recalling, memory, tmp_path):
    path = tmp_path / "pages" / "pages"
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    assert answered(recalling, memory)
    assert "is damaged" in memory.without_recall and not memory.recalls


@pytest.mark.parametrize("harm", ["removed", "cut short", "another's", "in use"])
def test_pages_that_cannot_be_used_are_told_when_the_memory_is_opened(recalling, memory, tmp_path, harm):
    folder, file = tmp_path / "pages", tmp_path / "memory"
    recalling.save(memory, file)
    if harm == "removed":
        shutil.rmtree(folder)
    if harm == "cut short":
        (folder / "pages").write_bytes((folder / "pages").read_bytes()[:5000])
    if harm == "another's":
        memory = recalling.open(book(9), folder)
    if harm == "in use":
        memory.pages.go_on()
    opened = recalling.restore(file, BOOK, folder)
    assert not opened.recalls and "without exact recall" in opened.refused
    assert answered(recalling, opened)


def test_a_folder_that_goes_while_it_is_open_is_told_at_the_next_question(recalling, memory, tmp_path):
    shutil.rmtree(tmp_path / "pages")
    assert answered(recalling, memory)
    assert "No temporary file could be made" in memory.without_recall


def test_an_answer_that_gets_no_files_of_its_own_ends_no_recall_but_its_own(recalling, library, monkeypatch):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    steps = reader.ingest(memory)
    while not memory.cache[0].folded:
        next(steps)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", refusing)
        assert answered(recalling, memory)
    assert "The last answer came without exact recall" in memory.without_recall and memory.recalls
    list(steps)
    assert library.open(recalling, library.reading_of(recalling, id_of(library)).id).recalls
    assert answered(recalling, memory) and not memory.without_recall


def refusing(**_):
    raise OSError(errno.EMFILE, "Too many open files")


def test_nobody_writes_over_what_another_window_has_read(recalling, memory, tmp_path):
    other = PageStore.resume(tmp_path / "pages", 10**9, lambda keys: keys[:, :, ::4])
    other.truncate(16)
    other.close()
    memory.position -= 1
    list(recalling.ingest(memory))
    assert "was written to by another window" in memory.without_recall
