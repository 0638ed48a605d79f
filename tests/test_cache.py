from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
from tiny import LAYOUT

from mlx_edgeinf.cache import EdgeCache, ExactCache, Layout, state_bytes
from mlx_edgeinf.centroids import CentroidMemory
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.memory import Heads
from mlx_edgeinf.rotation import Rotation

# Values are one-hot in the token's number, so sums of values tell which tokens they are of.
TOKENS = D = 64
ROTATION = Rotation(100.0 ** (-mx.arange(0, D, 2) / D), False)
KEYS = mx.random.normal((1, 1, TOKENS, D), key=mx.random.key(0))
VALUES = mx.eye(TOKENS)[None, None]
# What the query of each token gives to the keys of all others.
ATTENTION = np.random.default_rng(0).random((TOKENS, TOKENS))
KIND = KINDS["centroids"](Heads(1, 1, D, D**-0.5, ROTATION, nearest=12.0, farthest=100.0), 4)


def new(memory=KIND, exact_limit: int = 0, layout: Layout = LAYOUT) -> EdgeCache:
    return EdgeCache(layout, memory, ROTATION, exact_limit)


def feed(cache: EdgeCache, until: int = TOKENS, attention: np.ndarray | None = None) -> Iterator[int]:
    """Append tokens one by one as attention does, yielding how many the cache has read."""
    for t in range(cache.tokens, until):
        on_base_path = cache.on_base_path(1)
        if cache.room() <= 0:
            cache.make_room()
        key = ROTATION.turn(KEYS[:, :, t : t + 1], cache.offset * ROTATION.omega)
        cache.update_and_fetch(key, VALUES[:, :, t : t + 1])
        if attention is not None and not on_base_path:
            cache.note(mx.array(attention[t, exact_tokens(cache)], dtype=mx.float32)[None, None])
        yield t + 1


def fed(cache: EdgeCache, until: int = TOKENS, attention: np.ndarray | None = None) -> EdgeCache:
    for _ in feed(cache, until, attention):
        pass
    return cache


def numbers(values: mx.array) -> list[int]:
    """Which tokens these values are of."""
    return mx.argmax(values[0, 0], axis=-1).tolist()


def exact_tokens(cache: EdgeCache) -> list[int]:
    """Numbers of the tokens held exactly, in the order they stand in."""
    return numbers(cache.local.keys_and_values()[1])


def remembered(cache: EdgeCache) -> list[int]:
    """Numbers of the tokens in memory; one that was folded twice appears twice."""
    if not cache.memory:
        return []
    times = cache.memory["M"].sum(axis=(0, 1, 2)).tolist()
    return [t for t, count in enumerate(times) for _ in range(round(count))]


def test_every_token_is_either_exact_or_in_memory():
    cache = new()
    for read_so_far in feed(cache):
        assert sorted(exact_tokens(cache) + remembered(cache)) == list(range(read_so_far))
        assert cache.tokens == read_so_far
        assert cache.folded == len(remembered(cache))


def test_sinks_and_the_last_tokens_stay_exact():
    cache = new()
    for read_so_far in feed(cache):
        exact = exact_tokens(cache)
        assert exact == sorted(exact)
        assert exact[: LAYOUT.sinks] == list(range(min(LAYOUT.sinks, read_so_far)))
        assert exact[-LAYOUT.window :] == list(range(max(0, read_so_far - LAYOUT.window), read_so_far))


def test_exact_tokens_stand_at_the_first_positions_without_a_gap():
    cache = new()
    for _ in feed(cache):
        exact = exact_tokens(cache)
        assert cache.offset == len(exact) <= LAYOUT.capacity
        bare = mx.take(KEYS, mx.array(exact), axis=2)
        standing = ROTATION.turn(bare, mx.arange(len(exact))[:, None] * ROTATION.omega)
        assert mx.allclose(cache.local.keys_and_values()[0], standing, atol=1e-5)


def test_memory_is_written_without_positions():
    folded = slice(LAYOUT.sinks, LAYOUT.sinks + LAYOUT.segment)
    equal = mx.ones((1, 1, LAYOUT.segment))
    state = KIND.write(KIND.empty(1), KEYS[:, :, folded], VALUES[:, :, folded], equal)
    cache = fed(new(), LAYOUT.capacity + 1)
    assert mx.allclose(cache.memory["centres"], state["centres"], atol=1e-5)
    assert mx.array_equal(cache.memory["z"], state["z"])


def test_the_state_does_not_grow():
    cache, sizes = new(), []
    for _ in feed(cache, attention=ATTENTION):
        if cache.folded and cache.room() == 0:
            sizes.append(cache.nbytes)
    assert len(sizes) > 4 and len(set(sizes)) == 1


def test_bytes_are_counted_over_exact_tokens_and_memory():
    cache = new()
    assert cache.nbytes == 0
    fed(cache, attention=ATTENTION)
    arrays = [cache.local.keys, cache.local.values, cache.received, *cache.memory.values()]
    assert cache.nbytes == sum(array.nbytes for array in arrays)
    assert state_bytes([cache, cache]) == 2 * cache.nbytes
    entries = cache.entries(KIND, written=True)
    arrays += [entries.log_masses, entries.cos, entries.sin]
    assert cache.nbytes == sum(array.nbytes for array in arrays)


def test_while_tokens_are_written_the_memory_is_made_ready_once_for_each_fold():
    assert fed(cache := new(), LAYOUT.capacity).entries(KIND, written=True) is None
    entries = fed(cache, LAYOUT.capacity + 1).entries(KIND, written=True)
    for _ in feed(cache, LAYOUT.capacity + LAYOUT.segment):
        assert cache.entries(KIND, written=True) is entries
    fed(cache, LAYOUT.capacity + LAYOUT.segment + 1)
    assert cache.entries(KIND, written=True).M is cache.memory["M"] is not entries.M


def test_gates_that_are_swapped_while_tokens_are_written_answer_with_their_own_rotation():
    kind, other = (KINDS["centroids"](KIND.heads, 4) for _ in range(2))
    other.angle = mx.ones(other.angle.shape)
    entries = (cache := fed(new())).entries(kind, written=True)
    kind.update(other.parameters())
    assert not mx.allclose(cache.entries(kind, written=True).cos, entries.cos)


@pytest.mark.parametrize("exact_limit", [26, 34, 50])
def test_what_outgrows_the_base_path_is_folded_like_equals_that_never_were_there(exact_limit):
    migrated, from_the_start = fed(new(exact_limit=exact_limit), 60), fed(new(), 60)
    assert exact_tokens(migrated) == exact_tokens(from_the_start)
    keys, same_keys = (cache.local.keys_and_values()[0] for cache in (migrated, from_the_start))
    assert mx.allclose(keys, same_keys, atol=1e-5)
    for name, array in from_the_start.memory.items():
        assert mx.allclose(migrated.memory[name], array, atol=1e-5), name


def test_a_limit_between_folds_loses_nothing():
    cache = new(exact_limit=29)
    for read_so_far in feed(cache):
        assert sorted(exact_tokens(cache) + remembered(cache)) == list(range(read_so_far))
        assert cache.folded == 0 if read_so_far <= 29 else cache.offset <= LAYOUT.capacity


def test_without_a_memory_what_leaves_the_window_is_forgotten():
    cache = fed(new(memory=None))
    assert exact_tokens(cache) == exact_tokens(fed(new()))
    assert cache.memory == {} and cache.tokens == TOKENS
    assert exact_tokens(fed(new(memory=None), attention=ATTENTION)) == exact_tokens(cache)


def test_the_base_path_ends_at_the_limit_and_with_the_first_fold():
    cache = fed(new(exact_limit=30), 20)
    assert cache.on_base_path(10) and not cache.on_base_path(11)
    assert not fed(cache, 31).on_base_path(1)


def test_a_limit_below_what_the_layout_holds_ends_the_base_path_and_folds_nothing():
    cache = new(exact_limit=5)
    assert cache.on_base_path(5) and not cache.on_base_path(6)
    assert cache.capacity == Layout(2, 8, 8).capacity == 18
    assert fed(cache, 18).folded == 0 and not cache.on_base_path(1)


def test_a_cache_that_outgrew_its_limit_holds_no_more_than_the_layout():
    cache = new(exact_limit=30)
    assert cache.capacity == 30
    assert fed(cache, 31).capacity == LAYOUT.capacity


def test_an_exact_cache_keeps_all_and_never_takes_the_base_path():
    cache = fed(ExactCache.like(fed(new()), TOKENS), attention=ATTENTION)
    assert exact_tokens(cache) == list(range(TOKENS)) and cache.room() == 0
    assert cache.memory == {} and cache.received is None
    assert not ExactCache.like(new(), TOKENS).on_base_path(1)


# -- what keys received --------------------------------------------------------------


@pytest.fixture
def folds(monkeypatch) -> list[tuple[list[int], list[float]]]:
    """The tokens of each fold, and the attention they are said to have received."""
    seen, write = [], CentroidMemory.write

    def recorded(memory, state, keys, values, received):
        seen.append((numbers(values), received[0, 0].tolist()))
        return write(memory, state, keys, values, received)

    monkeypatch.setattr(CentroidMemory, "write", recorded)
    return seen


@pytest.mark.parametrize("exact_limit", [0, 10], ids=["", "on the base path at first"])
@pytest.mark.parametrize("layout", [LAYOUT, Layout(2, 12, 4), Layout(3, 4, 12)], ids=str)
def test_a_fold_is_told_what_its_tokens_received_since_the_last_one(folds, layout, exact_limit):
    cache, received, told = new(layout=layout, exact_limit=exact_limit), np.zeros(TOKENS), 0
    for read_so_far in feed(cache, attention=ATTENTION):
        if len(folds) > told:
            tokens, attention = folds[-1]
            assert np.allclose(attention, received[tokens], rtol=1e-5)
            received[:], told = 0, told + 1
        if read_so_far > exact_limit:
            exact = exact_tokens(cache)
            received[exact] += ATTENTION[read_so_far - 1, exact]
    assert told == len(folds) >= 3


@pytest.mark.parametrize("exact_limit", [26, 29, 50])
def test_what_migrates_is_folded_as_equals_and_later_tokens_by_what_they_received(folds, exact_limit):
    cache = fed(new(exact_limit=exact_limit), exact_limit, ATTENTION)
    assert not folds and cache.received is None
    fed(cache, exact_limit + 1, ATTENTION)
    assert [t for tokens, _ in folds for t in tokens] == list(range(2, exact_limit - LAYOUT.window))
    assert all(share == 1 for _, attention in folds for share in attention)
    fed(cache, exact_limit + LAYOUT.segment + 1, ATTENTION)
    tokens, attention = folds[-1]
    since = ATTENTION[exact_limit : exact_limit + LAYOUT.segment]
    # They stood in the window when counting began, so every query since could ask for them.
    assert np.allclose(attention, since[:, tokens].sum(axis=0), rtol=1e-5)


def test_tokens_in_the_place_of_trimmed_ones_have_received_nothing_before(folds):
    cache = fed(new(), 8, ATTENTION)
    assert cache.trim(4) == 4
    fed(cache, LAYOUT.capacity + 1, ATTENTION)
    [(tokens, attention)] = folds
    kept, replaced = [t for t in tokens if t < 4], [t for t in tokens if t >= 4]
    once = np.tril(ATTENTION[: LAYOUT.capacity]).sum(axis=0)
    twice = once + np.tril(ATTENTION[:8])[4:].sum(axis=0)
    assert np.allclose(attention, [*twice[kept], *once[replaced]], rtol=1e-5)
