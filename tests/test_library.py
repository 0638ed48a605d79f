"""Documents in the library: kept, found, deleted."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from paged import new_store
from shelf import BOOK, OTHER, files, read, receipt

from mlx_edgeinf.chat import Turn
from mlx_edgeinf.documents import Document, Page, read_document
from mlx_edgeinf.events import Finished
from mlx_edgeinf.library import DiskUse, Library, LibraryError


@pytest.fixture
def library(tmp_path):
    library = Library(tmp_path / "library")
    yield library
    library.close()


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
    with pytest.raises(LibraryError, match="a.txt (has changed since it was read|cannot be read)"):
        library.add(document, path)
    assert not library.entries() and not files(library)


def test_a_document_can_be_renamed(library):
    entry = library.add(BOOK)
    library.rename(entry.id, " The Whale ")
    assert library.entry(entry.id).name == library.document(entry.id).name == "The Whale"
    assert library.search("whale") and not library.search("moby")
    with pytest.raises(LibraryError, match="needs a name"):
        library.rename(entry.id, "  ")


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


@pytest.mark.parametrize("kept", ["files", "pages"])
def test_a_file_that_cannot_be_removed_is_told_of_and_goes_at_a_later_start(
    engine, library, monkeypatch, kept
):
    """Nothing of the document is left in the database meanwhile, its log included."""
    id = library.add(BOOK).id
    library.save(engine, id, read(engine, tokens=50))
    pages = library.pages.of(id, "a model")
    new_store(pages).close()
    unlink = Path.unlink

    def refusing(path: Path, missing_ok: bool = False) -> None:
        if library.folder / kept in path.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refusing)
        with pytest.raises(LibraryError, match="deleted .Read-only file system.: see that you may"):
            library.delete(id)
        assert not library.entries()
        assert BOOK.pages[0].text.encode()[:40] not in bytes_of(library.folder)
        if kept == "pages":
            Library(library.folder).close()
    library.close()
    again = Library(library.folder)
    assert not files(again) and not pages.exists()
    again.close()


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
