"""Readings, summaries and chats in the library."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from shelf import BOOK, files, read, receipt
from tiny import llama_model, save_gates, save_model

from mlx_edgeinf import atomic
from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.chat import Turn
from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.documents import Page, read_document
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.events import Finished
from mlx_edgeinf.library import Library, LibraryError, Reader
from mlx_edgeinf.library.database import Database


@pytest.fixture
def library(tmp_path):
    library = Library(tmp_path / "library")
    yield library
    library.close()


# -- readings ------------------------------------------------------------------------


def test_a_reading_goes_on_where_it_was_saved(engine, library):
    id = library.add(BOOK).id
    half = read(engine, tokens=100)
    saved = library.save(engine, id, half)
    assert (saved.position, saved.tokens, saved.complete) == (half.position, 256, False)
    assert saved.pages_read == 1 and saved.whole and saved.model == "model" and saved.seconds == half.seconds
    opened = library.open(engine, saved.id)
    assert opened.position == half.position and opened.document == BOOK
    assert list(engine.ingest(opened))[-1].tokens == 256
    answer = list(engine.generate(["Who?"], opened, 8))[-1]
    assert answer == list(engine.generate(["Who?"], read(engine), 8))[-1]


def test_a_later_state_takes_the_place_of_an_earlier_one_and_never_the_other_way(engine, library):
    id = library.add(BOOK).id
    early, late = read(engine, tokens=50), read(engine, tokens=150)
    first = library.save(engine, id, early)
    second = library.save(engine, id, late)
    assert second.id == first.id and files(library) == {second.memory, first.memory}
    assert [each.memory for each in library.past.checkpoints(first.id)] == [first.memory]
    assert library.save(engine, id, early) == second == library.reading_of(engine, id)
    assert library.readings(id) == [second]


def test_other_gates_are_another_reading_and_refused_to_the_first(engine, library, model_folder, tmp_path):
    id = library.add(BOOK).id
    saved = library.save(engine, id, read(engine))
    gates = save_gates(model_folder, tmp_path / "gates", sinks=2, window=8, segment=8, features=5)
    other = Engine(str(model_folder), str(gates))
    assert library.reading_of(other, id) is None
    with pytest.raises(LibraryError, match="^Moby Dick.pdf was read by model, with another layout and"):
        library.open(other, saved.id)
    again = library.save(other, id, read(other))
    assert library.readings(id) == [saved, again] and library.reading_of(engine, id) == saved
    other.close()


def test_another_model_is_refused(engine, library, tmp_path):
    saved = library.save(engine, library.add(BOOK).id, read(engine))
    model = llama_model()
    model.model.norm.weight = model.model.norm.weight + 1
    folder = save_model(model, tmp_path / "larger")
    gates = save_gates(folder, tmp_path / "gates", sinks=2, window=16, segment=16, features=4)
    other = Engine(str(folder), str(gates))
    with pytest.raises(LibraryError, match="with another base model than those of larger now: choose that"):
        library.open(other, saved.id)
    other.close()


def test_a_damaged_memory_is_named(engine, library):
    saved = library.save(engine, library.add(BOOK).id, read(engine))
    path = library.folder / "files" / saved.memory
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SaveFileError, match="^The saved memory of Moby Dick.pdf is damaged: read"):
        library.open(engine, saved.id)


def test_a_memory_that_cannot_be_read_at_the_moment_is_not_given_up(engine, library, monkeypatch):
    id = library.add(BOOK).id
    saved = library.save(engine, id, read(engine))
    path, opened = library.folder / "files" / saved.memory, Path.open

    def too_many(self: Path, *args, **kwargs):
        if self == path:
            raise OSError(24, "Too many open files")
        return opened(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", too_many)
        reader = Reader(library, engine, id)
        with pytest.raises(LibraryError, match="Moby Dick.pdf could not be read .Too many open files"):
            reader.open(reader.document)
    assert reader.open(reader.document).complete and library.reading_of(engine, id) == saved


@pytest.mark.parametrize("ending", ["safetensors", "md"], ids=["a memory", "the original"])
def test_a_disk_that_cannot_be_read_is_not_taken_for_the_one_that_is_written(
    engine, library, tmp_path, monkeypatch, ending
):
    path, open_file = tmp_path / "Moby Dick.md", Path.open
    path.write_text(BOOK.text)
    document = replace(BOOK, name=path.name, sha256=read_document(path).sha256)
    id = library.add(document, path).id
    library.save(engine, id, read(engine, document))

    class Failing(io.BytesIO):
        def read(self, count: int) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(8)

    def failing(path: Path, mode: str = "r", **how) -> io.IOBase:
        ours = path.parent.name == "files" and path.suffix == f".{ending}" and mode == "rb"
        return Failing(b"a file that ends too soon") if ours else open_file(path, mode, **how)

    monkeypatch.setattr(Path, "open", failing)
    words = f"{ending}, which .*files keeps of Moby Dick.md, cannot be read .Input/output error.: check that"
    with pytest.raises(LibraryError, match=words):
        library.export(id, tmp_path / "book.zip", with_original=True)
    assert not [path for path in tmp_path.iterdir() if "book.zip" in path.name]


def test_ctrl_c_while_a_save_is_committed_loses_nothing(engine, library, monkeypatch):
    """The row names the new file by then, and the old one goes at the next start."""
    id = library.add(BOOK).id
    library.save(engine, id, read(engine, tokens=50))
    transaction, memory = Database.transaction, read(engine)

    @contextmanager
    def interrupted(self: Database, kind: str = "IMMEDIATE"):
        with transaction(self, kind) as db:
            yield db
        if kind == "IMMEDIATE":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", interrupted)
        with pytest.raises(KeyboardInterrupt):
            library.save(engine, id, memory)
    library.close()
    again = Library(library.folder)
    assert again.open(engine, again.reading_of(engine, id).id).complete
    again.close()


def test_a_save_that_fails_leaves_the_state_before(engine, library, monkeypatch):
    id = library.add(BOOK).id
    before = library.save(engine, id, read(engine, tokens=50))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(SaveError, match="No space left on device.*What was there before is unchanged"):
            library.save(engine, id, read(engine))
    assert library.readings(id) == [before] and files(library) == {before.memory}
    assert library.open(engine, before.id).position == before.position


# -- summaries and chats -------------------------------------------------------------


def test_a_summary_is_kept_with_its_receipt_and_the_memory_it_was_asked_of(engine, library):
    id, memory = library.add(BOOK).id, read(engine)
    reading = library.finish(engine, id, Finished("A whale is hunted.", receipt(), memory))
    [summary] = library.summaries(id)
    assert (summary.text, summary.receipt) == ("A whale is hunted.", receipt())
    assert summary.receipt.sentence().startswith("Read all 4 pages")
    assert reading == library.reading_of(engine, id) and summary.reading == reading.id


def test_a_run_that_was_stopped_before_its_first_word_keeps_what_was_read(engine, library):
    id = library.add(BOOK).id
    reading = library.finish(engine, id, Finished("", receipt(), read(engine, tokens=50)))
    assert library.finish(engine, id, Finished("", receipt(), None)) is None
    assert library.reading_of(engine, id) == reading and reading.position >= 50
    assert not library.summaries(id)


def test_the_memory_of_a_part_is_a_reading_of_its_own(engine, library):
    """What the chat asks after part by part, or after the beginning only."""
    id, part = library.add(BOOK).id, replace(BOOK, pages=(Page(1, "The parts, summarised."),))
    library.finish(engine, id, Finished("In short.", receipt(), read(engine, part)))
    assert library.reading_of(engine, id) is None
    [reading] = library.readings(id)
    assert not reading.whole and library.open(engine, reading.id).document == part


def test_chats_are_kept_turn_by_turn(engine, library):
    id = library.add(BOOK).id
    reading = library.save(engine, id, read(engine)).id
    turns = [Turn("Who?", "Ishmael."), Turn("Where? \ud83d", "At sea.")]
    chat, other = library.begin_chat(reading), library.begin_chat(reading)
    for turn in turns:
        library.add_turn(chat, turn)
    kept = library.chats(id)
    assert [chat.turns for chat in kept] == [(turns[0], Turn("Where? ?", "At sea.")), ()]
    assert [c.id for c in kept] == [chat, other] and {c.reading for c in kept} == {reading}
