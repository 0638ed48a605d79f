import copy
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from paged import (
    DIM,
    HEADS,
    LAYERS,
    PAGE,
    QUOTA,
    ROWS,
    SHAPE,
    TEXT,
    assert_holds,
    assert_same,
    extend,
    new_store,
    stored,
    sub_means,
)

from mlx_edgeinf.pagestore import pages as pages_module
from mlx_edgeinf.pagestore.errors import (
    DiskFull,
    NoSuchPage,
    QuotaExceeded,
    StoreDamaged,
    StoreError,
    Unstorable,
)
from mlx_edgeinf.pagestore.records import STRIPE, RecordFile
from mlx_edgeinf.pagestore.store import PageStore

STRIPE_BYTES = LAYERS * HEADS * STRIPE * (2 * 2 * PAGE * DIM + 8 + 2 * ROWS * DIM + 8)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.mark.parametrize("pieces", [[1], [15, 1], [512, 512], [5, 512, 512, 3], [1] * 40, [2000]], ids=str)
def test_tokens_come_back_as_they_went_however_they_were_cut(tmp_path, pieces):
    store = new_store(tmp_path)
    for count in pieces:
        extend(store, count)
    assert_holds(store, sum(pieces))


@pytest.mark.parametrize("page", [32, 64])
def test_pages_may_be_larger(tmp_path, page):
    store = new_store(tmp_path, replace(SHAPE, page_tokens=page))
    extend(store, 1000)
    found = store.gather(1, np.full((HEADS, 1), 3), np.float16)
    assert_same(found, tuple(TEXT[1, :, :, 3 * page : 4 * page]))
    assert store.waiting(1)[0].shape == (HEADS, 1000 % page, DIM)


def test_each_head_gets_its_own_pages_in_the_order_asked_for(tmp_path):
    store, wanted = stored(tmp_path, 1600), np.array([[90, 3, 4, 5], [0, 99, 33, 33]])
    keys, values = store.gather(2, wanted, np.float16)
    paged = TEXT[2, :, :, :1600].reshape(2, HEADS, -1, PAGE, DIM)
    expected = paged[:, np.arange(HEADS)[:, None], wanted].reshape(2, HEADS, -1, DIM)
    assert_same((keys, values), tuple(expected))


def test_the_disk_knows_all_pages_that_are_wanted_before_the_first_is_waited_for(tmp_path, monkeypatch):
    store, steps = new_store(tmp_path), []
    extend(store, 300)
    pread = os.pread
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, at, size, _: steps.append((at, size)), raising=False)
    monkeypatch.setattr(os, "pread", lambda fd, size, at: steps.append((at, size)) or pread(fd, size, at))
    store.gather(0, np.array([[2, 3, 9], [0, 5, 7]]))
    # 2 and 3 stand side by side.
    assert steps[:5] == steps[5:] and len(set(steps)) == 5


def test_where_the_disk_cannot_be_told_pages_are_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    store = new_store(tmp_path)
    extend(store, 300)
    assert_holds(store, 300)


def test_reading_gives_float32_of_the_same_value(tmp_path):
    store = stored(tmp_path, 320)
    keys, values = store.gather(0, np.full((HEADS, 1), 7))
    assert keys.dtype == values.dtype == np.float32
    assert_same((keys, values), tuple(TEXT[0, :, :, 112:128].astype(np.float32)))


def test_no_pages_asked_for_are_none(tmp_path):
    keys, values = stored(tmp_path, 320).gather(0, np.zeros((HEADS, 0), int))
    assert keys.shape == values.shape == (HEADS, 0, DIM)


def test_summaries_of_some_pages(tmp_path):
    some = np.arange(3 * HEADS).reshape(HEADS, 3) * 7 % 100
    paged = TEXT[1, 0, :, :1600].astype(np.float32).reshape(HEADS, -1, PAGE, DIM)
    paged = paged[np.arange(HEADS)[:, None], some]
    found = stored(tmp_path, 1600).summaries(1, some)
    assert found.flags.c_contiguous
    assert np.array_equal(found, sub_means(paged).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("page", [-1, 20])
def test_a_page_that_is_not_there_is_named(tmp_path, page):
    store = stored(tmp_path, 330)
    with pytest.raises(NoSuchPage, match=f"Page {page} of layer 1 was asked for, .* holds 20"):
        store.gather(1, np.array([[0, page], [1, 2]]))
    with pytest.raises(NoSuchPage):
        store.summaries(1, np.full((HEADS, 1), page))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5])
def test_what_is_not_finite_in_half_precision_is_refused(tmp_path, bad):
    store, keys = stored(tmp_path, 330), np.zeros((HEADS, 5, DIM), np.float32)
    keys[1, 2, 3] = bad
    with pytest.raises(Unstorable, match="beyond half precision"):
        store.append(0, keys, np.zeros_like(keys))
    assert_holds(store, 330)


def test_keys_of_another_model_are_refused(tmp_path):
    other = np.zeros((HEADS + 1, 5, DIM))
    with pytest.raises(ValueError, match="are not those of StoreShape"):
        new_store(tmp_path).append(0, other, other)


def test_summaries_of_another_shape_are_refused(tmp_path):
    store = PageStore.create(tmp_path, SHAPE, "a text", QUOTA, lambda keys: keys[:, :, :2])
    with pytest.raises(ValueError, match="Summaries of shape"):
        extend(store, 20)
    assert store.tokens == 0


# -- room --------------------------------------------------------------------------


def test_the_bytes_forecast_are_the_bytes_taken(tmp_path):
    """What a stripe does not yet hold is counted: it is taken for all layers at once."""
    store = stored(tmp_path, 40 * PAGE)
    on_disk = sum((tmp_path / name).stat().st_size for name in ("pages", "summaries"))
    assert store.forecast(40 * PAGE) == store.bytes_used
    stripe = store.forecast(STRIPE * PAGE)
    assert 0 <= store.bytes_used - on_disk < stripe
    extend(store, 24 * PAGE)
    on_disk = sum((tmp_path / name).stat().st_size for name in ("pages", "summaries"))
    assert store.bytes_used == on_disk == 2 * stripe


def test_the_quota_is_refused_in_a_sentence_before_any_layer_is_written(tmp_path):
    store = new_store(tmp_path, quota_bytes=int(STRIPE_BYTES * 1.5))
    extend(store, STRIPE * PAGE)
    with pytest.raises(QuotaExceeded, match="take 114 kB, the next ones 114 kB more, and 170 kB are allowed"):
        extend(store, PAGE)
    assert_holds(store, STRIPE * PAGE)
    store.quota_bytes *= 2
    extend(store, PAGE)
    assert_holds(store, (STRIPE + 1) * PAGE)


def test_a_disk_with_little_left_is_refused_before_it_is_full(tmp_path, monkeypatch):
    store = new_store(tmp_path)
    monkeypatch.setattr(RecordFile, "free", pages_module.SPARE_BYTES + 1000)
    with pytest.raises(DiskFull, match="has 1 GB free, the next pages take 114 kB and 1 GB are left"):
        extend(store, PAGE)
    assert store.tokens == 0


# -- forks -------------------------------------------------------------------------


def test_a_fork_goes_on_from_the_store_and_leaves_it_as_it_was(tmp_path):
    store = stored(tmp_path, 1005)
    fork, other = store.fork(QUOTA), store.fork(QUOTA)
    extend(fork, 700)
    twisted = TEXT.copy()
    twisted[:, :, :, 1005:] *= -1
    extend(other, 50, twisted)
    assert_holds(fork, 1705)
    assert_holds(other, 1055, twisted)
    assert_holds(store, 1005)


def test_a_fork_of_a_fork_goes_on_by_itself(tmp_path):
    first = stored(tmp_path, 100).fork(QUOTA)
    extend(first, 100)
    second = first.fork(QUOTA)
    extend(first, 30)
    extend(second, 250)
    assert_holds(first, 230)
    assert_holds(second, 450)


def test_a_store_that_is_read_on_leaves_its_forks_as_they_were(tmp_path):
    store = stored(tmp_path, 100)
    fork = store.fork(QUOTA)
    store.truncate(100)
    store.settle()
    store.go_on()
    extend(store, 100)
    assert_holds(fork, 100)


def test_a_fork_leaves_no_file(tmp_path):
    store = stored(tmp_path, 100)
    before = sorted(tmp_path.iterdir())
    extend(store.fork(QUOTA), 600)
    assert sorted(tmp_path.iterdir()) == before


def test_a_fork_has_a_quota_of_its_own(tmp_path):
    store = stored(tmp_path, 1000)
    fork = store.fork(1)
    extend(fork, 5)
    with pytest.raises(QuotaExceeded):
        extend(fork, 20)
    assert fork.bytes_used == 0


def test_what_fails_in_a_fork_is_told_and_ends_nothing_else(tmp_path):
    store = stored(tmp_path, 1000)
    fork, other = copy.deepcopy(store), store.fork(QUOTA)
    inner = copy.deepcopy(fork)
    inner.failure = QuotaExceeded("No room.")
    assert inner.failure and fork.trouble is store.trouble is inner.failure
    assert fork.failure is store.failure is other.failure is None
    assert copy.deepcopy(store).failure is store.trouble is None


def test_what_is_damaged_below_a_fork_is_damaged_for_everybody(tmp_path):
    store = stored(tmp_path, 1000)
    fork, other = store.fork(QUOTA).fork(QUOTA), store.fork(QUOTA)
    os.truncate(tmp_path / "pages", 100)
    with pytest.raises(StoreDamaged):
        fork.gather(0, np.zeros((HEADS, 1), int))
    assert store.failure is other.failure is fork.failure is not None


def test_a_fork_goes_on_when_the_folder_was_deleted(tmp_path):
    store = stored(tmp_path / "store", 1000)
    fork = store.fork(QUOTA)
    shutil.rmtree(tmp_path / "store")
    extend(fork, 700)
    assert_holds(fork, 1700)


def test_a_fork_without_a_place_for_its_files_says_so(tmp_path):
    store = stored(tmp_path / "store", 100)
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="No temporary file could be made"):
        store.fork(QUOTA)
