from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference

from mlx_edgeinf import centroids
from mlx_edgeinf.centroids import CentroidMemory
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.memory import Heads, Memory
from mlx_edgeinf.rotation import Rotation
from mlx_edgeinf.sources import attend, attend_to_all

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


def written(
    memory: Memory, keys: mx.array, values: mx.array, received: mx.array | None = None, folds: int = 3
) -> dict:
    """The state after keys and values were folded in so many parts of one length; equals if not told."""
    received = mx.ones(keys.shape[:3]) if received is None else received
    state = memory.empty(keys.shape[0])
    for part in zip(*(mx.split(whole, folds, axis=2) for whole in (keys, values, received))):
        state = memory.write(state, *part)
    return state


@pytest.fixture(params=[("linear", D), ("exponential", 6), ("centroids", M), ("bank", M)], ids=lambda p: p[0])
def memory(request) -> Memory:
    return trained(*request.param)


@pytest.fixture
def keys() -> mx.array:
    return normal(1, B, G, 3 * T, D)


@pytest.fixture
def values() -> mx.array:
    return normal(2, B, G, 3 * T, D)


@pytest.fixture
def received() -> mx.array:
    """Some keys get a hundred times as much as others."""
    return mx.exp(normal(4, B, G, 3 * T))


@pytest.fixture
def queries() -> mx.array:
    return normal(3, B, H, 4, D)


def assert_agrees(
    memory: Memory, keys: mx.array, values: mx.array, received: mx.array, queries: mx.array, **settings
) -> None:
    """Write in three folds and read, here and in float64."""
    output, log_mass, _ = memory.read(written(memory, keys, values, received), queries)
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


def test_one_run_of_lloyd_agrees_with_float64(keys, values, received, queries, monkeypatch):
    monkeypatch.setattr(CentroidMemory, "lloyd_steps", 1)
    assert_agrees(trained("centroids"), keys, values, received, queries, lloyd_steps=1)


@pytest.mark.parametrize("other", [1, 3])
def test_lloyd_runs_twice(queries, other):
    """Among so many keys another number of runs ends elsewhere."""
    keys, values, received = normal(8, B, G, 180, D), normal(9, B, G, 180, D), mx.exp(normal(10, B, G, 180))
    assert_agrees(trained("centroids", 9), keys, values, received, queries)
    with pytest.raises(AssertionError):
        assert_agrees(trained("centroids", 9), keys, values, received, queries, lloyd_steps=other)


def test_more_centres_than_tokens_agree_with_float64(keys, values, received, queries):
    assert_agrees(trained("centroids", 15), keys, values, received, queries)


def test_writing_never_changes_the_size_or_precision_of_the_state(memory, keys, values):
    shapes = {name: (array.shape, mx.float32) for name, array in memory.empty(B).items()}
    state = written(memory, keys.astype(mx.bfloat16), values.astype(mx.bfloat16))
    assert {name: (array.shape, array.dtype) for name, array in state.items()} == shapes


def test_an_empty_memory_answers_nothing_with_no_mass(memory, queries):
    output, log_mass, _ = memory.read(memory.empty(B), queries)
    assert mx.array_equal(output, mx.zeros(queries.shape))
    assert mx.all(log_mass < -1e8).item()


def test_answers_come_in_the_precision_of_the_query_and_masses_in_float32(memory, keys, values, queries):
    output, log_mass, _ = memory.read(written(memory, keys, values), queries.astype(mx.bfloat16))
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
        output, log_mass, _ = memory.read(state, queries)
        return output.sum() + log_mass.sum()

    value, gradient = mx.value_and_grad(total)(queries)
    assert np.isfinite(value.item()) and np.all(np.isfinite(np.array(gradient)))


def test_untrained_exponentials_are_exact_attention_on_average(keys, values, queries):
    """And as far from it as random features are, whose errors grow with the length of keys and queries."""
    mx.random.seed(0)
    memory = KINDS["exponential"](heads(np.zeros(D // 2)), 8000)
    read = memory.read(written(memory, 0.5 * keys, values), 0.5 * queries)
    exact = attend_to_all(0.5 * queries, 0.5 * keys, values, D**-0.5)
    assert mx.allclose(read.log_mass, exact.log_mass, atol=0.1)
    assert mx.allclose(read.output, exact.output, atol=0.2)


@pytest.mark.parametrize(
    "kind, features", [("linear", D), ("exponential", 6), ("centroids", 3 * T), ("bank", 3 * T)]
)
def test_without_what_answers_elsewhere_the_rest_is_left(kind, features, keys, values, queries, monkeypatch):
    """Exactly where features are fixed; and nothing at all is left of all, for every kind."""
    monkeypatch.setattr(centroids, "TOGETHER", 1)
    memory = trained(kind, features, omega=np.zeros(D // 2))
    keys, values, queries = keys[:1], values[:1], queries[:1]
    state, last = written(memory, keys, values), slice(T, None)
    # Two blocks of queries: one to which all tokens answer elsewhere, one to which the first T do.
    taken = mx.ones((2, G, keys.shape[2]))
    taken[1, :, last] = 0
    left = memory.without(state, keys, values, taken)
    outputs, log_masses, _ = memory.read(left, mx.concatenate([queries, queries]))
    assert log_masses[0].max().item() < -100
    expected = memory.read(written(memory, keys[:, :, last], values[:, :, last], folds=1), queries)
    assert mx.allclose(outputs[1], expected.output[0], rtol=1e-3, atol=1e-3)
    assert mx.allclose(log_masses[1], expected.log_mass[0], rtol=1e-3, atol=1e-3)


def test_centres_that_are_asked_for_more_than_they_have_lose_no_token_of_others(keys, values):
    memory = trained("centroids", M)
    state = written(memory, keys, values)
    keys, values = (mx.repeat(each[:1, :, :1], T, axis=2) for each in (keys, values))
    state = {name: each[:1] for name, each in state.items()}
    left = memory.without(state, keys, values, mx.ones((1, G, T)))["left"]
    assert mx.allclose(left.sum(axis=-1), state["z"].sum(axis=-1) - T, rtol=1e-5)
    assert (left <= state["z"] + 1e-5).all().item() and (left >= 0).all().item()


def test_centroids_of_equals_count_every_key_and_lose_no_value(keys, values):
    state = written(trained("centroids"), keys, values)
    assert mx.allclose(state["z"].sum(axis=-1), mx.full((B, G), 3 * T))
    assert mx.allclose(state["M"].sum(axis=2), values.sum(axis=2), atol=1e-4)
    centre_of_all = (state["centres"] * state["z"][..., None]).sum(axis=2) / (3 * T)
    assert mx.allclose(centre_of_all, keys.mean(axis=2), atol=1e-5)


def test_centroids_weigh_keys_by_the_attention_they_received_but_count_them_all(keys, values, received):
    state = written(trained("centroids"), keys, values, received)
    per_fold = received.reshape(B, G, 3, T)
    weights = (mx.square(per_fold / per_fold.mean(axis=-1, keepdims=True)) + 0.01).reshape(received.shape)
    assert mx.allclose(state["z"].sum(axis=-1), mx.full((B, G), 3 * T))
    assert mx.allclose(state["weight"].sum(axis=-1), weights.sum(axis=-1), rtol=1e-4)
    means = state["M"] / mx.maximum(state["z"], 1)[..., None]
    for kept, all_of_them in ((state["centres"], keys), (means, values)):
        total = (kept * state["weight"][..., None]).sum(axis=2)
        assert mx.allclose(total, (all_of_them * weights[..., None]).sum(axis=2), atol=1e-3)


def test_only_proportions_of_the_attention_received_matter(keys, values, received):
    state, same = (written(trained("centroids"), keys, values, r) for r in (received, 7 * received))
    assert all(mx.allclose(same[name], array, rtol=1e-4, atol=1e-5) for name, array in state.items())


def test_keys_of_which_none_was_asked_for_are_equals(keys, values):
    state = written(trained("centroids"), keys, values)
    unasked = written(trained("centroids"), keys, values, mx.zeros(keys.shape[:3]))
    for name in ("M", "z", "centres"):
        assert mx.allclose(unasked[name], state[name], atol=1e-5), name
    assert mx.allclose(unasked["weight"], 0.01 * unasked["z"])


@pytest.mark.parametrize("asked_for, sharp", [(True, True), (False, False)], ids=["asked for", "equals"])
def test_a_key_that_was_asked_for_stays_sharp_while_others_blur(keys, values, asked_for, sharp):
    """The sixth token of thirty-six in four centres: its key is a centre, and finds its value."""
    memory = KINDS["centroids"](heads(omega=0 * OMEGA), 4)
    all_for_the_sixth = mx.broadcast_to((mx.arange(3 * T) == 5).astype(mx.float32), keys.shape[:3])
    state = written(memory, keys, values, all_for_the_sixth if asked_for else None)
    apart = mx.linalg.norm(state["centres"][:, :, None] - keys[:, :, :, None], axis=-1).min(axis=-1)
    assert mx.all((apart[:, :, 5] < 0.05) == sharp).item()
    assert mx.all(apart.mean(axis=-1) > 1).item()
    pointed = 60 * mx.repeat(keys[:, :, 5:6], H // G, axis=1)
    found = memory.read(state, pointed).output - mx.repeat(values[:, :, 5:6], H // G, axis=1)
    assert mx.all((mx.linalg.norm(found, axis=-1) < 0.05) == sharp).item()


def test_centroids_answer_within_the_range_of_the_values(keys, values, queries):
    output = trained("centroids").read(written(trained("centroids"), keys, values), 9 * queries).output
    least, most = (mx.repeat(f(values, axis=2, keepdims=True), 2, axis=1) for f in (mx.min, mx.max))
    assert mx.all((output > least - 1e-5) & (output < most + 1e-5)).item()


def test_one_centre_per_token_without_positions_is_exact_attention(keys, values, queries):
    """With nothing lost in clusters or rotation, memory answers like its tokens, mass included."""
    memory = KINDS["centroids"](heads(omega=0 * OMEGA), 3 * T)
    output, log_mass, _ = memory.read(written(memory, keys, values), queries)
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
    state = written(memory, copies, copies, folds=1)
    log_mass = memory.read(state, mx.broadcast_to(query, (1, H, 1, D))).log_mass
    score = expected_score(np.array(query).ravel(), np.array(key).ravel(), 12.0, min(40.0, farthest))
    assert np.allclose(log_mass, np.log(40) + score, atol=1e-3)


@pytest.mark.parametrize("folds", [1, 3, 9])
def test_a_bank_is_full_of_runs_of_one_length_however_it_is_written(folds, keys, values):
    """36 tokens in 5 places are 5 runs of 8, the last of them of 4."""
    state = written(trained("bank", 5), keys, values, folds=folds)
    assert mx.allclose(state["z"], mx.array([8.0, 8, 8, 8, 4]))
    assert mx.allclose(state["centres"][:, :, 1], keys[:, :, 8:16].mean(axis=2), atol=1e-5)
    assert mx.allclose(state["M"][:, :, 4], values[:, :, 32:].sum(axis=2), atol=1e-4)


@pytest.mark.parametrize("farthest", [1e4, 20.0])
def test_a_bank_with_a_place_for_every_token_is_exact_attention(farthest, keys, values, queries):
    memory = KINDS["bank"](heads(farthest=farthest), 3 * T)
    read = memory.read(written(memory, keys, values), queries)
    away = mx.minimum(12 + 3 * T - mx.arange(3 * T) - 0.5, farthest)
    turned = memory._heads.rotation.turn(keys, -away[:, None] * memory._heads.rotation.omega)
    exact = attend_to_all(queries, turned, values, D**-0.5)
    assert mx.allclose(read.output, exact.output, atol=1e-4)
    assert mx.allclose(read.log_mass, exact.log_mass, atol=1e-4)


def test_clustering_ignores_what_rotation_averages_away():
    """Keys in two groups by the slow components, and noise in the fast ones that outweighs them."""
    omega = np.array([3.0, 3.0, 0.0, 0.0])
    memory = KINDS["centroids"](heads(omega=omega), 2)
    group = mx.where(mx.arange(400) < 200, 1.0, -1.0)
    noise, slow = 3 * normal(0, 2, 400), group * mx.ones((2, 400))
    keys = mx.concatenate([noise, slow, noise, slow]).T[None, None]
    values = mx.broadcast_to(group[:, None], (400, D))[None, None]
    keys, values = (mx.broadcast_to(x, (1, G, 400, D)) for x in (keys, values))
    state = written(memory, keys, values, folds=1)
    purity = mx.abs(state["M"][..., 0]) / state["z"]
    assert mx.allclose(purity, mx.ones(purity.shape))
