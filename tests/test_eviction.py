from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import reference
from memories import answered
from mlx_lm.models.cache import KVCache
from tiny import LAYOUT, SIZES, close, cut, llama_model, read, sequence, with_memory

from mlx_edgeinf.cache import forked
from mlx_edgeinf.centroids import CentroidMemory
from mlx_edgeinf.measure.eviction import NEIGHBOURS, H2OCache, RetainingLayout, SnapKVCache
from mlx_edgeinf.retained import RetainedMemory
from mlx_edgeinf.rotation import Rotation

RETAINED = 4
RETAINING = RetainingLayout(LAYOUT.sinks, LAYOUT.window, LAYOUT.segment, RETAINED)
LENGTH = 60
ANY_CACHE = pytest.mark.parametrize("kind", [H2OCache, SnapKVCache])

HEADS, SIZE = 2, 8
ROTATION = Rotation(mx.array([1.0, 0.3, 0.1, 0.03]), interleaved=False)
# What stands between sinks and window when there is no more room.
CANDIDATES = slice(LAYOUT.sinks, RETAINING.capacity - LAYOUT.window)


def caches(model: nn.Module, kind: type[H2OCache], retained: int) -> list[H2OCache]:
    layout = RetainingLayout(LAYOUT.sinks, LAYOUT.window, LAYOUT.segment, retained)
    return [kind(layout, layer.self_attn.memory_gate.rotation) for layer in model.layers]


@ANY_CACHE
@pytest.mark.parametrize("pieces", [[LENGTH], cut(LENGTH, 7)], ids=["whole", "in pieces"])
def test_with_room_for_everything_it_is_full_attention(kind, pieces):
    model, tokens = with_memory(llama_model()), sequence(LENGTH)
    full = read(llama_model(), tokens, [KVCache() for _ in model.layers], [LENGTH])
    assert close(read(model, tokens, caches(model, kind, LENGTH), pieces), full, 1e-3)
    assert not close(read(model, tokens, caches(model, kind, RETAINED), pieces), full, 0.1)


@ANY_CACHE
def test_the_state_does_not_grow(kind):
    model = with_memory(llama_model())
    cache = caches(model, kind, RETAINED)
    read(model, sequence(200), cache, [200])
    assert all(layer.offset <= RETAINING.capacity and layer.tokens == 200 for layer in cache)


# -- the choice ----------------------------------------------------------------------


class Filled:
    """A full cache whose values say which token they are of, and whose keys are known without position."""

    def __init__(self, kind: type[H2OCache], received: np.ndarray):
        """received (HEADS, capacity): attention that the tokens got from all queries so far."""
        self.keys = mx.random.normal((1, HEADS, 100, SIZE), key=mx.random.key(0))
        self.cache, self.given = kind(RETAINING, ROTATION), 0
        self.give(RETAINING.capacity, received)

    def give(self, tokens: int, received: np.ndarray) -> None:
        """Append tokens and note what all exact ones received."""
        numbers = mx.arange(self.given, self.given + tokens)
        positions = self.cache.offset + mx.arange(tokens)[:, None]
        keys = ROTATION.turn(self.keys[:, :, self.given : self.given + tokens], positions * ROTATION.omega)
        values = mx.broadcast_to(numbers[:, None].astype(mx.float32), keys.shape)
        self.cache.update_and_fetch(keys, values)
        self.cache.note(mx.array(received)[None])
        self.given += tokens

    def held(self) -> np.ndarray:
        """(HEADS, N) the tokens that are still there, in the order in which they stand."""
        return np.array(self.cache.local.keys_and_values()[1][0, :, :, 0], dtype=int)


def attention(*favourites: list[int], amount: float = 5.0) -> np.ndarray:
    """(HEADS, capacity) of which some tokens of each head received more than all others."""
    received = np.random.default_rng(0).uniform(0, 1, (HEADS, RETAINING.capacity))
    for head, tokens in enumerate(favourites):
        received[head, tokens] += amount
    return received


def test_what_received_most_attention_is_kept_between_sinks_and_window_in_each_head():
    filled = Filled(H2OCache, attention([3, 5, 11, 13], [2, 4, 6, 8]))
    filled.cache.make_room()
    window = list(range(RETAINING.capacity - LAYOUT.window, RETAINING.capacity))
    assert filled.held().tolist() == [[0, 1, 3, 5, 11, 13, *window], [0, 1, 2, 4, 6, 8, *window]]


def test_what_is_kept_stands_at_consecutive_positions():
    filled = Filled(H2OCache, attention([3, 5, 11, 13], [2, 4, 6, 8]))
    filled.cache.make_room()
    bare = ROTATION.remove(filled.cache.local.keys_and_values()[0], 0)
    for head, tokens in enumerate(filled.held()):
        assert close(bare[0, head], filled.keys[0, head, mx.array(tokens)])


def test_neighbours_of_what_the_latest_queries_asked_for_are_kept_together():
    received = attention([8], [12])
    filled = Filled(SnapKVCache, received)
    filled.cache.make_room()
    padded = np.pad(received[:, CANDIDATES], ((0, 0), (NEIGHBOURS // 2, NEIGHBOURS // 2)), constant_values=-1)
    pooled = np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS, axis=1).max(axis=-1)
    for head, favourite in enumerate([8, 12]):
        kept = filled.held()[head, LAYOUT.sinks : -LAYOUT.window] - LAYOUT.sinks
        dropped = np.setdiff1d(np.arange(pooled.shape[1]), kept)
        assert len(set(kept)) == RETAINED and (np.diff(kept) > 0).all()
        assert pooled[head, kept].min() >= pooled[head, dropped].max()
        assert (np.abs(kept + LAYOUT.sinks - favourite) <= NEIGHBOURS // 2).all()


@pytest.mark.parametrize("kind, remembers", [(H2OCache, True), (SnapKVCache, False)])
def test_attention_of_long_ago_counts_for_h2o_alone(kind, remembers):
    filled = Filled(kind, attention([7], [7]))
    filled.cache.make_room()
    assert (filled.held() == 7).any(axis=1).all()
    # Nobody asks for token 7 any more; the newest outside the window are asked for a little.
    later = np.zeros((HEADS, RETAINING.capacity))
    later[:, CANDIDATES.stop - 2 : CANDIDATES.stop] = 1.0
    filled.give(LAYOUT.segment, later)
    filled.cache.make_room()
    assert (filled.held() == 7).any(axis=1).all() == remembers


def test_a_fork_chooses_for_itself():
    filled = Filled(H2OCache, attention([3, 5, 11, 13], [2, 4, 6, 8]))
    (twin,) = forked([filled.cache])
    twin.make_room()
    assert filled.cache.offset == RETAINING.capacity and filled.cache.folded == 0
    filled.cache.make_room()
    assert mx.array_equal(filled.cache.local.values, twin.local.values)


# -- one layer, in float64 -----------------------------------------------------------


def read_token_by_token(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, omega: np.ndarray, scale: float
) -> np.ndarray:
    """H2O: what r query heads (r, L, d) of one kv head answer, a token and a head at a time."""
    outputs, exact, received = np.zeros(q.shape), [], np.zeros(len(k))
    for t in range(len(k)):
        if len(exact) == RETAINING.capacity:
            rest = sorted(exact[LAYOUT.sinks : -LAYOUT.window], key=lambda token: received[token])
            exact = exact[: LAYOUT.sinks] + sorted(rest[-RETAINED:]) + exact[-LAYOUT.window :]
        exact.append(t)
        keys = reference.rotate(k[exact], np.arange(len(exact))[:, None] * omega)
        for h, query in enumerate(q[:, t]):
            query = reference.rotate(query, (len(exact) - 1) * omega)
            outputs[h, t], _, weights = reference.attend(query, keys, v[exact], scale)
            received[exact] += weights
    return outputs


def test_a_layer_agrees_with_the_token_by_token_reference():
    model = with_memory(llama_model(num_hidden_layers=1))
    layer = model.layers[0].self_attn
    layer.o_proj.weight = mx.eye(SIZES["hidden_size"])
    x = mx.random.normal((1, LENGTH, SIZES["hidden_size"]), key=mx.random.key(5))
    output = np.array(layer(x, cache=caches(model, H2OCache, RETAINED)[0]))[0].reshape(LENGTH, 4, SIZE)
    q, k, v = (
        (np.array(x[0], dtype=float) @ np.array(p.weight, dtype=float).T).reshape(LENGTH, -1, SIZE)
        for p in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    omega = 10000.0 ** (-np.arange(0, SIZE, 2) / SIZE)
    for g in range(HEADS):
        own = slice(2 * g, 2 * g + 2)
        expected = read_token_by_token(q[:, own].swapaxes(0, 1), k[:, g], v[:, g], omega, SIZE**-0.5)
        assert np.allclose(output[:, own].swapaxes(0, 1), expected, atol=1e-3)


# -- a memory of tokens --------------------------------------------------------------


def memory_of_tokens(retained: int, centres: int = 0) -> RetainedMemory:
    model = with_memory(llama_model())
    return RetainedMemory(model.layers[0].self_attn.memory_gate.memory.heads, centres + retained, centres)


def folds(number: int) -> list[tuple[mx.array, mx.array, mx.array]]:
    """Keys, values and attention received of so many folds of 6 tokens."""
    mx.random.seed(0)
    shape = (1, HEADS, 6, SIZE)
    draw = mx.random.normal
    return [(draw(shape), draw(shape), mx.random.uniform(shape=shape[:3])) for _ in range(number)]


def test_a_memory_with_room_keeps_every_token_as_centroids_would():
    tokens, centroids = memory_of_tokens(12), CentroidMemory(memory_of_tokens(12).heads, 12)
    states = [memory.empty(1) for memory in (tokens, centroids)]
    for fold in folds(2):
        states = [memory.write(state, *fold) for memory, state in zip((tokens, centroids), states)]
    queries = mx.random.normal((1, SIZES["num_attention_heads"], 5, SIZE))
    read, expected = (answered(memory, state, queries) for memory, state in zip((tokens, centroids), states))
    assert close(read.output, expected.output) and close(read.log_mass, expected.log_mass)


def test_what_was_asked_for_most_is_kept_as_it_was():
    memory, written = memory_of_tokens(4), folds(3)
    state = memory.empty(1)
    for fold in written:
        state = memory.write(state, *fold)
    parts = zip(*written)
    keys, values, received = (np.concatenate([np.array(p)[0] for p in part], axis=1) for part in parts)
    # Each against the average of its own fold.
    asked = received.reshape(HEADS, 3, 6)
    asked = (asked / asked.mean(axis=-1, keepdims=True)).reshape(HEADS, -1)
    for head in range(HEADS):
        best = np.argsort(-asked[head])[:4]
        assert np.allclose(state["centres"][0, head], keys[head, best])
        assert np.allclose(state["M"][0, head], values[head, best])
    assert np.array_equal(state["z"], np.ones((1, HEADS, 4)))
