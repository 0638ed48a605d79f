"""Which pages come back for which queries."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from ram_pages import RamPages
from tiny import llama_model

from mlx_edgeinf.measure.readings import every_page
from mlx_edgeinf.recall import Recall, finding, recall
from mlx_edgeinf.recall.index import Index
from mlx_edgeinf.recall.recall import BLOCK, QUESTION_BLOCK
from mlx_edgeinf.rotation import Rotation
from mlx_edgeinf.sources import in_batch

G, H, D, PLACE = 2, 4, 32, 2
ROTATION = Rotation(0.5 ** mx.arange(1, D // 2 + 1), False)


class Planted:
    """One layer of random tokens, those of a page alike, and queries that ask for some of the pages."""

    def __init__(self, tokens: int, runs: int, wanted: int):
        topics = mx.random.normal((1, G, -(-tokens // 16), D), key=mx.random.key(0))
        self.topics = mx.repeat(topics, 16, axis=2)[:, :, :tokens]
        self.keys = self.topics + 0.3 * mx.random.normal(self.topics.shape, key=mx.random.key(1))
        self.pages = RamPages(llama_model(num_hidden_layers=1, hidden_size=H * D))
        self.recall = Recall(self.pages, 0, ROTATION, D**-0.5, PLACE, wanted)
        self.recall.index = Index(runs, 16)
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


def test_an_index_of_every_page_is_what_it_would_be_without_a_bound():
    bounded, free = (Planted(1000, runs, wanted=16) for runs in (8, 64))
    index = every_page(bounded.recall)
    assert index.grain == 16 < bounded.recall.index.grain
    assert mx.allclose(index.filled, free.recall.index.filled[:, :62], atol=1e-2)
    bounded.recall.index = index
    assert bounded.ask(333).tolist() == free.ask(333).tolist() == [[333 // 16]] * G


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
    """For each block and head, once, and last; of those there are half of all at most."""
    planted = Planted(1000, runs, wanted=64)
    planted.recall.named = np.array([61, 1000, 7, 50])
    planted.ask_each(BLOCK * [990] + BLOCK * [333] + BLOCK * [0])
    for block, head in np.ndindex(3, G):
        chosen = planted.recall.chosen[block, head].tolist()
        assert chosen[2:] == [7, 61] and chosen[:2] == sorted(set(chosen) - {7, 61}) and len(chosen) == 4
    assert not (planted.recall.chosen == 50).any(axis=-1).all()


def test_pages_that_are_named_stand_by_the_best_of_their_neighbours_where_all_come_back_too():
    planted = Planted(16 * 12, 64, wanted=16 * 16)
    planted.recall.named = np.array([5, 6, 9, 10, 2, 3, 7, 11])
    assert planted.ask(100).tolist() == [[0, 1, 4, 8, 2, 3, 9, 10, 11, 5, 6, 7]] * G


def test_while_tokens_are_written_one_by_one_pages_are_chosen_for_several():
    planted = Planted(1000, 64, wanted=16)
    for at in range(0, 2 * BLOCK):
        planted.ask(0 if at < BLOCK else 333, queries=1)
    assert len(planted.pages.asked) == 2
