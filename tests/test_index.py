from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from reference import attend

from mlx_edgeinf.recall.index import FINEST, Index, estimated_shares

G, D, H, L, BLOCKS = 2, 8, 4, 3, 2


def keys(seed: int, tokens: int) -> mx.array:
    return mx.random.normal((G, tokens, D), key=mx.random.key(seed))


def means(index: Index, every: mx.array) -> np.ndarray:
    """The means of all runs, from the keys themselves."""
    starts = range(0, every.shape[1], index.grain)
    return np.stack([np.array(every[:, s : s + index.grain]).mean(axis=1) for s in starts], axis=1)


@pytest.mark.parametrize("cuts", [[64], [1, 2, 3, 58], [7, 7, 7, 43], [30, 34]], ids=str)
@pytest.mark.parametrize("capacity", [4, 8, 16, 32])
def test_vectors_are_the_means_of_runs_however_the_keys_came(cuts, capacity):
    index, every = Index(capacity), keys(0, sum(cuts))
    for part in mx.split(every, np.cumsum(cuts)[:-1].tolist(), axis=1):
        index.add(part)
    assert index.vectors <= capacity and index.grain == max(FINEST, 64 // capacity)
    assert np.allclose(index.means[:, : index.vectors], means(index, every), atol=5e-3)


def test_an_index_takes_the_same_memory_however_much_it_covers():
    index = Index(8)
    index.add(keys(0, 1))
    before = index.nbytes
    for seed in range(50):
        index.add(keys(seed, 37))
    assert index.nbytes == before == G * 8 * D * 2
    assert index.tokens == 1 + 50 * 37 and index.grain * 8 >= index.tokens


def test_a_fork_and_its_origin_go_their_own_ways():
    index = Index(8)
    index.add(keys(0, 12))
    fork = index.fork()
    fork.add(keys(1, 12))
    index.add(keys(2, 4))
    for one, seed, tokens in ((index, 2, 4), (fork, 1, 12)):
        every = mx.concatenate([keys(0, 12), keys(seed, tokens)], axis=1)
        assert np.allclose(one.means[:, : one.vectors], means(one, every), atol=5e-3)


def test_shares_of_runs_of_equal_keys_are_their_attention():
    """Where all keys of a run are alike, the estimate is exact: float64, one query at a time."""
    runs, scale = 5, D**-0.5
    queries = mx.random.normal((BLOCKS, H, L, D), key=mx.random.key(1))
    log_mass = mx.random.normal((BLOCKS, H, L), key=mx.random.key(2))
    different = keys(3, runs)
    shares = estimated_shares(queries, different, FINEST, log_mass, scale)
    expected = np.zeros((BLOCKS, G, runs))
    for b, h, i in np.ndindex(BLOCKS, H, L):
        repeated = np.repeat(np.array(different[h * G // H], dtype=float), FINEST, axis=0)
        _, mass, weights = attend(np.array(queries[b, h, i], dtype=float), repeated, repeated, scale)
        mine = np.exp(mass - np.logaddexp(mass, log_mass[b, h, i].item()))
        expected[b, h * G // H] += mine * weights.reshape(runs, FINEST).sum(axis=1)
    assert np.allclose(shares, expected, rtol=1e-4)
