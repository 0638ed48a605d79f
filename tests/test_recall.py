from __future__ import annotations

from contextlib import closing

import mlx.core as mx
import numpy as np
import pytest
from ram_pages import RamPages
from tiny import MODELS, SIZES, llama_model, with_memory, without_positions

from mlx_edgeinf.attention import store_shape
from mlx_edgeinf.cache import Layout, forked
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.pagestore import PageStore
from mlx_edgeinf.recall import Recall, finding, recall, summarize
from mlx_edgeinf.recall.recall import BLOCK, QUESTION_BLOCK
from mlx_edgeinf.rotation import Rotation
from mlx_edgeinf.sources import in_batch

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


@pytest.mark.parametrize("precision, most", [("float16", 0.3), ("int8", 2)])
def test_from_a_file_it_is_full_attention_but_for_its_precision(tmp_path, precision, most):
    """Of logits up to 20."""
    expected = llama_model()(sequence(0)[None])
    model = with_memory(llama_model(), layout=NO_SINKS)
    shape = store_shape(model, precision)
    with closing(PageStore.create(tmp_path / "pages", shape, "a document", 1 << 28, summarize)) as pages:
        recalled = read(model, sequence(0), model.make_cache(pages=pages, throughout=True), [LENGTH])
        assert 0 < distance(recalled, expected) < most


# -- choosing ------------------------------------------------------------------------

G, H, D, PLACE = 2, 4, 32, 2
ROTATION = Rotation(0.5 ** mx.arange(1, D // 2 + 1), False)


class Planted:
    """One layer of random tokens, those of a page alike, and queries that ask for some of the pages."""

    def __init__(self, tokens: int, runs: int, wanted: int):
        topics = mx.random.normal((1, G, -(-tokens // 16), D), key=mx.random.key(0))
        self.topics = mx.repeat(topics, 16, axis=2)[:, :, :tokens]
        self.keys = self.topics + 0.3 * mx.random.normal(self.topics.shape, key=mx.random.key(1))
        self.pages = RamPages(llama_model(num_hidden_layers=1, hidden_size=H * D))
        self.recall = Recall(self.pages, 0, ROTATION, D**-0.5, PLACE, wanted, runs)
        # Keys, values and which of them each block took, as the memory is told.
        self.tokens: list[tuple[mx.array, ...]] = []
        for start in range(0, tokens, 40):
            part = self.keys[:, :, start : start + 40]
            self.recall.append(part, part)

    def ask(self, place: int, queries: int = 2 * BLOCK) -> np.ndarray:
        """Queries that all want the topic of a place in the text; the pages (G, k) that the last ones get."""
        return self.ask_each(queries * [place])

    def ask_each(self, places: list[int]) -> np.ndarray:
        """As `ask`, with a place for each query."""
        blocks, length = -(-len(places) // BLOCK), min(len(places), BLOCK)
        topics = mx.repeat(self.topics[:, :, mx.array(places[: blocks * length])], H // G, axis=1)
        middle = (PLACE - self.recall._tokens / 2) * ROTATION.omega
        queries, log_mass = in_batch(ROTATION.turn(4 * topics, middle), blocks), mx.zeros((blocks, H, length))
        self.recall.read(queries, log_mass, lambda *tokens: self.tokens.append(tokens) or {})
        return self.recall.chosen[-1]


@pytest.mark.parametrize("runs", [64, 32, 16, 8])
@pytest.mark.parametrize("place", [5, 333, 990])
def test_each_head_gets_the_page_it_asks_for(runs, place):
    assert Planted(1000, runs, wanted=16).ask(place).tolist() == [[place // 16]] * G


def test_the_first_query_of_a_block_and_those_before_it_choose():
    planted = Planted(1000, 64, wanted=16)
    planted.ask(5)
    planted.ask(333, queries=BLOCK)
    # The first of the new block is one against three.
    assert planted.recall.chosen.tolist() == [[[0]] * G]
    assert planted.ask(333, queries=BLOCK).tolist() == [[333 // 16]] * G


@pytest.mark.parametrize("runs", [64, 8])
def test_the_blocks_of_a_question_choose_for_themselves(runs, monkeypatch):
    """Where the index is coarse too: its runs are not chosen by the first block alone."""
    monkeypatch.setattr(finding, "CANDIDATES", 40)
    planted = Planted(1000, runs, wanted=16)
    planted.recall.causal = False
    planted.ask_each(BLOCK * [5] + BLOCK * [333] + BLOCK * [990])
    assert planted.recall.chosen.tolist() == [[[page]] * G for page in (0, 333 // 16, 990 // 16)]


@pytest.mark.parametrize(
    "causal, sizes", [(True, [(8, BLOCK), (1, BLOCK), (1, 6)]), (False, [(2, QUESTION_BLOCK), (1, 22)])]
)
def test_a_question_is_asked_in_larger_blocks_than_an_answer(causal, sizes, monkeypatch):
    """So many of them at once that what comes back is bounded."""
    monkeypatch.setattr(recall, "TOGETHER", 8 * 16)
    planted = Planted(1000, 64, wanted=16)
    planted.recall.causal = causal
    queries = mx.arange(150.0).reshape(1, 1, 150, 1)
    parts = [part for (part,) in planted.recall.in_blocks(queries)]
    assert mx.array_equal(mx.concatenate([part.reshape(-1) for part in parts]), queries.reshape(-1))
    assert [part.shape[::2] for part in parts] == sizes


@pytest.mark.parametrize("block", [1, 4])
def test_a_block_of_queries_is_chosen_for_by_as_many_up_to_its_first(block):
    planted = Planted(1000, 64, wanted=16)
    planted.recall.block = block
    queries = mx.broadcast_to(mx.arange(11.0)[:, None], (1, H, 11, D))
    parts = list(planted.recall.in_blocks(queries, queries[..., :1]))
    assert [part.shape[::2] for part, _ in parts] == ([(11, 1)] if block == 1 else [(2, 4), (1, 3)])
    chosen = [planted.recall._latest(part, other[..., 0])[0][:, 0, :, 0].tolist() for part, other in parts]
    if block == 1:
        assert chosen == [[[float(at)] for at in range(11)]]
    else:
        assert chosen == [[[0, 0, 0, 0], [1, 2, 3, 4]], [[5, 6, 7, 8]]]


def test_no_more_pages_come_back_than_are_wanted_and_in_the_order_of_the_text():
    planted = Planted(1000, 64, wanted=64)
    chosen = planted.ask(888)
    assert chosen.shape == (G, 4) and (np.diff(chosen, axis=-1) > 0).all()
    assert np.all(np.any(chosen == 888 // 16, axis=-1))


def test_a_page_that_several_blocks_want_is_read_once():
    planted = Planted(1000, 64, wanted=64)
    planted.ask(888, queries=5 * BLOCK)
    assert planted.recall.chosen.shape == (5, G, 4) and planted.pages.asked[-1].shape == (G, 4)


def test_the_memory_is_told_which_tokens_each_block_took():
    """The pages that it chose, and those that fill no page; whatever other blocks and heads have chosen."""
    planted = Planted(1000, 64, wanted=64)
    planted.ask(333, queries=BLOCK)
    planted.ask(888, queries=4 * BLOCK)
    keys, values, taken = map(np.array, planted.tokens[-1])
    assert len(np.unique(planted.recall.chosen)) > 4
    assert taken.shape == (4, G, keys.shape[2]) and keys.shape == values.shape
    for block, head in np.ndindex(4, G):
        pages = planted.recall.chosen[block, head][:, None] * 16 + np.arange(16)
        expected = np.array(planted.keys)[0, head, [*pages.ravel(), *range(992, 1000)]]
        assert np.allclose(keys[0, head, taken[block, head] == 1], expected, atol=2e-3)


def test_summaries_are_read_only_where_the_index_is_too_coarse(monkeypatch):
    fine, coarse = Planted(1000, 64, 16), Planted(1000, 32, 16)
    monkeypatch.setattr(RamPages, "summaries", lambda *_: 1 / 0)
    fine.ask(5)
    with pytest.raises(ZeroDivisionError):
        coarse.ask(5)


def test_few_candidates_are_looked_at_however_long_the_text(monkeypatch):
    monkeypatch.setattr(finding, "CANDIDATES", 32)
    planted, looked = Planted(4000, 64, 16), []
    summaries = RamPages.summaries
    monkeypatch.setattr(RamPages, "summaries", lambda *a: looked.append(a[-1]) or summaries(*a))
    assert planted.ask(3333).tolist() == [[208]] * G
    # And the two latest pages, of no whole run.
    assert [each.shape for each in looked] == [(G, 34)]


@pytest.mark.parametrize("runs", [64, 32])
def test_the_best_pages_that_are_named_come_back_beside_those_that_are_wanted(runs):
    """For each block and head, once, in the order of the text; of those there are half of all at most."""
    planted = Planted(1000, runs, wanted=64)
    planted.recall.named = np.array([61, 1000, 7, 50])
    planted.ask_each(BLOCK * [990] + BLOCK * [333] + BLOCK * [0])
    for block, head in np.ndindex(3, G):
        chosen = planted.recall.chosen[block, head].tolist()
        assert {7, 61} <= set(chosen) and chosen == sorted(set(chosen)) and len(chosen) == 4
    assert not (planted.recall.chosen == 50).any(axis=-1).all()


def test_while_tokens_are_written_one_by_one_pages_are_chosen_for_several():
    planted = Planted(1000, 64, wanted=16)
    for at in range(0, 2 * BLOCK):
        planted.ask(0 if at < BLOCK else 333, queries=1)
    assert len(planted.pages.asked) == 2


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


def test_reading_is_as_without_recall_and_what_is_asked_after_it_is_not():
    model = with_memory(llama_model(), layout=SINKS)
    plain, kept = model.make_cache(), model.make_cache(pages=RamPages(model))
    assert mx.array_equal(model(sequence(0)[None], cache=plain), model(sequence(0)[None], cache=kept))
    asked = [model(sequence(1, 20)[None], cache=forked(cache)) for cache in (plain, kept)]
    assert distance(*asked) > 0.1
    read_on = [model(sequence(1, 20)[None], cache=cache) for cache in (plain, kept)]
    assert mx.array_equal(*read_on)


def test_a_fork_recalls_as_if_everything_before_had_been_read_with_every_page():
    """With all pages, what was read without recall, and no sinks, a layer answers by full attention."""
    model = with_memory(llama_model(num_hidden_layers=1), layout=NO_SINKS)
    cache = model.make_cache(pages=RamPages(model))
    model(sequence(0)[None], cache=cache)
    expected = llama_model(num_hidden_layers=1)(mx.concatenate([sequence(0), sequence(1, 40)])[None])
    answered = model(sequence(1, 40)[None], cache=forked(cache))
    assert mx.allclose(answered, expected[:, -40:], rtol=1e-3, atol=1e-3)


def test_what_a_fork_reads_on_its_origin_does_not_see():
    model = with_memory(llama_model(), layout=SINKS)
    cache = model.make_cache(pages=RamPages(model), throughout=True)
    model(sequence(0)[None], cache=cache)
    fork, again = forked(cache), forked(cache)
    assert fork[0].recall.pages is fork[1].recall.pages
    first = model(sequence(1, 50)[None], cache=fork)
    model(sequence(2, 50)[None], cache=cache)
    assert mx.array_equal(model(sequence(1, 50)[None], cache=again), first)
