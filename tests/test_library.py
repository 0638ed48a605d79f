from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import book, llama_model, save_gates, save_model

from mlx_edgeinf import atomic
from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.chat import Turn
from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.documents import Document, Page, read_document
from mlx_edgeinf.events import Finished, Receipt
from mlx_edgeinf.library import DiskUse, Library, LibraryError

BOOK = replace(book(4), name="Moby Dick.pdf")
OTHER = Document("Notes.md", "1" * 64, (Page(1, "The harpooneer Queequeg, asleep."), Page(2, "")))


@pytest.fixture
def library(tmp_path):
    library = Library(tmp_path / "library")
    yield library
    library.close()


def receipt(**changes) -> Receipt:
    fields = dict(
        document="Moby Dick.pdf", pages=4, pages_read=4, pages_without_text=(2, 3), tokens=256,
        tokens_read=256, seconds=1.5, model="model", strategy="one-shot", stopped=False, state_bytes=1,
        peak_bytes=2,
    )  # fmt: skip
    return Receipt(**fields | changes)


def read(engine, document=BOOK, tokens: int = 10_000):
    """A memory of at least so many tokens of a document."""
    memory = engine.open(document)
    for stats in engine.ingest(memory):
        if stats.tokens >= tokens:
            break
    return memory


def files(library: Library) -> set[str]:
    return {path.name for path in (library.folder / "files").iterdir()}


def bytes_of(folder: Path) -> bytes:
    """Everything in a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# -- documents -----------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_read(library):
    entry = library.add(BOOK)
    assert (entry.name, entry.sha256, entry.pages) == ("Moby Dick.pdf", "0" * 64, 4)
    assert library.document(entry.id) == BOOK
    assert library.entries() == [library.entry(entry.id)] == [library.find("0" * 64)] == [entry]
    assert library.find("2" * 64) is None


def test_the_library_is_there_again_when_it_is_opened_again(tmp_path):
    first = Library(tmp_path / "library")
    first.add(BOOK), first.add(OTHER)
    entries = first.entries()
    first.close()
    second = Library(tmp_path / "library")
    assert second.entries() == entries and [entry.name for entry in entries] == ["Notes.md", "Moby Dick.pdf"]
    second.close()


def test_the_same_file_is_one_document_and_stays_as_it_was_read_first(library):
    entry = library.add(BOOK)
    again = library.add(replace(BOOK, name="copy.pdf", pages=(Page(1, "Otherwise."),)))
    assert again == entry and library.document(entry.id) == BOOK


def test_texts_that_are_hard_to_store_are_stored(library):
    document = Document("caf\udce9.pdf", "3" * 64, (Page(1, "a\0b \ud83d 漢字 😀"),))
    entry = library.add(document)
    assert library.document(entry.id).pages[0].text == "a\0b ? 漢字 😀"
    assert library.entry(entry.id).name == "caf?.pdf"


def test_the_original_is_copied_and_outlives_the_file(library, tmp_path):
    path = tmp_path / "Notes.MD"
    path.write_text("# Notes\n\nCall me Ishmael.")
    entry = library.add(read_document(path), path)
    path.unlink()
    assert library.original(entry.id).read_text().endswith("Ishmael.")
    assert library.original(entry.id).suffix == ".md" and entry.original_bytes == 25
    assert library.original(library.add(BOOK).id) is None


def test_an_original_can_be_added_later(library, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Call me Ishmael.")
    document = read_document(path)
    bare = library.add(document)
    whole = library.add(document, path)
    assert whole.id == bare.id and not bare.original and whole.original in files(library)
    assert library.add(document, path) == whole and len(files(library)) == 1


@pytest.mark.parametrize("change", [lambda path: path.write_text("else"), lambda path: path.unlink()])
def test_a_file_that_changed_since_it_was_read_is_not_kept(library, tmp_path, change):
    path = tmp_path / "a.txt"
    path.write_text("Call me Ishmael.")
    document = read_document(path)
    change(path)
    with pytest.raises(LibraryError, match="a.txt (has changed since it was read|cannot be opened)"):
        library.add(document, path)
    assert not library.entries() and not files(library)


def test_a_document_can_be_renamed(library):
    entry = library.add(BOOK)
    library.rename(entry.id, " The Whale ")
    assert library.entry(entry.id).name == library.document(entry.id).name == "The Whale"
    assert library.search("whale") and not library.search("moby")
    with pytest.raises(LibraryError, match="needs a name"):
        library.rename(entry.id, "  ")


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
    assert second.id == first.id and files(library) == {second.memory} != {first.memory}
    assert library.save(engine, id, early) == second == library.reading_of(engine, id)
    assert library.readings(id) == [second]


def test_other_gates_are_another_reading_and_refused_to_the_first(engine, library, model_folder, tmp_path):
    from mlx_edgeinf.engine import Engine

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
    from mlx_edgeinf.engine import Engine

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
    summary = library.finish(engine, id, Finished("A whale is hunted.", receipt(), memory))
    assert (summary.text, summary.receipt) == ("A whale is hunted.", receipt())
    assert summary.receipt.sentence().startswith("Read all 4 pages")
    assert summary.reading == library.reading_of(engine, id).id and library.summaries(id) == [summary]


def test_a_run_that_was_stopped_before_its_first_word_keeps_what_was_read(engine, library):
    id = library.add(BOOK).id
    assert library.finish(engine, id, Finished("", receipt(), read(engine, tokens=50))) is None
    assert library.finish(engine, id, Finished("", receipt(), None)) is None
    assert library.reading_of(engine, id).position >= 50 and not library.summaries(id)


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


# -- search and disk use -------------------------------------------------------------


def test_search_finds_names_pages_and_summaries(engine, library):
    library.add(OTHER)
    id = library.add(BOOK).id
    library.finish(engine, id, Finished("Queequeg the harpooneer builds a coffin.", receipt(), None))
    hits = {(hit.kind, hit.number, hit.name) for hit in library.search("HARPOON queequeg")}
    assert hits == {("page", 1, "Notes.md"), ("summary", library.summaries(id)[0].id, "Moby Dick.pdf")}
    [name] = library.search("dick")
    assert (name.kind, name.document, name.excerpt) == ("name", id, "Moby Dick.pdf")
    assert "asleep" in library.search("asleep")[0].excerpt
    assert len(library.search("queequeg", most=1)) == 1


@pytest.mark.parametrize("words", [
    "", '"', "*", "NEAR(", "a AND", "kind:page", "-", "\0", "' OR 1=1 --", "\ud83d"
])  # fmt: skip
def test_no_words_are_taken_for_the_indexs_own_language(library, words):
    library.add(OTHER)
    assert library.search(words) == []


def test_disk_use_counts_every_file(engine, library, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Call me Ishmael.")
    id = library.add(read_document(path), path).id
    assert library.disk_use(id) == DiskUse(text=16, memories=0, original=16)
    reading = library.save(engine, id, read(engine, library.document(id)))
    library.add_turn(library.begin_chat(reading.id), Turn("Who?", "I."))
    library.finish(engine, id, Finished("é", receipt(), None))
    use = library.disk_use(id)
    assert use.memories == (library.folder / "files" / reading.memory).stat().st_size
    assert use.text > 16 + 4 + 2 + 2 and use.total == use.text + use.memories + 16


# -- deletion ------------------------------------------------------------------------


def test_a_deleted_document_leaves_no_trace(engine, library, tmp_path):
    """Its words are in no file of the library, the write-ahead log and the index included."""
    path = tmp_path / "secret.txt"
    path.write_text("xylographqq " * 300 + "\n\n" + "and so on and on " * 500)
    document = read_document(path)
    kept, id = library.add(OTHER), library.add(document, path).id
    reading = library.save(engine, id, read(engine, document, tokens=40))
    library.finish(engine, id, Finished("zymurgyqq " * 20, receipt(document="secret.txt"), None))
    library.add_turn(library.begin_chat(reading.id), Turn("wherryqq?", "vexillumqq"))
    before = bytes_of(library.folder)
    words = (b"xylographqq", b"zymurgyqq", b"wherryqq", b"vexillumqq", b"secret", document.sha256.encode())
    assert all(word in before for word in words)
    library.delete(id)
    after = bytes_of(library.folder)
    assert not any(word in after for word in words) and b"Queequeg" in after
    assert not files(library) and not library.search("xylographqq") and library.entries() == [kept]


def test_what_belongs_to_a_deleted_document_is_refused(engine, library):
    id = library.add(BOOK).id
    memory = read(engine, tokens=50)
    reading = library.save(engine, id, memory)
    chat = library.begin_chat(reading.id)
    library.delete(id)
    for use in (
        lambda: library.document(id), lambda: library.entry(id), lambda: library.delete(id),
        lambda: library.open(engine, reading.id), lambda: library.save(engine, id, memory),
        lambda: library.add_turn(chat, Turn("Who?", "I.")), lambda: library.begin_chat(reading.id),
        lambda: library.finish(engine, id, Finished("A.", receipt(), None)),
    ):  # fmt: skip
        with pytest.raises(LibraryError, match="^This document is no longer in the library"):
            use()
    assert not files(library)


def test_a_document_that_is_being_read_is_not_deleted(library):
    id = library.add(BOOK).id
    with library.under_way(id), pytest.raises(LibraryError, match="^Moby Dick.pdf is being read at this"):
        library.delete(id)
    library.delete(id)
    assert not library.entries()


def test_files_that_no_row_names_are_swept_away_at_start(engine, library):
    reading = library.save(engine, library.add(BOOK).id, read(engine, tokens=50))
    (library.folder / "files" / "a killed process wrote this").touch()
    library.close()
    again = Library(library.folder)
    assert files(again) == {reading.memory} and again.open(engine, reading.id).position == reading.position
    again.close()


# -- the house -----------------------------------------------------------------------


def test_another_user_of_the_machine_sees_nothing(tmp_path):
    (tmp_path / "library").mkdir(mode=0o755)
    library = Library(tmp_path / "library")
    library.close()
    assert (tmp_path / "library").stat().st_mode & 0o777 == 0o700


def test_the_library_is_in_the_users_data_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    library = Library()
    library.close()
    assert tmp_path in library.folder.parents and library.folder.parts[-2:] == ("mlx_edgeinf", "library")


def test_the_library_opens_without_mlx():
    """The page lists it at once, seconds before a model could be loaded."""
    code = "import sys, mlx_edgeinf.library; sys.exit(any(name.startswith('mlx.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_digest_of_a_document_is_that_of_its_file(tmp_path):
    """`add` compares the copy of the original with it."""
    path = tmp_path / "a.txt"
    path.write_text("Call me Ishmael.")
    assert read_document(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
