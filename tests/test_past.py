from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from shelf import BOOK, files, read, receipt
from test_engine import same, state
from tiny import book

from mlx_edgeinf.chat import Turn, known_by
from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.documents import Page
from mlx_edgeinf.events import Finished
from mlx_edgeinf.library import Checkpoint, Library, LibraryError, past, schema
from mlx_edgeinf.library.past import MOST, latest_by, thinned

LONG = replace(book(20), name="Moby Dick.pdf")


@pytest.fixture
def library(tmp_path):
    library = Library(tmp_path / "library")
    yield library
    library.close()


def saved_on_the_way(library, engine, document=LONG, every: int = 64):
    """A reading that was saved about every page; its row."""
    id, memory = library.add(document).id, engine.open(document)
    due = every
    for stats in engine.ingest(memory):
        if stats.tokens >= due:
            library.save(engine, id, memory)
            due += every
    return library.save(engine, id, memory)


def at(page: int, bytes: int = 1) -> Checkpoint:
    return Checkpoint(0, 1, page, page, f"{page}", bytes)


# -- which are kept ------------------------------------------------------------------


def test_a_long_reading_keeps_a_few_checkpoints_evenly_spread():
    kept: list[Checkpoint] = []
    for page in range(1, 500):
        kept = thinned([*kept, at(page)], page + 1)
        pages = [0, *(each.page for each in kept), page + 1]
        gaps = [after - before for before, after in zip(pages, pages[1:])]
        assert len(kept) == min(page, MOST)
        assert max(gaps) <= 2.5 * (page + 1) / (len(kept) + 1)
    assert all(before.page < after.page for before, after in zip(kept, kept[1:]))


def test_large_memories_leave_room_for_fewer():
    kept: list[Checkpoint] = []
    for page in range(1, 50):
        kept = thinned([*kept, at(page, past.MOST_BYTES // 3)], page + 1)
    assert len(kept) == 3 and thinned([at(1, past.MOST_BYTES + 1)], 2) == []


def test_the_latest_that_knows_nothing_beyond_a_page_is_found():
    some = [at(10), at(20), at(30)]
    assert latest_by(some, 25).page == 20 and latest_by(some, 30).page == 30 and latest_by(some, 9) is None


# -- in the library ------------------------------------------------------------------


def test_what_a_save_replaces_becomes_a_checkpoint_and_files_are_only_those_that_rows_name(library, engine):
    reading = saved_on_the_way(library, engine)
    kept = library.past.checkpoints(reading.id)
    assert len(kept) == MOST and files(library) == {reading.memory, *(each.memory for each in kept)}
    assert all(each.memory_bytes == size_of(library, each.memory) for each in kept)
    pages = [0, *(each.page for each in kept), 20]
    assert max(after - before for before, after in zip(pages, pages[1:])) <= 5
    total = reading.memory_bytes + sum(each.memory_bytes for each in kept)
    assert library.disk_use(reading.document).memories == total


def size_of(library, name: str) -> int:
    return (library.folder / "files" / name).stat().st_size


def test_a_checkpoint_is_the_memory_as_it_was_and_knows_no_later_page(library, engine):
    reading = saved_on_the_way(library, engine)
    for checkpoint in library.past.checkpoints(reading.id):
        opened = library.past.open(engine, checkpoint)
        assert opened.position == checkpoint.position <= opened.page_ends[checkpoint.page - 1]
        assert opened.position > opened.page_ends[checkpoint.page - 2] or checkpoint.page == 1
        assert same(state(opened), state(read(engine, LONG, tokens=checkpoint.position)))


def test_saving_twice_on_one_page_keeps_one_checkpoint_of_it(library, engine):
    reading = saved_on_the_way(library, engine, BOOK, every=16)
    pages = [each.page for each in library.past.checkpoints(reading.id)]
    assert pages == [1, 2, 3, 4]


def test_other_texts_than_the_whole_have_no_checkpoints(library, engine):
    library.add(LONG)
    part = replace(LONG, pages=LONG.pages[:6])
    id, memory = library.entries()[0].id, engine.open(part)
    for _ in engine.ingest(memory):
        reading = library.save(engine, id, memory)
    assert not reading.whole and library.past.checkpoints(reading.id) == [] and len(files(library)) == 1


def test_checkpoints_go_with_their_document(library, engine):
    reading = saved_on_the_way(library, engine)
    library.delete(reading.document)
    assert not files(library) and library.past.checkpoints(reading.id) == []


def test_checkpoints_are_still_there_when_the_library_is_opened_again(library, engine):
    kept = library.past.checkpoints(saved_on_the_way(library, engine).id)
    (library.folder / "files" / "a killed process wrote this").touch()
    library.close()
    again = Library(library.folder)
    assert again.past.checkpoints(kept[0].reading) == kept and len(files(again)) == MOST + 1
    again.close()


def test_a_damaged_checkpoint_is_named_and_removed_and_the_others_stay(library, engine):
    reading = saved_on_the_way(library, engine)
    first, *others = library.past.checkpoints(reading.id)
    (library.folder / "files" / first.memory).write_bytes(b"rubbish")
    with pytest.raises(SaveFileError, match=f"^The memory as of page {first.page} is damaged and was"):
        library.past.open(engine, first)
    assert library.past.checkpoints(reading.id) == others and first.memory not in files(library)
    assert library.past.open(engine, others[0]).position == others[0].position
    assert library.open(engine, reading.id).complete
    with pytest.raises(LibraryError, match=f"^The memory as of page {first.page} is no longer kept: open"):
        library.past.open(engine, first)


def test_a_memory_that_was_given_up_as_damaged_is_no_checkpoint(library, engine):
    id, memory = library.add(LONG).id, read(engine, LONG, tokens=200)
    saved = library.save(engine, id, memory)
    library.begin_again(saved.id)
    library.save(engine, id, memory)
    assert library.past.checkpoints(saved.id) == [] and saved.memory not in files(library)


def test_checkpoints_are_not_exported(library, engine, tmp_path):
    reading = saved_on_the_way(library, engine)
    library.export(reading.document, tmp_path / "book.edgeinf")
    library.delete(reading.document)
    entry = library.take_over(tmp_path / "book.edgeinf")
    [taken] = library.readings(entry.id)
    assert library.past.checkpoints(taken.id) == [] and len(files(library)) == 1


# -- turns ---------------------------------------------------------------------------


def test_the_page_a_question_was_asked_as_of_is_kept_and_exported(library, engine, tmp_path):
    id = library.add(BOOK).id
    library.finish(engine, id, Finished("In short.", receipt(), read(engine)))
    turns = (Turn("Who?", "Ishmael.", 2), Turn("Where?", "At sea."))
    chat = library.begin_chat(library.readings(id)[0].id)
    for turn in turns:
        library.add_turn(chat, turn)
    assert library.chats(id)[0].turns == turns
    library.export(id, tmp_path / "book.edgeinf")
    library.delete(id)
    assert library.chats(library.take_over(tmp_path / "book.edgeinf").id)[0].turns == turns


def test_nothing_that_was_said_with_more_known_goes_along():
    turns = [Turn("1", "", 10), Turn("2", ""), Turn("3", "", 20), Turn("4", "", 30)]
    assert [turn.question for turn in known_by(turns, 20)] == ["1", "3"]
    assert known_by(turns, None) == turns


# -- libraries of the first version ---------------------------------------------------


def as_of_version_1(folder) -> None:
    """Take a library back to what the first version made."""
    connection = sqlite3.connect(folder / "library.sqlite")
    connection.executescript(
        "DROP TABLE checkpoints; DROP TABLE provenance; ALTER TABLE turns DROP COLUMN page;"
        "ALTER TABLE turns DROP COLUMN consulted;"
        "PRAGMA user_version = 1;"
    )
    connection.close()


def test_a_library_of_the_first_version_keeps_everything(library, engine):
    id = library.add(BOOK).id
    library.finish(engine, id, Finished("In short.", receipt(), read(engine)))
    library.add_turn(library.begin_chat(library.readings(id)[0].id), Turn("Who?", "Ishmael."))
    library.close()
    as_of_version_1(library.folder)
    with pytest.raises(sqlite3.OperationalError, match="no such table: checkpoints"):
        with sqlite3.connect(library.folder / "library.sqlite") as old:
            old.execute("SELECT * FROM checkpoints")
    again = Library(library.folder)
    assert again.document(id).pages == BOOK.pages
    assert again.summaries(id)[0].text == "In short." and again.readings(id)[0].complete
    assert again.chats(id)[0].turns == (Turn("Who?", "Ishmael."),)
    again.add_turn(again.chats(id)[0].id, Turn("When?", "Then.", 3, (2, 1)))
    assert again.chats(id)[0].turns[1] == Turn("When?", "Then.", 3, (2, 1))
    reading = saved_on_the_way(again, engine, replace(LONG, sha256="5" * 64))
    assert len(again.past.checkpoints(reading.id)) == MOST
    again.close()


def test_a_migration_that_fails_leaves_the_version_before(library, monkeypatch):
    library.add(replace(BOOK, pages=(Page(1, "Call me Ishmael."),)))
    library.close()
    as_of_version_1(library.folder)
    with monkeypatch.context() as patch:
        patch.setitem(schema.MIGRATIONS, 1, schema.MIGRATIONS[1] + "ALTER TABLE nowhere ADD COLUMN x;")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            Library(library.folder)
    again = Library(library.folder)
    assert again.search("ishmael") and again.past.checkpoints(1) == []
    again.close()
