import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from paged import (
    DIM,
    HEADS,
    PAGE,
    PAGE_0,
    QUOTA,
    SHAPE,
    TEXT,
    assert_holds,
    extend,
    new_store,
    resumed,
    stored,
    sub_means,
)

from mlx_edgeinf.pagestore.errors import StoreDamaged, StoreError
from mlx_edgeinf.pagestore.store import PageStore


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def closed(tmp_path):
    """The folder of a store with 1005 tokens, which nobody has open."""
    stored(tmp_path, 1005).close()
    return tmp_path


# -- open, resume, truncate, remove ------------------------------------------------


def test_a_store_is_opened_as_it_was_closed(closed):
    store = resumed(closed)
    assert (store.document, store.shape) == ("a text", SHAPE)
    assert_holds(store, 1005)


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_precision_survives_the_disk(tmp_path, name):
    store = PageStore.create(tmp_path, replace(SHAPE, precision=name), "a text", QUOTA, sub_means)
    extend(store, 320)
    before = store.gather(1, np.arange(40).reshape(HEADS, 20) % 20)
    store.close()
    after = resumed(tmp_path).gather(1, np.arange(40).reshape(HEADS, 20) % 20)
    assert np.array_equal(before, after)
    assert np.abs(after[0] - TEXT[1, 0, :, :320]).max() < (0.02 if name == "int8" else 1e-9)


@pytest.mark.parametrize("tokens", [0, 5, 512, 700, 992, 1000, 1005])
def test_a_reading_goes_on_from_an_older_checkpoint(closed, tokens):
    store = resumed(closed)
    store.truncate(tokens)
    assert_holds(store, tokens)
    store.close()
    store = resumed(closed)
    assert_holds(store, tokens)
    other = TEXT.copy()
    other[:, :, :, tokens:] *= -1
    extend(store, 600, other)
    assert_holds(store, tokens + 600, other)


@pytest.mark.parametrize("tokens", [-1, 1006])
def test_a_checkpoint_that_the_store_does_not_reach_is_refused(closed, tokens):
    with pytest.raises(StoreError, match=f"holds 1005 tokens and cannot go on from {tokens}"):
        resumed(closed).truncate(tokens)


def test_layers_of_different_length_are_cut_to_what_all_hold(tmp_path):
    store = stored(tmp_path, 1000)
    store.append(0, *TEXT[0, :, :, 1000:1100])
    assert store.tokens == 1000
    with pytest.raises(StoreError, match="different numbers of tokens: cut them to 1000"):
        store.sync()
    store.truncate(store.tokens)
    store.sync()
    extend(store, 100)
    assert_holds(store, 1100)


@pytest.mark.parametrize("change", [
    lambda store: extend(store, 20), lambda store: store.sync(), lambda store: store.truncate(3)
], ids=["append", "sync", "truncate"])  # fmt: skip
def test_a_settled_store_is_never_changed(closed, change):
    store = resumed(closed)
    store.settle()
    before = {path.name: path.read_bytes() for path in closed.iterdir()}
    with pytest.raises(StoreError, match="is settled: go on with it first"):
        change(store)
    assert before == {path.name: path.read_bytes() for path in closed.iterdir()}


def test_a_settled_store_can_be_forked(closed):
    store = resumed(closed)
    store.settle()
    fork = store.fork(QUOTA)
    extend(fork, 100)
    assert_holds(fork, 1105)


def test_a_closed_store_says_so(tmp_path):
    store = stored(tmp_path, 500)
    store.close()
    with pytest.raises(StoreError, match=r"^\S+ is closed"):
        store.gather(0, PAGE_0)


def test_a_second_store_in_one_folder_is_refused(closed):
    with pytest.raises(StoreError, match="already holds a document's pages"):
        new_store(closed)
    assert_holds(resumed(closed), 1005)


def test_a_checkpoint_is_written_once_its_pages_are_on_disk(tmp_path, monkeypatch):
    store, steps, replace_file = stored(tmp_path, 100), [], os.replace
    extend(store, 500)
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append(os.fstat(fd).st_ino))
    monkeypatch.setattr(os, "replace", lambda *paths: steps.append("replaced") or replace_file(*paths))
    store.sync()
    pages, summaries, checkpoint = (
        (tmp_path / name).stat().st_ino for name in ("pages", "summaries", "checkpoint")
    )
    assert steps == [pages, summaries, checkpoint, "replaced", tmp_path.stat().st_ino]


# -- damage ------------------------------------------------------------------------


def flip(path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


RECORD = 2 * 2 * PAGE * DIM + 8


@pytest.mark.parametrize("at", [0, 200, RECORD - 9, RECORD - 1], ids=["first", "key", "value", "checksum"])
def test_a_flipped_bit_in_a_page_is_found_when_that_page_is_read(closed, at):
    flip(closed / "pages", RECORD * 5 + at)
    store = resumed(closed)
    with pytest.raises(StoreDamaged, match=r"^Page 5 of layer 0, head 0 in .*pages is damaged: delete"):
        store.gather(0, np.array([[1, 5], [1, 5]]))
    store.gather(0, np.array([[1, 6], [1, 5]]))


def test_a_flipped_bit_in_a_summary_is_found(closed):
    flip(closed / "summaries", 10)
    with pytest.raises(StoreDamaged, match="summaries is damaged"):
        resumed(closed).summaries(0, PAGE_0)


def test_any_flipped_bit_in_the_header_is_found(closed):
    size = (closed / "header").stat().st_size
    for at in range(size):
        flip(closed / "header", at)
        with pytest.raises(StoreDamaged, match="header is damaged"):
            resumed(closed)
        flip(closed / "header", at)
    resumed(closed)


@pytest.mark.parametrize("at", [3, 60, -1], ids=["count", "tokens", "seal"])
def test_a_damaged_checkpoint_costs_only_the_tokens_that_waited(closed, at):
    flip(closed / "checkpoint", at)
    assert_holds(resumed(closed), 1005 // PAGE * PAGE)


def test_a_page_in_the_place_of_another_is_found(closed):
    data = bytearray((closed / "pages").read_bytes())
    data[:RECORD] = data[RECORD : 2 * RECORD]
    (closed / "pages").write_bytes(data)
    with pytest.raises(StoreDamaged, match="Page 0 of layer 0, head 0"):
        resumed(closed).gather(0, PAGE_0)


@pytest.mark.parametrize("name", ["pages", "summaries"])
def test_files_of_another_store_are_not_taken_for_ours(closed, tmp_path, name):
    stored(tmp_path / "other", 1005).close()
    shutil.copy(tmp_path / "other" / name, closed / name)
    store = resumed(closed)
    with pytest.raises(StoreDamaged):
        store.gather(0, PAGE_0), store.summaries(0, PAGE_0)


def test_the_checkpoint_of_another_store_is_not_taken_for_ours(closed, tmp_path):
    """Its waiting tokens are those of another text."""
    other = new_store(tmp_path / "other")
    extend(other, 1003, -TEXT)
    other.sync()
    shutil.copy(tmp_path / "other" / "checkpoint", closed / "checkpoint")
    assert_holds(resumed(closed), 1005 // PAGE * PAGE)


@pytest.mark.parametrize("name", ["pages", "summaries"])
@pytest.mark.parametrize("share, tokens", [(0, 0), (0.3, 0), (0.7, 512)])
def test_a_file_cut_short_is_opened_up_to_there(closed, name, share, tokens):
    """To the stripe: in half of one the last layers have nothing."""
    with (closed / name).open("r+b") as file:
        file.truncate(int(share * (closed / name).stat().st_size))
    store = resumed(closed)
    assert_holds(store, tokens)
    extend(store, 1005 - store.tokens)
    assert_holds(store, 1005)


def test_a_file_cut_short_under_us_is_an_error_and_not_the_end_of_the_process(tmp_path):
    """As a memory map would make it: SIGBUS."""
    store = stored(tmp_path, 1005)
    with (tmp_path / "pages").open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(StoreDamaged, match="pages was cut short"):
        store.gather(2, np.array([[50], [60]]))


@pytest.mark.parametrize("name", ["pages", "summaries"])
@pytest.mark.parametrize("lose", [
    lambda path: path.unlink(), lambda path: path.rename(path.with_name("elsewhere")),
    lambda path: (shutil.copy(path, path.with_name("copy")), path.with_name("copy").replace(path)),
], ids=["deleted", "moved", "replaced"])  # fmt: skip
def test_nothing_more_is_written_to_a_file_that_is_gone(tmp_path, name, lose):
    store = stored(tmp_path, 1005)
    lose(tmp_path / name)
    for change in (lambda: extend(store, 20), store.sync, lambda: store.truncate(3)):
        with pytest.raises(StoreError, match=f"{name} was deleted or replaced"):
            change()
    assert_holds(store, 1005)  # what we have open is still ours


@pytest.mark.parametrize("name", ["header", "pages", "summaries"])
def test_a_missing_file_is_named(closed, name):
    (closed / name).unlink()
    with pytest.raises(StoreDamaged, match=r"delete the document and read it again\.$"):
        resumed(closed)
