import errno
import json
import os
import threading
from pathlib import Path

import pytest
from paged import LAYERS, assert_holds, new_store, resumed, stored

from mlx_edgeinf.pagestore import folder as folder_module
from mlx_edgeinf.pagestore import store as store_module
from mlx_edgeinf.pagestore.errors import StoreError, StoreInUse
from mlx_edgeinf.pagestore.folder import open_locked, remove_store


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(folder_module, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def closed(tmp_path):
    """The folder of a store with 1005 tokens, which nobody has open."""
    stored(tmp_path, 1005).close()
    return tmp_path


def test_another_version_is_named(closed, monkeypatch):
    monkeypatch.setattr(folder_module, "FORMAT", 3)
    with pytest.raises(StoreError, match="another version"):
        resumed(closed)


def test_the_header_tells_people_what_the_folder_is(closed):
    fields = json.loads((closed / "header").read_text().rpartition("\n")[0])
    assert fields["magic"] == "mlx_edgeinf page store"
    assert fields["shape"]["layers"] == LAYERS


def test_removing_leaves_nothing(tmp_path):
    stored(tmp_path / "store", 500).remove()
    assert list(tmp_path.iterdir()) == []


def test_removing_spares_what_is_not_ours(closed):
    (closed / "notes.txt").touch()
    remove_store(closed)
    assert [path.name for path in closed.iterdir()] == ["notes.txt"]


def test_what_cannot_be_opened_can_be_removed(closed):
    (closed / "header").write_bytes(b"noise")
    (closed / ".checkpoint.123").touch()
    remove_store(closed)
    assert not closed.exists()


def test_what_is_left_of_a_store_whose_largest_file_was_deleted_can_be_removed(closed):
    (closed / "pages").unlink()
    remove_store(closed)
    assert not closed.exists()


def test_a_removed_store_makes_room_for_a_new_one(closed):
    remove_store(closed)
    assert_holds(stored(closed, 100), 100)


def test_what_cannot_be_removed_is_told(closed, monkeypatch):
    def forbidden(path, missing_ok=False):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", forbidden)
    with pytest.raises(StoreError, match=f"{closed} cannot be deleted .Permission denied.: see that"):
        remove_store(closed)
    assert (closed / "pages").exists()


# -- one writer, many readers ------------------------------------------------------


def test_a_store_is_written_by_one_alone(tmp_path):
    store = stored(tmp_path, 100)
    for attempt in (resumed, new_store, remove_store):
        with pytest.raises(StoreInUse, match="is in use by another window or program"):
            attempt(tmp_path)
    assert_holds(store, 100)


def test_a_store_removed_while_it_is_opened_is_not_resumed(closed, monkeypatch):
    def locked_too_late(folder):
        files = open_locked(folder)
        (folder / "pages").unlink()
        return files

    monkeypatch.setattr(store_module, "open_locked", locked_too_late)
    with pytest.raises(StoreError, match="pages was deleted or replaced"):
        resumed(closed)


def test_many_may_read_a_store_that_they_have_settled(closed):
    first = resumed(closed)
    first.settle()
    second = resumed(closed)
    second.settle()
    assert_holds(first, 1005)
    assert_holds(second, 1005)
    second.go_on()
    with pytest.raises(StoreInUse):
        first.go_on()


def test_a_store_that_is_in_use_for_a_moment_is_waited_for(closed, monkeypatch):
    monkeypatch.setattr(folder_module, "PATIENCE_SECONDS", 30.0)
    first = resumed(closed)
    first.settle()
    second = resumed(closed)
    letting_go = threading.Timer(0.2, second.settle)
    letting_go.start()
    first.go_on()
    letting_go.join()
    assert_holds(first, 1005)
