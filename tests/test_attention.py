from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import reference
from mlx_lm.models import gemma2, phi3
from mlx_lm.models.cache import KVCache
from tiny import (
    LAYOUT,
    MODELS,
    SIZES,
    close,
    cut,
    forgetting,
    interleaved_rope_model,
    llama_model,
    qwen2_model,
    qwen3_model,
    read,
    sequence,
    with_memory,
    without_positions,
)

from mlx_edgeinf.attention import retrofit
from mlx_edgeinf.basemodel import EXACT_BUDGET, UnsupportedModel, base_path_limit, kv_bytes_per_token
from mlx_edgeinf.cache import EdgeCache, ExactCache, Layout
from mlx_edgeinf.kinds import KINDS

LENGTH = 60
TOKENS = sequence(LENGTH)
PIECES = {
    "one at a time": cut(LENGTH, 1),
    "by the segment": [LAYOUT.capacity, *cut(LENGTH - LAYOUT.capacity, LAYOUT.segment)],
    "odd sizes": [3, 16, 1, 7, 1, 1, 13, 18],
}
ANY_PIECES = pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
ANY_KIND = pytest.mark.parametrize("kind", KINDS)
ANY_MODEL = pytest.mark.parametrize("make", MODELS)


def stock(model: nn.Module, pieces: list[int]) -> mx.array:
    return read(model, TOKENS, [KVCache() for _ in model.layers], pieces)


# -- the short path ------------------------------------------------------------------


@ANY_MODEL
@ANY_PIECES
def test_short_inputs_get_the_base_models_logits_bit_for_bit(make, pieces):
    model = with_memory(make(), exact_limit=LENGTH)
    assert mx.array_equal(read(model, TOKENS, model.make_cache(), pieces), stock(make(), pieces))


def test_quantised_models_too():
    def quantised() -> nn.Module:
        model = llama_model()
        nn.quantize(model, group_size=32, bits=4)
        return model

    model = with_memory(quantised(), exact_limit=LENGTH)
    assert mx.array_equal(read(model, TOKENS, model.make_cache(), [LENGTH]), stock(quantised(), [LENGTH]))


@ANY_MODEL
def test_without_a_cache_and_with_mlx_lms_own_the_base_model_answers(make):
    model = with_memory(make())
    assert mx.array_equal(model(TOKENS[None]), make()(TOKENS[None]))
    assert mx.array_equal(stock(model, [50, 10]), stock(make(), [50, 10]))


@ANY_MODEL
def test_until_something_is_folded_the_memory_path_answers_like_the_base_model(make):
    model = with_memory(make())
    logits = read(model, TOKENS, model.make_cache(), [LENGTH])
    assert close(logits[:, : LAYOUT.capacity], stock(make(), [LENGTH])[:, : LAYOUT.capacity])
    assert not close(logits, stock(make(), [LENGTH]), tolerance=0.1)


@ANY_MODEL
@ANY_PIECES
def test_exact_caches_read_like_the_base_model_however_long_the_input(make, pieces):
    model = with_memory(make())
    caches = [ExactCache.like(cache, LENGTH) for cache in model.make_cache()]
    assert close(read(model, TOKENS, caches, pieces), stock(make(), pieces), 1e-3)
    assert all(cache.offset == LENGTH and not cache.memory for cache in caches)


# -- the memory path -----------------------------------------------------------------


@pytest.mark.parametrize(
    "make, kind", [*((make, "centroids") for make in MODELS), *((llama_model, kind) for kind in KINDS)]
)
def test_any_cut_of_the_input_gives_the_same_logits(make, kind):
    model = with_memory(make(), kind)
    whole = read(model, TOKENS, model.make_cache(), [LENGTH])
    for pieces in PIECES.values():
        assert close(read(model, TOKENS, model.make_cache(), pieces), whole, 1e-3)


@pytest.mark.parametrize("make", [llama_model, qwen3_model])
def test_batches_do_not_see_each_other(make):
    model = with_memory(make())
    both = mx.stack([TOKENS, sequence(LENGTH, 1)])
    together = model(both, cache=model.make_cache())
    apart = [model(tokens[None], cache=model.make_cache()) for tokens in both]
    assert close(together, mx.concatenate(apart), 1e-3)


@pytest.mark.parametrize("make", [llama_model, qwen2_model, qwen3_model, interleaved_rope_model])
def test_one_centre_per_token_without_positions_makes_the_memory_path_full_attention(make):
    """All parts at once: where nothing is lost, the long path is the base model, mass for mass."""
    expected = stock(without_positions(make()), [LENGTH])
    model = retrofit(without_positions(make()), LAYOUT, "centroids", 64, 0)
    assert close(read(model, TOKENS, model.make_cache(), PIECES["odd sizes"]), expected, 1e-3)


@ANY_KIND
def test_behind_a_shut_gate_are_sinks_and_window_alone(kind):
    model = with_memory(llama_model(), kind)
    for layer in model.layers:
        layer.self_attn.memory_gate.bias -= 1e9
    shut = read(model, TOKENS, model.make_cache(), [LENGTH])
    assert close(shut, read(model, TOKENS, forgetting(model), [LENGTH]))


# -- one layer, in float64 -----------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_layer_agrees_with_the_token_by_token_reference(kind):
    """Queries, keys and values projected, turned, folded, remembered and gated as the method says."""
    model = with_memory(llama_model(num_hidden_layers=1), kind or "centroids")
    layer, gate = model.layers[0].self_attn, model.layers[0].self_attn.memory_gate
    layer.o_proj.weight = mx.eye(SIZES["hidden_size"])
    x = mx.random.normal((1, LENGTH, SIZES["hidden_size"]), key=mx.random.key(5))
    output = np.array(layer(x, cache=(model.make_cache() if kind else forgetting(model))[0]))[0]
    q, k, v = (
        (np.array(x[0], dtype=float) @ np.array(p.weight, dtype=float).T).reshape(LENGTH, -1, 8)
        for p in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    omega = 10000.0 ** (-np.arange(0, 8, 2) / 8)
    memories = [reference.memory_of(gate.memory, h) for h in range(4)] if kind else []
    gates = [reference.Gate(*parts) for parts in zip(*map(np.array, (gate.mass, gate.bias, gate.query)))]
    for g in range(2):
        own = slice(2 * g, 2 * g + 2)
        expected = reference.read_token_by_token(
            q[:, own].swapaxes(0, 1), k[:, g], v[:, g], LAYOUT, omega, 8**-0.5, memories[own], gates[own]
        )
        assert np.allclose(output.reshape(LENGTH, 4, 8)[:, own].swapaxes(0, 1), expected, atol=1e-3)


def test_memory_is_expected_at_the_distances_where_its_tokens_stand():
    """Averaged over the queries of a segment, from the first token after the window on."""
    model = with_memory(llama_model())
    heads = model.layers[0].self_attn.memory_gate.memory.heads
    to_newest = [LAYOUT.window + query + 1 for query in range(LAYOUT.segment)]
    # A token covers the distances half a position to both of its sides.
    assert heads.nearest == np.mean(to_newest) - 0.5
    assert heads.farthest == SIZES["max_position_embeddings"]


# -- migration -----------------------------------------------------------------------


def migrated_and_from_the_start(kind: str, exact_limit: int) -> tuple[EdgeCache, EdgeCache]:
    """Caches of the first layer. Of deeper ones the base path's inputs have seen everything exactly."""
    model = with_memory(llama_model(), kind)
    caches = model.make_cache(exact_limit), model.make_cache()
    for cache in caches:
        read(model, TOKENS, cache, PIECES["odd sizes"])
    return caches[0][0], caches[1][0]


def assert_same_memory(one: EdgeCache, other: EdgeCache) -> None:
    assert one.memory.keys() == other.memory.keys()
    for name, array in one.memory.items():
        assert close(other.memory[name], array, 1e-3), name


@pytest.mark.parametrize("exact_limit", [26, 34, 50])
def test_what_migrates_is_folded_like_what_never_was_exact(exact_limit):
    """Fixed features take every key alike, whatever attention it received."""
    migrated, from_the_start = migrated_and_from_the_start("exponential", exact_limit)
    assert migrated.folded == from_the_start.folded == 48
    assert_same_memory(migrated, from_the_start)


@pytest.mark.parametrize("exact_limit", [26, 34, 50])
def test_centroids_of_what_migrates_are_those_of_equals(exact_limit, monkeypatch):
    """The base path tells nobody which keys it asked for, so they weigh the same."""
    migrated, from_the_start = migrated_and_from_the_start("centroids", exact_limit)
    assert migrated.folded == from_the_start.folded == 48
    assert mx.all(migrated.memory["z"].sum(axis=-1) == 48).item()
    assert not close(migrated.memory["M"], from_the_start.memory["M"], 0.1)
    monkeypatch.setattr(EdgeCache, "note", lambda cache, received: None)
    assert_same_memory(*migrated_and_from_the_start("centroids", exact_limit))


def test_up_to_the_limit_a_migrating_input_is_read_exactly():
    model = with_memory(llama_model(), exact_limit=50)
    logits = read(model, TOKENS, model.make_cache(), [45, 15])
    assert close(logits[:, :50], stock(llama_model(), [45, 15])[:, :50])
    assert not close(logits[:, 50:], stock(llama_model(), [45, 15])[:, 50:], 0.1)


# -- what a model must be ------------------------------------------------------------


def test_another_attention_is_refused_by_name():
    sizes = {name: size for name, size in SIZES.items() if name != "max_position_embeddings"}
    other = gemma2.Model(gemma2.ModelArgs(model_type="gemma2", head_dim=8, **sizes))
    with pytest.raises(UnsupportedModel, match=r"gemma2\.Attention.*Supported: llama, mistral, qwen2"):
        retrofit(other, LAYOUT, "centroids", 4, 0)


def test_fused_projections_are_refused():
    other = phi3.Model(phi3.ModelArgs(model_type="phi3", **SIZES))
    with pytest.raises(UnsupportedModel, match="phi3"):
        retrofit(other, LAYOUT, "centroids", 4, 0)


def test_windows_of_a_models_own_are_refused():
    other = llama_model(layer_types=["full_attention", "sliding_attention"], sliding_window=8)
    with pytest.raises(UnsupportedModel, match="sliding-window"):
        retrofit(other, LAYOUT, "centroids", 4, 0)


def test_a_rope_that_scales_attention_is_refused():
    other = llama_model(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32})
    with pytest.raises(UnsupportedModel, match="YarnRoPE"):
        retrofit(other, LAYOUT, "centroids", 4, 0)


def test_a_refused_model_is_left_as_it_was():
    other = llama_model(layer_types=["full_attention", "sliding_attention"], sliding_window=8)
    before = other(TOKENS[None])
    with pytest.raises(UnsupportedModel):
        retrofit(other, LAYOUT, "centroids", 4, 0)
    assert "memory_gate" not in other.layers[0].self_attn
    assert mx.array_equal(other(TOKENS[None]), before)


# -- sizes ---------------------------------------------------------------------------


@ANY_MODEL
def test_bytes_per_token_are_those_of_mlx_lms_cache(make):
    model, cache = make(), [KVCache() for _ in range(2)]
    model(mx.zeros((1, KVCache.step), dtype=mx.int32), cache=cache)
    assert kv_bytes_per_token(model) == sum(layer.nbytes for layer in cache) / KVCache.step


def test_the_base_path_ends_with_the_trained_context_or_the_budget():
    assert base_path_limit(llama_model()) == 128
    wide = llama_model(max_position_embeddings=1 << 40)
    assert base_path_limit(wide) == EXACT_BUDGET // kv_bytes_per_token(wide)


def test_the_layouts_sizes_decide_when_a_model_folds():
    model = with_memory(interleaved_rope_model(), layout=Layout(sinks=1, window=4, segment=5))
    cache = model.make_cache()
    read(model, TOKENS, cache, [LENGTH])
    assert cache[0].folded == 50 and cache[0].offset == 10
