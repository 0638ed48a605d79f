from __future__ import annotations

from contextlib import closing

import mlx.core as mx
import numpy as np
import pytest
from ram_pages import RamPages
from tiny import MODELS, SIZES, llama_model, with_memory, without_positions

from mlx_edgeinf.cache import Layout, forked
from mlx_edgeinf.document_pages import store_shape
from mlx_edgeinf.generation import read_on
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.pagestore import PageStore
from mlx_edgeinf.pagestore.errors import StoreError
from mlx_edgeinf.recall import recall, summarize

LENGTH = 160
NO_SINKS, SINKS = Layout(sinks=0, window=8, segment=16), Layout(sinks=2, window=8, segment=16)
PIECES = {"at once": [LENGTH], "odd sizes": [1, 30, 2, 63, 64], "token by token": [100] + 60 * [1]}


def sequence(seed: int, length: int = LENGTH) -> mx.array:
    return mx.random.randint(0, SIZES["vocab_size"], (length,), key=mx.random.key(seed))


def read(model, tokens: mx.array, cache: list, pieces: list[int]) -> mx.array:
    ends = np.cumsum(pieces)
    parts = [model(tokens[None, end - size : end], cache=cache) for size, end in zip(pieces, ends)]
    return mx.concatenate(parts, axis=1)


def distance(logits: mx.array, expected: mx.array) -> float:
    return mx.abs(logits - expected).max().item()


# -- exactness ---------------------------------------------------------------------


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("make", MODELS)
def test_recalling_every_page_is_full_attention(make, pieces):
    """Nothing is lost and nothing counts twice, whatever the gates learnt about the memory."""
    expected = make()(sequence(0)[None])
    model = with_memory(make(), layout=NO_SINKS)
    recalled = read(model, sequence(0), model.make_cache(pages=RamPages(model), throughout=True), pieces)
    assert mx.allclose(recalled, expected, rtol=1e-3, atol=1e-3)
    assert distance(read(model, sequence(0), model.make_cache(), pieces), expected) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_with_sinks_and_any_memory_too_where_there_are_no_positions(kind):
    expected = without_positions(llama_model())(sequence(0)[None])
    model = with_memory(without_positions(llama_model()), kind, layout=SINKS)
    recalled = read(model, sequence(0), model.make_cache(pages=RamPages(model), throughout=True), [LENGTH])
    assert mx.allclose(recalled, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision, most", [("float16", 0.3), ("int8", 3)])
def test_from_a_file_it_is_full_attention_but_for_its_precision(tmp_path, precision, most):
    """Of logits up to 20."""
    expected = llama_model()(sequence(0)[None])
    model = with_memory(llama_model(), layout=NO_SINKS)
    shape = store_shape(model, precision)
    with closing(PageStore.create(tmp_path / "pages", shape, "a document", 1 << 28, summarize)) as pages:
        recalled = read(model, sequence(0), model.make_cache(pages=pages, throughout=True), [LENGTH])
        assert 0 < distance(recalled, expected) < most


def test_no_token_knows_what_comes_after_it():
    """Where not everything is recalled: what a later token asks for must not come back for an earlier one."""
    model = with_memory(llama_model(), layout=SINKS)

    def logits(tokens: mx.array) -> mx.array:
        cache = model.make_cache(pages=RamPages(model), throughout=True)
        for layer in cache:
            layer.recall._tokens = 16
        return model(tokens[None], cache=cache)

    changed = mx.concatenate([sequence(0)[:-20], sequence(3, 20)])
    assert mx.array_equal(logits(sequence(0))[:, :-20], logits(changed)[:, :-20])


def test_an_answer_to_be_predicted_is_not_known_before_its_end():
    """Where it is read into a fork for that; of a question the end may choose for the beginning."""
    model = with_memory(llama_model(), layout=SINKS)
    read_before = model.make_cache(pages=RamPages(model))
    model(sequence(0)[None], cache=read_before)

    def first(tokens: mx.array, causal: bool) -> mx.array:
        cache = forked(read_before, causal)
        for layer in cache:
            layer.recall._tokens = 16
        return model(tokens[None], cache=cache)[:, 0]

    answer, other = (mx.concatenate([sequence(3, 4), sequence(seed, 12)]) for seed in (4, 5))
    assert mx.array_equal(first(answer, causal=True), first(other, causal=True))
    assert not mx.array_equal(first(answer, causal=False), first(other, causal=False))


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_a_model_keeps_its_precision(dtype):
    model = with_memory(llama_model(), layout=SINKS)
    model.set_dtype(dtype)
    cache = model.make_cache(pages=RamPages(model), throughout=True)
    assert model(sequence(0)[None], cache=cache).dtype == dtype
    assert {layer.local.keys.dtype for layer in cache} == {dtype}
    # What came back is held while tokens are written.
    model(sequence(1)[None, :1], cache=cache)
    assert {part.dtype for layer in cache for part in layer.recall._held[:2]} == {dtype}


def test_several_texts_at_once_are_refused():
    model = with_memory(llama_model(), layout=SINKS)
    with pytest.raises(ValueError, match="one text at a time"):
        model(mx.stack([sequence(0), sequence(1)]), cache=model.make_cache(pages=RamPages(model)))


# -- forks ---------------------------------------------------------------------------


def test_reading_is_as_without_recall_and_what_is_asked_after_it_is_not(monkeypatch):
    """But for the gate, which gives way from the first segment on."""
    monkeypatch.setattr(recall, "PRECEDENCE", 0.0)
    model = with_memory(llama_model(), layout=SINKS)
    plain, kept = model.make_cache(), model.make_cache(pages=RamPages(model))
    assert mx.array_equal(model(sequence(0)[None], cache=plain), model(sequence(0)[None], cache=kept))
    asked = [model(sequence(1, 20)[None], cache=forked(cache)) for cache in (plain, kept)]
    assert distance(*asked) > 0.1
    on = [model(sequence(1, 20)[None], cache=cache) for cache in (plain, kept)]
    assert mx.array_equal(*on)


def test_a_fork_recalls_as_if_everything_before_had_been_read_with_every_page():
    """With all pages, what was read without recall, and no sinks, a layer answers by full attention."""
    model = with_memory(llama_model(num_hidden_layers=1), layout=NO_SINKS)
    cache = model.make_cache(pages=RamPages(model))
    model(sequence(0)[None], cache=cache)
    expected = llama_model(num_hidden_layers=1)(mx.concatenate([sequence(0), sequence(1, 40)])[None])
    answered = model(sequence(1, 40)[None], cache=forked(cache))
    assert mx.allclose(answered, expected[:, -40:], rtol=1e-3, atol=1e-3)


def test_recall_takes_precedence_over_the_memory(monkeypatch):
    """As if the bias of the gates were lower, while a text is read and where it is asked."""
    model = with_memory(llama_model(num_hidden_layers=1), layout=SINKS)
    gate = model.layers[0].self_attn.memory_gate

    def answered(precedence: float) -> tuple[mx.array, ...]:
        monkeypatch.setattr(recall, "PRECEDENCE", precedence)
        cache = model.make_cache(pages=RamPages(model))
        monkeypatch.setattr(cache[0].recall, "_tokens", 32)
        read = model(sequence(0)[None], cache=cache)
        return read, model(sequence(1, 5)[None], cache=forked(cache))

    given_way, untouched = answered(2.0), answered(0.0)
    gate.bias = gate.bias - 2.0
    for precedes, equal, lower in zip(given_way, untouched, answered(0.0)):
        assert mx.allclose(lower, precedes, atol=1e-4) and distance(equal, precedes) > 1e-2


def test_where_nothing_will_be_asked_of_a_disk_the_memorys_gate_is_as_it_was_trained():
    model = with_memory(llama_model(), layout=SINKS)
    cache, plain = model.make_cache(pages=RamPages(model)), model.make_cache()
    throughout = model.make_cache(pages=RamPages(model), throughout=True)
    for each in (cache, plain, throughout):
        model(sequence(0)[None], cache=each)
    assert cache[0].precedence == recall.PRECEDENCE > plain[0].precedence == throughout[0].precedence == 0
    cache[0].recall.pages.failure = StoreError("gone")
    assert cache[0].precedence == 0


def test_what_left_the_window_is_kept_at_the_latest_when_it_is_asked_for():
    """And by `read_on` while the segment that pushed it out is computed."""
    model = with_memory(llama_model(), layout=SINKS)
    late, soon = (model.make_cache(pages=RamPages(model)) for _ in range(2))
    model(sequence(0)[None], cache=late)
    read_on(model, sequence(0), soon)
    there = [[layer.recall.pages.tokens[0].shape[2] for layer in cache[:1]] for cache in (late, soon)]
    assert there[0] < there[1] == [soon[0].folded]
    asked = [model(sequence(1, 20)[None], cache=forked(cache)) for cache in (late, soon)]
    assert mx.array_equal(*asked)


def test_what_a_fork_reads_on_its_origin_does_not_see():
    model = with_memory(llama_model(), layout=SINKS)
    cache = model.make_cache(pages=RamPages(model), throughout=True)
    model(sequence(0)[None], cache=cache)
    fork, again = forked(cache), forked(cache)
    assert fork[0].recall.pages is fork[1].recall.pages
    first = model(sequence(1, 50)[None], cache=fork)
    model(sequence(2, 50)[None], cache=cache)
    assert mx.array_equal(model(sequence(1, 50)[None], cache=again), first)
