"""What can be wrong with the library's disk, each told in one sentence, with nothing lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_edgeinf import atomic
from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.documents import Document, Page, read_document
from mlx_edgeinf.library import Library, LibraryError, database, schema
from mlx_edgeinf.library import files as files_home

DOCUMENT = Document("Notes.md", "1" * 64, (Page(1, "Call me Ishmael. " * 200),))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A library of one document with its original."""
    path = tmp_path / "a.txt"
    path.write_text("Call me Ishmael.")
    library = Library(tmp_path / "library")
    library.add(read_document(path), path)
    library.close()
    return tmp_path / "library"


def contents(folder: Path) -> dict[str, bytes]:
    paths = [folder / "library.sqlite", *(folder / "files").iterdir()]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def refused(folder: Path, match: str) -> None:
    """The library does not open, says so in one sentence, and everything is as it was."""
    before = contents(folder)
    with pytest.raises(LibraryError, match=match) as caught:
        Library(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert contents(folder) == before


# -- a database that cannot be used ---------------------------------------------------


def test_a_file_that_is_no_database_is_named(folder):
    (folder / "library.sqlite").write_bytes(b"Dear diary, " * 1000)
    refused(folder, "^The library's database, library.sqlite in .*, is damaged: put it back from a backup")


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_database_that_is_lost_does_not_cost_the_files_beside_it(folder, damage):
    """No row names them any more, but they are not swept away."""
    damage(folder / "library.sqlite")
    refused(folder, "has lost its database but not the files beside it: put library.sqlite back")


def test_a_page_of_the_database_that_is_damaged_is_told_when_it_is_met(folder):
    path = folder / "library.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)
    refused(folder, "is damaged: put it back from a backup")


def test_a_library_of_a_newer_version_is_left_alone(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        patch.setitem(schema.MIGRATIONS, schema.VERSION - 1, "")
        connection = sqlite3.connect(folder / "library.sqlite")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.close()
        Library(folder).close()
    refused(folder, "was made by a newer version of this program: update this program")


def test_another_programs_database_is_left_alone(tmp_path):
    (tmp_path / "files").mkdir()
    connection = sqlite3.connect(tmp_path / "library.sqlite")
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    refused(tmp_path, "belongs to another program: choose another folder")


# -- a disk that is full or cannot be written -----------------------------------------


def test_a_disk_that_is_full_keeps_the_state_before(folder):
    library = Library(folder)
    before = library.entries()
    library._db._connection.execute("PRAGMA max_page_count = 1")  # no more than there are
    with pytest.raises(LibraryError, match="^The disk is full, so the library could not save: free space on"):
        library.add(replace(DOCUMENT, pages=(Page(1, "Whale. " * 20_000),)))
    with pytest.raises(LibraryError, match="^The disk is full"):
        library.rename(before[0].id, "A" * 100_000)
    assert library.entries() == before and library.search("ishmael")
    library._db._connection.execute("PRAGMA max_page_count = 100000")
    assert library.add(DOCUMENT).name == "Notes.md"
    library.close()


def test_an_original_for_which_the_disk_is_too_small_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    path = tmp_path / "b.txt"
    path.write_text("Loomings.")
    library, document = Library(folder), read_document(path)
    before, entries = contents(folder), library.entries()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(SaveError, match="could not be written \\(No space left on device\\): free space"):
            library.add(document, path)
    assert library.entries() == entries and contents(folder).keys() == before.keys()
    library.close()


SMALL_DISK = """
mount -t tmpfs -o size=900k tmpfs {folder} && exec {python} - <<'END'
import subprocess
from pathlib import Path
from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.library import Library, LibraryError
library, kept = Library(Path({folder!r}) / "library"), []
try:
    for number in range(100):
        pages = tuple(Page(n, f"Page {{n}}. " * 999) for n in range(1, 4))
        kept.append(library.add(Document(f"{{number}}.pdf", f"{{number:064x}}", pages)))
except LibraryError as error:
    print(error)
assert library.entries() == kept[::-1] and 3 < len(kept) < 100, len(kept)
library.close()
library = Library(Path({folder!r}) / "library")
assert library.entries() == kept[::-1] and library.document(kept[0].id).pages[0].text.startswith("Page 1.")
subprocess.run(["mount", "-o", "remount,size=4m", {folder!r}], check=True)
library.delete(kept[0].id)
assert library.entries() == kept[:0:-1] and not library.search("0")
print("well")
END
"""


def test_a_real_disk_that_fills_up_is_told_and_all_is_well_once_there_is_room(tmp_path):
    script = SMALL_DISK.format(folder=str(tmp_path), python=sys.executable)
    run = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip("no small disk can be mounted here")
    told, well = run.stdout.splitlines()
    assert told.startswith("The disk is full, so the library could not save: free space") and well == "well"


@pytest.fixture
def nobody() -> Iterator[None]:
    """An ordinary user: nothing is forbidden to root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def forbidden() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    (folder / "library").mkdir()
    folder.chmod(0o555), (folder / "library").chmod(0o555)
    yield folder
    folder.chmod(0o700), (folder / "library").chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["library", "new"])
def test_a_folder_that_cannot_be_written_is_named(forbidden, name, nobody):
    """Neither one that is somebody else's, nor one that cannot be made."""
    if name == "library" and forbidden.stat().st_uid == os.geteuid():
        pytest.skip("the folder is our own: opening the library gives us the right to write")
    folder = re.escape(str(forbidden / name))
    with pytest.raises(LibraryError, match=f"^The library cannot be kept in {folder} \\(.*\\): check"):
        Library(forbidden / name)


def test_a_library_on_a_disk_made_read_only_is_told(folder):
    """As SQLite tells it, when the disk becomes so under an open library."""
    library = Library(folder)
    library._db._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(LibraryError, match="^The library in .* cannot be written: check that you may write"):
        library.add(DOCUMENT)
    library.close()


# -- two windows ----------------------------------------------------------------------


def test_two_windows_see_what_each_other_saves(folder):
    one, other = Library(folder), Library(folder)
    one.add(DOCUMENT)
    id = other.find("1" * 64).id
    other.rename(id, "Else")
    assert one.entries() == other.entries() and one.search("else")[0].document == id
    other.delete(id)
    assert len(one.entries()) == 1
    one.close(), other.close()


def test_a_window_waits_for_the_other_one_to_finish_writing(folder):
    one, other, third = Library(folder), Library(folder), Library(folder)
    with one._db.transaction():
        waiting = threading.Thread(target=other.add, args=(DOCUMENT,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and len(third.entries()) == 1
    waiting.join()
    assert len(third.entries()) == 2
    one.close(), other.close(), third.close()


def test_a_window_that_opens_does_not_sweep_away_what_another_one_is_writing(folder):
    one = Library(folder)
    with one._files.changing(), one._files.placing(".safetensors") as path:
        path.write_bytes(b"on its way")
        opening = threading.Thread(target=lambda: Library(folder).close())
        opening.start()
        opening.join(0.2)
        assert opening.is_alive() and path.exists()
    opening.join()
    assert not path.exists()  # as no row came to name it
    one.close()


def test_a_window_that_waited_long_enough_says_so(folder, monkeypatch):
    one = Library(folder)
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(files_home, "WAIT_SECONDS", 0.1)
    other = Library(folder)
    with one._db.transaction(), pytest.raises(LibraryError, match="^The library is busy in another window"):
        other.rename(1, "Else")
    with one._files.changing(), pytest.raises(LibraryError, match="^The library is busy in another window"):
        other.add(DOCUMENT)
    one.close(), other.close()


def test_many_threads_may_use_one_library_at_once(folder):
    library = Library(folder)
    documents = [Document(f"{n}.pdf", f"{n:064x}", (Page(1, f"Chapter {n}."),)) for n in range(24)]
    threads = [threading.Thread(target=library.add, args=(document,)) for document in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in library.entries()} == {"a.txt", *(d.name for d in documents)}
    library.close()


OPEN_AND_ADD = """
import sys
from pathlib import Path
from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.library import Library
for number in range(10):
    library = Library(Path(sys.argv[1]))
    library.add(Document(f"{sys.argv[2]}-{number}.pdf", sys.argv[2] * 63 + str(number), (Page(1, "x"),)))
    library.close()
"""


def test_windows_that_open_at_once_make_one_library(tmp_path):
    """Each makes the tables if it comes first, sweeps, and turns the log on and off."""
    start = lambda name: subprocess.Popen([sys.executable, "-c", OPEN_AND_ADD, str(tmp_path / "library"), name])  # noqa: E731, E501
    assert [process.wait() for process in [start(name) for name in "abc"]] == [0, 0, 0]
    library = Library(tmp_path / "library")
    assert len(library.entries()) == 30
    library.close()
