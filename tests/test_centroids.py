from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference
from memories import (  # noqa: F401
    OMEGA,
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
from test_memory import assert_agrees

from mlx_edgeinf.centroids import CentroidMemory
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.sources import attend, attend_to_all


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


def test_centres_that_are_asked_for_more_than_they_have_lose_no_token_of_others(keys, values):
    memory = trained("centroids", M)
    state = written(memory, keys, values)
    keys, values = (mx.repeat(each[:1, :, :1], T, axis=2) for each in (keys, values))
    state = {name: each[:1] for name, each in state.items()}
    left = mx.exp(memory.without(state, keys, values, mx.ones((1, G, T))).log_masses)
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
    found = answered(memory, state, pointed).output - mx.repeat(values[:, :, 5:6], H // G, axis=1)
    assert mx.all((mx.linalg.norm(found, axis=-1) < 0.05) == sharp).item()


def test_centroids_answer_within_the_range_of_the_values(keys, values, queries):
    output = answered(trained("centroids"), written(trained("centroids"), keys, values), 9 * queries).output
    least, most = (mx.repeat(f(values, axis=2, keepdims=True), 2, axis=1) for f in (mx.min, mx.max))
    assert mx.all((output > least - 1e-5) & (output < most + 1e-5)).item()


def test_one_centre_per_token_without_positions_is_exact_attention(keys, values, queries):
    """With nothing lost in clusters or rotation, memory answers like its tokens, mass included."""
    memory = KINDS["centroids"](heads(omega=0 * OMEGA), 3 * T)
    output, log_mass, _ = answered(memory, written(memory, keys, values), queries)
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
    """Forty copies of one key: at distances 12 to 52, or ten of them to 22 where training knew no more."""
    memory = KINDS["centroids"](heads(farthest=farthest), 1)
    key, query = normal(1, 1, 1, 1, D), normal(2, 1, 1, 1, D)
    copies = mx.broadcast_to(key, (1, G, 40, D))
    state = written(memory, copies, copies, folds=1)
    log_mass = answered(memory, state, mx.broadcast_to(query, (1, H, 1, D))).log_mass
    score = expected_score(np.array(query).ravel(), np.array(key).ravel(), 12.0, min(40.0, farthest))
    assert np.allclose(log_mass, np.log(min(40, farthest)) + score, atol=1e-3)


@pytest.mark.parametrize("folds", [1, 3, 9])
def test_a_bank_is_full_of_runs_of_one_length_however_it_is_written(folds, keys, values):
    """36 tokens in 5 places are 5 runs of 8, the last of them of 4."""
    state = written(trained("bank", 5), keys, values, folds=folds)
    assert mx.allclose(state["z"], mx.array([8.0, 8, 8, 8, 4]))
    assert mx.allclose(state["centres"][:, :, 1], keys[:, :, 8:16].mean(axis=2), atol=1e-5)
    assert mx.allclose(state["M"][:, :, 4], values[:, :, 32:].sum(axis=2), atol=1e-4)


@pytest.mark.parametrize("farthest", [1e4, 20.0])
def test_a_bank_with_a_place_for_every_token_is_exact_attention(farthest, keys, values, queries):
    """36 tokens, or where training knew 20, attention as it would be to these: of the mass that 20 have."""
    memory = KINDS["bank"](heads(farthest=farthest), 3 * T)
    read = answered(memory, written(memory, keys, values), queries)
    away = mx.minimum(12 + 3 * T - mx.arange(3 * T) - 0.5, farthest)
    turned = memory.heads.rotation.turn(keys, -away[:, None] * memory.heads.rotation.omega)
    exact = attend_to_all(queries, turned, values, D**-0.5)
    assert mx.allclose(read.output, exact.output, atol=1e-4)
    assert mx.allclose(read.log_mass, exact.log_mass + np.log(min(1, farthest / (3 * T))), atol=1e-4)


def test_more_tokens_than_training_knew_weigh_as_many_as_it_knew(keys, values, queries):
    """What a long text holds does not drown what is exact, however much longer it gets."""
    memory = KINDS["centroids"](heads(farthest=2 * T), 5)
    state = written(memory, keys, values)
    longer = {**state, "z": 10 * state["z"], "M": 10 * state["M"]}
    once, more = answered(memory, state, queries), answered(memory, longer, queries)
    assert mx.allclose(once.log_mass, more.log_mass, atol=1e-5)
    assert mx.allclose(once.output, more.output, atol=1e-5)


@pytest.mark.parametrize("gone", [0, T])
def test_what_recall_leaves_of_a_long_text_weighs_its_part(gone, keys, values):
    """Of 3 T tokens that weigh as many as T: what is left still weighs a third each."""
    keys, values = keys[:1], values[:1]
    memory = KINDS["centroids"](heads(farthest=T, omega=np.zeros(D // 2)), 5)
    state, query = written(memory, keys, values), mx.zeros((1, H, 1, D))
    taken = mx.broadcast_to((mx.arange(3 * T) < gone).astype(mx.float32), (1, G, 3 * T))
    # To a query that tells nothing apart, the mass is the number of tokens.
    left = mx.exp(memory.read(memory.without(state, keys, values, taken), query).log_mass)
    assert mx.allclose(left, mx.array((3.0 * T - gone) / 3), rtol=1e-4)


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


def test_a_bank_loses_no_token_where_one_more_than_fits_comes():
    """10,240 tokens fill five runs of 2,048; the next one makes them twice as long."""
    memory = KINDS["bank"](heads(), 5)
    state = memory.empty(1) | {"z": mx.full((1, G, 5), 2048.0), "weight": mx.ones((1, G, 5))}
    state = memory.write(state, mx.ones((1, G, 1, D)), mx.ones((1, G, 1, D)), mx.ones((1, G, 1)))
    assert state["z"][0, 0].tolist() == [4096, 4096, 2049, 0, 0]
