"""What goes wrong with the pages of a reading is told, and it is read and answered without them."""

from __future__ import annotations

import errno
import gc
import math
import shutil
from contextlib import closing
from dataclasses import replace
from itertools import islice
from threading import Event

import pytest
from test_engine_recall import BOOK, answered, id_of, library, memory, recalling, stores  # noqa: F401

from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.library import LibraryError, Reader
from mlx_edgeinf.library import reader as reading
from mlx_edgeinf.pagestore import PageStore
from mlx_edgeinf.pagestore.errors import DiskFull
from mlx_edgeinf.pagestore.pages import SPARE_BYTES
from mlx_edgeinf.pagestore.records import RecordFile
from mlx_edgeinf.recall import summarize
from mlx_edgeinf.savefile import WITHOUT_RECALL

# Fixtures among what is imported are named again where they are used.
# ruff: noqa: F811


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
    assert again.complete and again.has_recall and not again.pages.failure


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
    assert not again.has_recall and answered(recalling, again)
    assert again.without_recall == WITHOUT_RECALL


def test_a_damaged_page_is_told_and_the_memory_answers(recalling, memory, tmp_path):
    path = tmp_path / "pages" / "pages"
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    assert answered(recalling, memory)
    assert "is damaged" in memory.without_recall and not memory.has_recall


@pytest.mark.parametrize("harm", ["removed", "cut short", "another's", "in use"])
def test_pages_that_cannot_be_used_are_told_when_the_memory_is_opened(recalling, memory, tmp_path, harm):
    folder, file = tmp_path / "pages", tmp_path / "memory"
    recalling.save(memory, file)
    if harm == "removed":
        shutil.rmtree(folder)
    if harm == "cut short":
        (folder / "pages").write_bytes((folder / "pages").read_bytes()[:5000])
    if harm == "another's":
        list(recalling.ingest(recalling.open(replace(BOOK, sha256="another"), folder)))
    if harm == "in use":
        memory.pages.go_on()
    opened = recalling.restore(file, BOOK, folder)
    assert not opened.has_recall and "without exact recall" in opened.refused
    assert answered(recalling, opened)


@pytest.fixture
def stopped(recalling, library, monkeypatch) -> Reader:
    """A reader whose reading was stopped after five segments, and saved."""
    reader, cancel = Reader(library, recalling, id_of(library)), Event()
    for number, _ in enumerate(reader.ingest(reader.open(reader.document), cancel), 1):
        if number == 5:
            cancel.set()
    return reader


def full(*_):
    raise SaveError("The disk is full.")


def test_a_reading_waits_for_pages_that_it_can_have_another_time(recalling, library, stopped):
    """Read on without them, it would have none to the end."""
    (folder,) = stores(library)
    with closing(PageStore.resume(folder, 10**9, summarize)):
        memory = stopped.open(stopped.document)
        assert not memory.has_recall and answered(recalling, memory)
        with pytest.raises(LibraryError, match=r"^book.pdf cannot be read on now\. .* in use by another"):
            list(stopped.ingest(memory))
    memory = stopped.open(stopped.document)
    list(stopped.ingest(memory))
    assert memory.complete and memory.has_recall


def test_what_was_read_is_recalled_though_the_disk_is_full(recalling, library, stopped, monkeypatch):
    monkeypatch.setattr("mlx_edgeinf.pagestore.sealed.replacing", full)
    memory = stopped.open(stopped.document)
    assert memory.has_recall and memory.position and answered(recalling, memory)


def test_a_reading_that_cannot_be_saved_lets_go_of_its_pages_at_once(recalling, library, monkeypatch):
    """Held by the error that is told, they would be settled in the midst of the next try."""
    monkeypatch.setattr(reading, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(reading, "SHARE", math.inf)
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    with monkeypatch.context() as patch:
        patch.setattr(library, "save", full)
        with pytest.raises(SaveError) as told:
            list(reader.ingest(memory))
    steps = reader.ingest(memory)
    next(steps)
    del told
    gc.collect()
    list(steps)
    assert memory.complete and memory.has_recall and stores(library)


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
    assert "The last answer came without exact recall" in memory.without_recall and memory.has_recall
    list(steps)
    assert library.open(recalling, library.reading_of(recalling, id_of(library)).id).has_recall
    assert answered(recalling, memory) and not memory.without_recall


def refusing(**_):
    raise OSError(errno.EMFILE, "Too many open files")


def test_nobody_writes_over_what_another_window_has_read(recalling, memory, tmp_path):
    other = PageStore.resume(tmp_path / "pages", 10**9, lambda keys: keys[:, :, ::4])
    other.truncate(16)
    other.close()
    memory.tokens = [*memory.tokens, memory.tokens[-1]]
    list(recalling.ingest(memory))
    assert "was written to by another window" in memory.without_recall


def test_a_later_failure_is_told_beside_an_earlier_one(recalling, library):
    reader = Reader(library, recalling, id_of(library))
    memory = reader.open(reader.document)
    reader.problem = "The memory was damaged."
    assert reader.trouble(memory) == reader.trouble(None) == "The memory was damaged."
    memory.pages.failure = DiskFull("No room.")
    assert reader.trouble(memory).split(" Answers")[0] == "The memory was damaged."
    assert reader.trouble(memory).endswith("without exact recall from now on. No room.")
