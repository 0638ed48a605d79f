"""Processes that end, disks that fill up: real ones, in child processes."""

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paged import LAYERS, PAGE, PAGE_0, TEXT, assert_holds, extend, new_store, resumed, stored

from mlx_edgeinf.pagestore import records, sealed
from mlx_edgeinf.pagestore.errors import DiskFull, StoreDamaged, StoreError, StoreInUse
from mlx_edgeinf.pagestore.records import STRIPE

HERE = Path(__file__).parent
ROUNDS = 8


def child(code: str, folder: Path) -> subprocess.Popen:
    """Python code in a process of its own, with the tests' helpers and `folder`."""
    start = f"from pathlib import Path\nfrom paged import *\nfolder = Path({str(folder)!r})\n"
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.Popen(
        [sys.executable, "-u", "-c", start + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


APPEND_FOR_EVER = """
import random
store = resumed(folder)
print("ready", flush=True)
while True:
    if store.tokens > 5000:
        print(0, flush=True)
        store.truncate(random.randrange(1000))
        print(store.tokens, flush=True)
    extend(store, random.randrange(1, 300))
    if random.random() < 0.3:
        store.sync()
        print(store.tokens, flush=True)
"""


def test_a_reading_killed_at_any_moment_goes_on(tmp_path):
    """With all of what was synced, and nothing that is wrong."""
    stored(tmp_path, 100).close()
    found, choice = [], random.Random(5)
    for _ in range(ROUNDS):
        process = child(APPEND_FOR_EVER, tmp_path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(choice.uniform(0, 0.15))
        process.kill()
        output, _ = process.communicate()
        # A last line may itself be cut off by the kill.
        told = [int(line) for line in output.split("\n")[:-1]]
        store = resumed(tmp_path)
        assert store.tokens >= (told or [0])[-1]
        found.append(store.tokens)
        assert_holds(store, store.tokens)
        store.close()
    assert len(set(found)) > ROUNDS // 3


def test_a_crash_of_the_machine_that_loses_any_part_of_the_tail_is_survived(tmp_path):
    """What was not synced may be there in part, in any order."""
    store, rng = stored(tmp_path, 700), np.random.default_rng(1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    extend(store, 900)
    store.close()
    after = {path: path.read_bytes() for path in before}
    for _ in range(20):
        for path, old in before.items():
            new = np.frombuffer(after[path], np.uint8)
            old = np.frombuffer(old.ljust(len(new), b"\0"), np.uint8)
            blocks = rng.random(len(new) // 4096 + 1) < rng.choice([0, 0.5, 0.9, 0.99, 1])
            path.write_bytes(np.where(np.repeat(blocks, 4096)[: len(new)], new, old).tobytes())
        store = resumed(tmp_path)
        assert_holds(store, store.tokens)
        assert 700 <= store.tokens <= 1600
        store.close()


def test_pages_of_before_a_cut_never_mix_with_those_of_after(tmp_path):
    """Layer 0 was written anew, layer 1 still holds what was read before: neither is the next page."""
    store = stored(tmp_path, 1000)
    store.truncate(500)
    other = -TEXT
    for layer in range(LAYERS - 1):
        store.append(layer, *other[layer, :, :, 500:1000])
    store.close()
    assert_holds(resumed(tmp_path), 500)


def test_pages_that_not_all_layers_hold_are_cut_for_good(tmp_path):
    store = stored(tmp_path, 640)
    for layer in range(LAYERS - 1):
        store.append(layer, *TEXT[layer, :, :, 640:1000])
    store.close()
    store = resumed(tmp_path)
    assert_holds(store, 640)
    other = TEXT.copy()
    other[..., 640:, :] *= -1
    store.append(LAYERS - 1, *other[-1, :, :, 640:1000])
    store.close()
    assert_holds(resumed(tmp_path), 640)


def test_a_store_killed_before_its_header_was_written_is_begun_again(tmp_path):
    (tmp_path / "pages").write_bytes(b"torn" * 1000)
    (tmp_path / "checkpoint").write_bytes(b"torn")
    with pytest.raises(StoreDamaged, match="holds no document's pages"):
        resumed(tmp_path)
    store = new_store(tmp_path)
    assert (tmp_path / "pages").stat().st_size == 0
    store.close()
    assert_holds(resumed(tmp_path), 0)


def test_what_a_killed_replacement_left_is_cleared_away(tmp_path):
    stored(tmp_path, 100).close()
    (tmp_path / ".checkpoint.4711").write_bytes(b"torn")
    resumed(tmp_path).close()
    assert not (tmp_path / ".checkpoint.4711").exists()


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    stored(tmp_path, 100).close()
    process = child("store = resumed(folder)\nprint('ready', flush=True)\ninput()\n", tmp_path)
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(StoreInUse):
        resumed(tmp_path)
    process.kill()
    process.communicate()
    assert_holds(resumed(tmp_path), 100)


# -- full disks --------------------------------------------------------------------

FILL_UP = """
import resource
from mlx_edgeinf.pagestore.errors import DiskFull
store = resumed(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, resource.RLIM_INFINITY))
try:
    while True:
        extend(store, 300)
except DiskFull as error:
    print(error)
assert store.tokens >= 100
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.truncate(store.tokens)
extend(store, 1000)
assert_holds(store, store.tokens)
print(store.tokens)
"""


@pytest.mark.parametrize("limit", [100_000, 150_001, 400_000])
def test_a_disk_that_fills_up_in_the_middle_of_a_write_loses_nothing(tmp_path, limit):
    stored(tmp_path, 100).close()
    process = child(FILL_UP.replace("FILE_BYTES", str(limit)), tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    message, tokens = output.splitlines()
    assert "pages could not be written (File too large): free space there, or go on" in message
    store = resumed(tmp_path)
    assert_holds(store, int(tokens) // PAGE * PAGE)


@pytest.mark.parametrize("fault, kind", [(errno.ENOSPC, DiskFull), (errno.EIO, StoreError)])
def test_an_append_that_failed_can_be_tried_again(tmp_path, monkeypatch, fault, kind):
    """Its first half may be in the file already: it is not there for anybody."""
    store, write, calls = stored(tmp_path, 600), os.pwrite, []

    def half_a_write(fd: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 2:
            raise OSError(fault, os.strerror(fault))
        return write(fd, data[: len(data) // 2], offset)

    monkeypatch.setattr(records.os, "pwrite", half_a_write)
    with pytest.raises(kind, match=f"pages could not be written \\({os.strerror(fault)}\\)"):
        store.append(0, *TEXT[0, :, :, 600:800])
    monkeypatch.undo()
    assert_holds(store, 600)
    extend(store, 200)
    assert_holds(store, 800)


def test_a_write_that_the_system_does_in_parts_is_whole(tmp_path, monkeypatch):
    store, write = new_store(tmp_path), os.pwrite
    monkeypatch.setattr(records.os, "pwrite", lambda fd, data, at: write(fd, data[: len(data) // 2 + 1], at))
    extend(store, 600)
    assert_holds(store, 600)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    store = stored(tmp_path, 605)
    extend(store, 2)

    def full(path: Path):
        raise sealed.SaveError("The disk is full.")

    monkeypatch.setattr(sealed, "replacing", full)
    with pytest.raises(StoreError, match="The disk is full"):
        store.sync()
    with pytest.raises(StoreError, match="The disk is full"):
        store.truncate(100)
    assert_holds(store, 607)
    store.close()
    monkeypatch.undo()
    assert_holds(resumed(tmp_path), 605)


def test_a_disk_that_cannot_be_read_is_an_error_in_a_sentence(tmp_path, monkeypatch):
    def broken(fd: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    store = stored(tmp_path, 600)
    monkeypatch.setattr(records.os, "pread", broken)
    with pytest.raises(StoreDamaged, match="pages could not be read \\(Input/output error\\): delete"):
        store.gather(0, PAGE_0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written to .*: choose another folder"):
        new_store(tmp_path / "file" / "store")


def test_a_stripe_boundary_is_no_boundary(tmp_path):
    """Cuts right at, before and behind it."""
    for pages in (STRIPE - 1, STRIPE, STRIPE + 1):
        store = stored(tmp_path, 1500)
        store.truncate(pages * PAGE)
        store.close()
        store = resumed(tmp_path)
        assert_holds(store, pages * PAGE)
        store.remove()
