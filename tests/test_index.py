from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_edgeinf.recall.index import Index, estimated_shares, shares_of

G, D, H, L, BLOCKS = 2, 8, 4, 3, 2
FINEST = 4


def keys(seed: int, tokens: int) -> mx.array:
    """Each component around a place of its own, some of them far from 0 for what they vary."""
    places = 20 * mx.random.normal((G, 1, D), key=mx.random.key(99))
    return places + mx.random.normal((G, tokens, D), key=mx.random.key(seed))


def moments(index: Index, every: mx.array) -> np.ndarray:
    """Mean and deviation of all runs, from the keys themselves."""
    runs = [np.array(every[:, at : at + index.grain]) for at in range(0, every.shape[1], index.grain)]
    return np.stack([np.concatenate([run.mean(axis=1), run.std(axis=1)], axis=-1) for run in runs], axis=1)


@pytest.mark.parametrize("cuts", [[64], [1, 2, 3, 58], [7, 7, 7, 43], [30, 34]], ids=str)
@pytest.mark.parametrize("capacity", [4, 8, 16, 32])
def test_moments_are_those_of_runs_however_the_keys_came(cuts, capacity):
    index, every = Index(capacity, FINEST), keys(0, sum(cuts))
    for part in mx.split(every, np.cumsum(cuts)[:-1].tolist(), axis=1):
        index.add(part)
    assert index.runs <= capacity and index.grain == max(FINEST, 64 // capacity)
    assert np.allclose(index.moments[:, : index.runs], moments(index, every), atol=5e-2)


def test_an_index_takes_the_same_memory_however_much_it_covers():
    index = Index(8, FINEST)
    index.add(keys(0, 1))
    before = index.moments.nbytes
    for seed in range(50):
        index.add(keys(seed, 37))
    assert index.moments.nbytes == before == G * 8 * 2 * D * 2
    assert index.tokens == 1 + 50 * 37 and index.grain * 8 >= index.tokens


def test_a_fork_and_its_origin_go_their_own_ways():
    index = Index(8, FINEST)
    index.add(keys(0, 12))
    fork = index.fork()
    fork.add(keys(1, 12))
    index.add(keys(2, 4))
    for one, seed, tokens in ((index, 2, 4), (fork, 1, 12)):
        every = mx.concatenate([keys(0, 12), keys(seed, tokens)], axis=1)
        assert np.allclose(one.moments[:, : one.runs], moments(one, every), atol=5e-2)


def test_shares_of_runs_are_those_of_normal_keys():
    """The mean of exp(q . k), whose log is q . mean + q^2 . deviation^2 / 2: float64, one query at a time."""
    runs, scale = 5, D**-0.5
    queries = mx.random.normal((BLOCKS, H, L, D), key=mx.random.key(1))
    log_mass = mx.random.normal((BLOCKS, H, L), key=mx.random.key(2))
    described = mx.abs(mx.random.normal((G, runs, 2 * D), key=mx.random.key(3)))
    shares = estimated_shares(queries, described, FINEST, log_mass, scale)
    expected = np.zeros((BLOCKS, G, runs))
    for b, h, i in np.ndindex(BLOCKS, H, L):
        query = scale * np.array(queries[b, h, i], dtype=float)
        mean, deviation = np.split(np.array(described[h * G // H], dtype=float), 2, axis=-1)
        masses = FINEST * np.exp(mean @ query + deviation**2 @ query**2 / 2)
        expected[b, h * G // H] += masses / (masses.sum() + np.exp(log_mass[b, h, i].item()))
    assert np.allclose(shares, expected, rtol=1e-4)


def test_shares_are_told_apart_however_large_the_masses():
    ratios = mx.concatenate([mx.full((1, 1, 1, 50), 200.0), mx.array([[[[310.0]]]])], axis=-1)
    shares = np.array(shares_of(ratios)).ravel()
    assert shares.argmax() == 50 and shares.sum() == pytest.approx(1)
    assert np.array(shares_of(mx.full((1, 1, 1, 65_536), 90.0))).sum() == pytest.approx(1, rel=1e-4)
    assert np.array(shares_of(mx.full((1, 1, 1, 4), -300.0))).sum() == pytest.approx(0)


def test_an_index_of_another_length_is_refused():
    with pytest.raises(ValueError, match="3 runs are not an index of 40 tokens"):
        Index(32, FINEST).restore(40, mx.zeros((G, 3, 2 * D)))
