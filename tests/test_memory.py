from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference

from mlx_edgeinf.memory import KINDS, CentroidMemory, Heads, Memory
from mlx_edgeinf.rotation import Rotation
from mlx_edgeinf.sources import attend

B, H, G, D, M, T = 2, 4, 2, 8, 5, 12
OMEGA = 100.0 ** (-np.arange(0, D, 2) / D)


def heads(omega: np.ndarray = OMEGA, farthest: float = 1e4) -> Heads:
    rotation = Rotation(mx.array(omega, dtype=mx.float32), False)
    return Heads(H, G, D, D**-0.5, rotation, nearest=12.0, farthest=farthest)


def normal(seed: int, *shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def trained(kind: str, features: int = M, **shape) -> Memory:
    """A memory whose parameters are as random as training could leave them."""
    mx.random.seed(0)
    memory = KINDS[kind](heads(**shape), features)
    for name, parameter in memory.parameters().items():
        memory[name] = parameter + 0.3 * mx.random.normal(parameter.shape)
    return memory


def written(memory: Memory, keys: mx.array, values: mx.array, folds: int = 3) -> dict:
    """The state after the keys and values were folded in so many parts of one length."""
    state = memory.empty(keys.shape[0])
    for k, v in zip(mx.split(keys, folds, axis=2), mx.split(values, folds, axis=2)):
        state = memory.write(state, k, v)
    return state


@pytest.fixture(params=[("linear", D), ("exponential", 6), ("centroids", M)], ids=lambda p: p[0])
def memory(request) -> Memory:
    return trained(*request.param)


@pytest.fixture
def keys() -> mx.array:
    return normal(1, B, G, 3 * T, D)


@pytest.fixture
def values() -> mx.array:
    return normal(2, B, G, 3 * T, D)


@pytest.fixture
def queries() -> mx.array:
    return normal(3, B, H, 4, D)


def assert_agrees(
    memory: Memory, keys: mx.array, values: mx.array, queries: mx.array, **settings
) -> None:
    """Write in three folds and read, here and in float64."""
    output, log_mass = memory.read(written(memory, keys, values), queries)
    for b, h in np.ndindex(B, H):
        g = h * G // H
        same = reference.memory_of(memory, g)
        vars(same).update(settings)
        for part in np.split(np.arange(keys.shape[2]), 3):
            same.write(np.array(keys[b, g], dtype=float)[part], np.array(values[b, g], dtype=float)[part])
        for i in range(queries.shape[2]):
            expected = same.read(np.array(queries[b, h, i], dtype=float))
            assert np.allclose(output[b, h, i], expected[0], atol=1e-4)
            assert np.allclose(log_mass[b, h, i].item(), expected[1], atol=1e-4)


def test_write_and_read_agree_with_float64(memory, keys, values, queries):
    assert_agrees(memory, keys, values, queries)


def test_one_run_of_lloyd_agrees_with_float64(keys, values, queries, monkeypatch):
    monkeypatch.setattr(CentroidMemory, "lloyd_steps", 1)
    assert_agrees(trained("centroids"), keys, values, queries, lloyd_steps=1)


def test_lloyd_runs_three_times(queries):
    """Among so many keys three runs and two end apart."""
    keys, values = normal(8, B, G, 180, D), normal(9, B, G, 180, D)
    assert_agrees(trained("centroids", 9), keys, values, queries)
    with pytest.raises(AssertionError):
        assert_agrees(trained("centroids", 9), keys, values, queries, lloyd_steps=2)


def test_more_centres_than_tokens_agree_with_float64(keys, values, queries):
    assert_agrees(trained("centroids", 15), keys, values, queries)


def test_writing_never_changes_the_size_or_precision_of_the_state(memory, keys, values):
    shapes = {name: (array.shape, mx.float32) for name, array in memory.empty(B).items()}
    state = written(memory, keys.astype(mx.bfloat16), values.astype(mx.bfloat16))
    assert {name: (array.shape, array.dtype) for name, array in state.items()} == shapes


def test_an_empty_memory_answers_nothing_with_no_mass(memory, queries):
    output, log_mass = memory.read(memory.empty(B), queries)
    assert mx.array_equal(output, mx.zeros(queries.shape))
    assert mx.all(log_mass < -1e8).item()


def test_answers_come_in_the_precision_of_the_query_and_masses_in_float32(memory, keys, values, queries):
    output, log_mass = memory.read(written(memory, keys, values), queries.astype(mx.bfloat16))
    assert (output.dtype, log_mass.dtype) == (mx.bfloat16, mx.float32)


def test_batches_do_not_see_each_other(memory, keys, values, queries):
    both = memory.read(written(memory, keys, values), queries)
    alone = memory.read(written(memory, keys[1:], values[1:]), queries[1:])
    assert mx.allclose(both.output[1:], alone.output, atol=1e-5)
    assert mx.allclose(both.log_mass[1:], alone.log_mass, atol=1e-5)


@pytest.mark.parametrize("kind, features", [("linear", D), ("exponential", 6)])
def test_memories_of_fixed_features_are_sums_whatever_the_order(kind, features, keys, values, queries):
    memory = trained(kind, features)
    backwards = mx.arange(keys.shape[2] - 1, -1, -1)
    forth = memory.read(written(memory, keys, values, folds=1), queries)
    back = memory.read(written(memory, keys[:, :, backwards], values[:, :, backwards]), queries)
    assert mx.allclose(forth.output, back.output, atol=1e-4)
    assert mx.allclose(forth.log_mass, back.log_mass, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_keys_and_queries_leave_everything_finite(kind, values):
    memory = trained(kind, 6)
    keys, queries = 60 * normal(4, B, G, 3 * T, D), 60 * normal(5, B, H, 4, D)
    state = written(memory, keys, values)

    def total(queries):
        output, log_mass = memory.read(state, queries)
        return output.sum() + log_mass.sum()

    value, gradient = mx.value_and_grad(total)(queries)
    assert np.isfinite(value.item()) and np.all(np.isfinite(np.array(gradient)))


def test_centroids_count_every_key_and_lose_no_value(keys, values):
    state = written(trained("centroids"), keys, values)
    assert mx.allclose(state["z"].sum(axis=-1), mx.full((B, G), 3 * T))
    assert mx.allclose(state["M"].sum(axis=2), values.sum(axis=2), atol=1e-4)
    centre_of_all = (state["centres"] * state["z"][..., None]).sum(axis=2) / (3 * T)
    assert mx.allclose(centre_of_all, keys.mean(axis=2), atol=1e-5)


def test_centroids_answer_within_the_range_of_the_values(keys, values, queries):
    output, _ = trained("centroids").read(written(trained("centroids"), keys, values), 9 * queries)
    least, most = (mx.repeat(f(values, axis=2, keepdims=True), 2, axis=1) for f in (mx.min, mx.max))
    assert mx.all((output > least - 1e-5) & (output < most + 1e-5)).item()


def test_one_centre_per_token_without_positions_is_exact_attention(keys, values, queries):
    """With nothing lost in clusters or rotation, memory answers like its tokens, mass included."""
    memory = KINDS["centroids"](heads(omega=0 * OMEGA), 3 * T)
    output, log_mass = memory.read(written(memory, keys, values), queries)
    for i in range(queries.shape[2]):
        one = slice(i, i + 1)
        exact = attend(queries[:, :, one], keys, values, D**-0.5)
        assert mx.allclose(output[:, :, one], exact.output, atol=1e-5)
        assert mx.allclose(log_mass[:, :, one], exact.log_mass, atol=1e-5)


def expected_score(query: np.ndarray, key: np.ndarray, nearest: float, spread: float) -> float:
    """Score of a key averaged over its distances, one by one."""
    distances = np.linspace(nearest, nearest + spread, 20001)[:, None]
    return D**-0.5 * (reference.rotate(key, -distances * OMEGA) @ query).mean()


@pytest.mark.parametrize("farthest", [1e4, 10.0])
def test_a_centre_is_read_at_its_average_over_all_distances(farthest):
    """Forty copies of one key: at distances 12 to 52, or only to 22 where training knew no more."""
    memory = KINDS["centroids"](heads(farthest=farthest), 1)
    key, query = normal(1, 1, 1, 1, D), normal(2, 1, 1, 1, D)
    copies = mx.broadcast_to(key, (1, G, 40, D))
    state = memory.write(memory.empty(1), copies, copies)
    log_mass = memory.read(state, mx.broadcast_to(query, (1, H, 1, D))).log_mass
    score = expected_score(np.array(query).ravel(), np.array(key).ravel(), 12.0, min(40.0, farthest))
    assert np.allclose(log_mass, np.log(40) + score, atol=1e-3)


def test_clustering_ignores_what_rotation_averages_away():
    """Keys in two groups by the slow components, and noise in the fast ones that outweighs them."""
    omega = np.array([3.0, 3.0, 0.0, 0.0])
    memory = KINDS["centroids"](heads(omega=omega), 2)
    group = mx.where(mx.arange(400) < 200, 1.0, -1.0)
    noise, slow = 3 * normal(0, 2, 400), group * mx.ones((2, 400))
    keys = mx.concatenate([noise, slow, noise, slow]).T[None, None]
    values = mx.broadcast_to(group[:, None], (400, D))[None, None]
    keys, values = (mx.broadcast_to(x, (1, G, 400, D)) for x in (keys, values))
    means = memory.write(memory.empty(1), keys, values)
    purity = mx.abs(means["M"][..., 0]) / means["z"]
    assert mx.allclose(purity, mx.ones(purity.shape))
