from __future__ import annotations

import copy

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import KVCache
from tiny import LAYOUT, close, cut, llama_model, read, sequence, with_memory

from mlx_edgeinf.cache import forked


@pytest.fixture(scope="module")
def model():
    return with_memory(llama_model())


PAST, ONE, OTHER = sequence(21, 1), sequence(12, 2), sequence(12, 3)
PATHS = pytest.mark.parametrize("exact_limit", [0, 64], ids=["memory path", "base path"])


def continued(model, cache: list, tokens: mx.array) -> mx.array:
    return read(model, tokens, cache, cut(tokens.size, 1))


@PATHS
@pytest.mark.parametrize("twin_of", [forked, copy.deepcopy])
def test_a_fork_and_its_origin_do_not_see_each_other(model, exact_limit, twin_of):
    def alone(tokens: mx.array) -> mx.array:
        cache = model.make_cache(exact_limit)
        read(model, PAST, cache, [PAST.size])
        return continued(model, cache, tokens)

    origin = model.make_cache(exact_limit)
    read(model, PAST, origin, [PAST.size])
    twin = twin_of(origin)
    answers = [[], []]
    for t in range(ONE.size):
        answers[0].append(continued(model, origin, ONE[t : t + 1]))
        answers[1].append(continued(model, twin, OTHER[t : t + 1]))
    assert mx.array_equal(mx.concatenate(answers[0], axis=1), alone(ONE))
    assert mx.array_equal(mx.concatenate(answers[1], axis=1), alone(OTHER))


def test_an_empty_cache_can_be_forked(model):
    twin = forked(model.make_cache())
    assert close(continued(model, twin, ONE), continued(model, model.make_cache(), ONE))


@PATHS
def test_reading_goes_on_from_a_state_put_into_a_new_cache(model, exact_limit):
    cache, twin = model.make_cache(exact_limit), model.make_cache(exact_limit)
    read(model, PAST, cache, [PAST.size])
    for old, new_one in zip(cache, twin):
        new_one.state = copy.deepcopy(old.state)
    assert [layer.tokens for layer in twin] == [PAST.size] * 2
    assert mx.array_equal(continued(model, twin, ONE), continued(model, cache, ONE))


def test_the_state_is_a_tree_of_everything_that_reading_changed(model):
    cache, twin = model.make_cache(), model.make_cache()
    read(model, PAST, cache, [PAST.size])
    for old, new_one in zip(cache, twin):
        new_one.state = tree_unflatten(tree_flatten(old.state))
    assert mx.array_equal(continued(model, twin, ONE), continued(model, cache, ONE))


def test_evaluating_the_state_leaves_no_graph_behind(model):
    """mlx-lm evaluates nothing but the state between pieces of a prompt."""
    cache = model.make_cache()
    for piece in range(20):
        model(sequence(LAYOUT.segment, piece)[None], cache=cache)
        mx.eval([layer.state for layer in cache])
        if piece == 3:
            mx.reset_peak_memory()
            after_few = mx.get_active_memory()
    assert mx.get_active_memory() <= after_few + 4096


def test_trimmed_tokens_are_forgotten_on_the_base_path(model):
    cache = model.make_cache(64)
    read(model, mx.concatenate([PAST, OTHER]), cache, [PAST.size + OTHER.size])
    assert all(layer.is_trimmable() for layer in cache)
    assert [layer.trim(OTHER.size) for layer in cache] == [OTHER.size] * 2
    fresh = model.make_cache(64)
    read(model, PAST, fresh, [PAST.size])
    assert close(continued(model, cache, ONE), continued(model, fresh, ONE))


def test_what_was_folded_cannot_be_trimmed(model):
    cache = model.make_cache()
    read(model, PAST, cache, [PAST.size])
    assert not any(layer.is_trimmable() for layer in cache)


def test_size_and_emptiness_are_those_of_the_exact_part(model):
    cache = model.make_cache(64)[0]
    assert cache.empty() and cache.size() == KVCache().size() == 0
    cache.update_and_fetch(mx.zeros((1, 2, 3, 8)), mx.zeros((1, 2, 3, 8)))
    assert not cache.empty() and cache.size() == 3
