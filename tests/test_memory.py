from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference
from memories import (  # noqa: F401
    B,
    D,
    G,
    H,
    M,
    T,
    answered,
    heads,
    keys,
    normal,
    queries,
    received,
    trained,
    values,
    written,
)

from mlx_edgeinf import centroids
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.memory import Memory
from mlx_edgeinf.sources import attend_to_all


@pytest.fixture(params=[("linear", D), ("exponential", 6), ("centroids", M), ("bank", M)], ids=lambda p: p[0])
def memory(request) -> Memory:
    return trained(*request.param)


def assert_agrees(
    memory: Memory, keys: mx.array, values: mx.array, received: mx.array, queries: mx.array, **settings
) -> None:
    """Write in three folds and read, here and in float64."""
    output, log_mass, _ = answered(memory, written(memory, keys, values, received), queries)
    for b, h in np.ndindex(B, H):
        g = h * G // H
        same = reference.memory_of(memory, h)
        vars(same).update(settings)
        whole = (np.array(x[b, g], dtype=float) for x in (keys, values, received))
        for part in zip(*(np.split(x, 3) for x in whole)):
            same.write(*part)
        for i in range(queries.shape[2]):
            expected = same.read(np.array(queries[b, h, i], dtype=float))
            assert np.allclose(output[b, h, i], expected[0], atol=1e-4)
            assert np.allclose(log_mass[b, h, i].item(), expected[1], atol=1e-4)


def test_write_and_read_agree_with_float64(memory, keys, values, received, queries):
    assert_agrees(memory, keys, values, received, queries)


def test_keys_nobody_asked_for_agree_with_float64(memory, keys, values, received, queries):
    """In the first fold everyone was asked for, in the second half of them, in the third no one."""
    asked = mx.concatenate([mx.ones(T), mx.arange(T) % 2, mx.zeros(T)])
    assert_agrees(memory, keys, values, received * asked, queries)


def test_writing_never_changes_the_size_or_precision_of_the_state(memory, keys, values):
    shapes = {name: (array.shape, mx.float32) for name, array in memory.empty(B).items()}
    state = written(memory, keys.astype(mx.bfloat16), values.astype(mx.bfloat16))
    assert {name: (array.shape, array.dtype) for name, array in state.items()} == shapes


def test_an_empty_memory_answers_nothing_with_no_mass(memory, queries):
    output, log_mass, _ = answered(memory, memory.empty(B), queries)
    assert mx.array_equal(output, mx.zeros(queries.shape))
    assert mx.all(log_mass < -1e8).item()


def test_answers_come_in_the_precision_of_the_query_and_masses_in_float32(memory, keys, values, queries):
    output, log_mass, _ = answered(memory, written(memory, keys, values), queries.astype(mx.bfloat16))
    assert (output.dtype, log_mass.dtype) == (mx.bfloat16, mx.float32)


def test_batches_do_not_see_each_other(memory, keys, values, queries):
    both = answered(memory, written(memory, keys, values), queries)
    alone = answered(memory, written(memory, keys[1:], values[1:]), queries[1:])
    assert mx.allclose(both.output[1:], alone.output, atol=1e-5)
    assert mx.allclose(both.log_mass[1:], alone.log_mass, atol=1e-5)


@pytest.mark.parametrize("kind, features", [("linear", D), ("exponential", 6)])
def test_memories_of_fixed_features_are_sums_whatever_the_order(kind, features, keys, values, queries):
    memory = trained(kind, features)
    backwards = mx.arange(keys.shape[2] - 1, -1, -1)
    forth = answered(memory, written(memory, keys, values, folds=1), queries)
    back = answered(memory, written(memory, keys[:, :, backwards], values[:, :, backwards]), queries)
    assert mx.allclose(forth.output, back.output, atol=1e-4)
    assert mx.allclose(forth.log_mass, back.log_mass, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_keys_and_queries_leave_everything_finite(kind, values):
    memory = trained(kind, 6)
    keys, queries = 60 * normal(4, B, G, 3 * T, D), 60 * normal(5, B, H, 4, D)
    state = written(memory, keys, values)

    def total(queries):
        output, log_mass, _ = answered(memory, state, queries)
        return output.sum() + log_mass.sum()

    value, gradient = mx.value_and_grad(total)(queries)
    assert np.isfinite(value.item()) and np.all(np.isfinite(np.array(gradient)))


def test_untrained_exponentials_are_exact_attention_on_average(keys, values, queries):
    """And as far from it as random features are, whose errors grow with the length of keys and queries."""
    mx.random.seed(0)
    memory = KINDS["exponential"](heads(np.zeros(D // 2)), 8000)
    read = answered(memory, written(memory, 0.5 * keys, values), 0.5 * queries)
    exact = attend_to_all(0.5 * queries, 0.5 * keys, values, D**-0.5)
    assert mx.allclose(read.log_mass, exact.log_mass, atol=0.1)
    assert mx.allclose(read.output, exact.output, atol=0.2)


@pytest.mark.parametrize(
    "kind, features", [("linear", D), ("exponential", 6), ("centroids", 3 * T), ("bank", 3 * T)]
)
def test_without_what_answers_elsewhere_the_rest_is_left(kind, features, keys, values, queries, monkeypatch):
    """Exactly where features are fixed; and nothing at all is left of all, for every kind."""
    monkeypatch.setattr(centroids, "AS_ONE", 1)
    memory = trained(kind, features, omega=np.zeros(D // 2))
    keys, values, queries = keys[:1], values[:1], queries[:1]
    state, last = written(memory, keys, values), slice(T, None)
    # Two blocks of queries: one to which all tokens answer elsewhere, one to which the first T do.
    taken = mx.ones((2, G, keys.shape[2]))
    taken[1, :, last] = 0
    left = memory.without(state, keys, values, taken)
    outputs, log_masses, _ = memory.read(left, mx.concatenate([queries, queries]))
    assert log_masses[0].max().item() < -100
    expected = answered(memory, written(memory, keys[:, :, last], values[:, :, last], folds=1), queries)
    assert mx.allclose(outputs[1], expected.output[0], rtol=1e-3, atol=1e-3)
    assert mx.allclose(log_masses[1], expected.log_mass[0], rtol=1e-3, atol=1e-3)
