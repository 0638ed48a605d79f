from __future__ import annotations

import tempfile

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from tiny import LAYOUT, learnt_recall, llama_model, with_memory

from mlx_edgeinf.adapter import gate_parameters, recall_parameters, untrained_recall
from mlx_edgeinf.cache import EdgeCache
from mlx_edgeinf.measure import readings
from mlx_edgeinf.measure.gap import (
    ALIKE,
    BY_MASS,
    FULL,
    H2O,
    HALF,
    LONGER,
    OURS,
    RECALL,
    RECALL_ALONE,
    RECALL_ALONE_BY_MASS,
    RECALL_SHUFFLED,
    RECALL_UNTRAINED,
    ROWS,
    SHUFFLED,
    SNAPKV,
    UNTRAINED,
    WINDOW,
    ZEROED,
)
from mlx_edgeinf.measure.readings import (
    BorrowingCache,
    Reader,
    features,
    gates,
    half,
    memory_gates,
    tally,
    tokens_worth,
)

LENGTH, FIRST = 72, 2 * LAYOUT.window
# In the tiny models' state: a head's key and value, and a feature of 2 centres, 2 weights.
TOKEN, FEATURE = 2 * 8, 2 * 8 + 2
# Of so short a text everything is recalled, and the memory adds nothing.
SAME = (SHUFFLED, ZEROED, RECALL_ALONE, RECALL_ALONE_BY_MASS, RECALL_UNTRAINED)


def tokens(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, LENGTH).tolist()


@pytest.fixture
def reader() -> Reader:
    model = with_memory(llama_model())
    for gate in memory_gates(model):
        gate.mass = mx.abs(gate.mass) + 0.1
    learnt_recall(model)
    untrained = gate_parameters(with_memory(llama_model())) | untrained_recall(model)
    untrained = {path: 0.5 * value for path, value in untrained.items()}
    return Reader(model, untrained, {"first": tokens(1), "second": tokens(2)}, FIRST)


def losses(reader: Reader, name: str, row: str, of: tuple[str, str] | None = None) -> np.ndarray:
    pieces = reader.measure(name, row)[of or (name, row)]
    return np.concatenate([piece.losses for piece in pieces])


def stock_losses(model: nn.Module, text: list[int]) -> np.ndarray:
    """Of the tokens from FIRST on, by mlx-lm's own forward pass."""
    logits = model(mx.array(text[:-1])[None], cache=[KVCache() for _ in model.layers])[0]
    likelihoods = nn.log_softmax(logits)[mx.arange(len(text) - 1), mx.array(text[1:])]
    return -np.array(likelihoods)[FIRST - 1 :]


def test_full_attention_has_the_losses_of_stock_mlx_lm(reader):
    stock = stock_losses(reader.model, reader.documents["first"])
    np.testing.assert_allclose(losses(reader, "first", FULL), stock, rtol=1e-4, atol=1e-4)


def test_full_attention_never_takes_the_base_path(reader, monkeypatch):
    def base_path(*_):
        raise AssertionError

    monkeypatch.setattr("mlx_lm.models.llama.scaled_dot_product_attention", base_path)
    assert losses(reader, "first", FULL).size == LENGTH - FIRST


def test_every_row_counts_the_same_tokens_and_no_two_read_alike(reader):
    rows = [row for row in ROWS if row not in SAME]
    read = [losses(reader, "first", row) for row in rows]
    assert {each.size for each in read} == {LENGTH - FIRST}
    differences = [np.abs(a - b).max() for at, a in enumerate(read) for b in read[:at]]
    assert min(differences) > 1e-3


def test_an_empty_memory_leaves_sinks_and_window_to_the_last_bit(reader):
    assert np.array_equal(losses(reader, "first", ZEROED), losses(reader, "first", WINDOW))


def test_no_head_is_opened_by_an_empty_memory_whatever_it_learnt_of_the_mass(reader):
    memory_gates(reader.model)[0].mass[1] = -0.5
    assert np.array_equal(losses(reader, "first", ZEROED), losses(reader, "first", WINDOW))


def test_the_shuffled_memory_is_that_of_the_next_document(reader):
    lent = losses(reader, "second", OURS, of=("first", SHUFFLED))
    assert not np.allclose(lent, losses(reader, "first", OURS))
    assert not np.allclose(lent, losses(reader, "first", WINDOW))


def test_a_document_with_its_own_memory_lent_to_it_reads_as_ever(reader):
    reader.documents["second"] = reader.documents["first"]
    own = losses(reader, "second", OURS)
    assert np.array_equal(losses(reader, "second", OURS, of=("first", SHUFFLED)), own)


def test_lending_does_not_disturb_the_lender(reader):
    alone = reader.read(reader.documents["first"], reader.model.make_cache())
    assert np.array_equal(losses(reader, "first", OURS), np.concatenate([piece.losses for piece in alone]))


def test_other_gates_are_in_place_for_a_while_only(reader):
    trained = {path: np.array(value) for path, value in gate_parameters(reader.model).items()}
    zeros = {path: mx.zeros(value.shape) for path, value in gate_parameters(reader.model).items()}
    with gates(reader.model, zeros):
        assert not any(value.any().item() for value in gate_parameters(reader.model).values())
    after = gate_parameters(reader.model)
    assert all(np.array_equal(after[path], value) for path, value in trained.items())


# -- equal bytes ----------------------------------------------------------------------


def test_a_memory_is_worth_the_tokens_that_take_its_bytes(reader):
    """What a layer holds beside its exact part, in float32, to the last token."""
    cache = reader.model.make_cache()
    list(reader.read(reader.documents["first"], cache))
    assert cache[0].folded
    memory = sum(array.nbytes for array in cache[0].memory.values()) // (4 * 2)
    worth = tokens_worth(reader.model)
    # Beside the memory, the attention that each token of the next fold received.
    assert 0 <= worth * TOKEN - (memory + LAYOUT.segment) < TOKEN
    assert memory == 4 * FEATURE


def test_tokens_in_half_precision_take_half_the_bytes_of_the_same_memory(reader):
    whole = tokens_worth(reader.model), half(reader.model)
    reader.model.set_dtype(mx.bfloat16)
    assert 0 <= tokens_worth(reader.model) - 2 * (whole[0] - 1) <= 2 and half(reader.model) == whole[1]


@pytest.mark.parametrize("row", [LONGER, H2O, SNAPKV])
def test_rows_of_the_same_bytes_keep_so_many_more_tokens(reader, row):
    worth = tokens_worth(reader.model)
    with reader.caches(row, LENGTH) as caches:
        assert {cache.layout.capacity for cache in caches} == {LAYOUT.capacity + worth}


def test_half_the_memory_is_half_the_bytes_for_a_while_only(reader):
    gate = memory_gates(reader.model)[0]
    gate.memory.features = 40
    whole, number = tokens_worth(reader.model), half(reader.model)
    taken = number * FEATURE + LAYOUT.segment
    assert whole * TOKEN / 2 - FEATURE < taken <= whole * TOKEN / 2
    with features(reader.model, number):
        assert {each.memory.features for each in memory_gates(reader.model)} == {number}
    assert gate.memory.features == 40


def test_tokens_fold_alike_whatever_attention_they_received(reader):
    def weigh_as_many_as_they_are(cache: EdgeCache) -> bool:
        weight, z = cache.memory["weight"], cache.memory["z"]
        shares = [part / part.sum(axis=-1, keepdims=True) for part in (weight, z)]
        return mx.allclose(*shares, rtol=1e-3).item()

    for row, alike in ((ALIKE, True), (OURS, False)):
        with reader.caches(row, LENGTH) as cache:
            list(reader.read(reader.documents["first"], cache))
        assert weigh_as_many_as_they_are(cache[0]) == alike


def test_where_all_is_recalled_the_memory_adds_nothing(reader):
    recalled, alone, own = (losses(reader, "first", row) for row in (RECALL, RECALL_ALONE, OURS))
    assert np.allclose(recalled, alone, atol=1e-3) and not np.allclose(recalled, own, atol=0.1)


def test_rows_by_mass_have_untrained_gates_of_recall_for_a_while_only(reader):
    trained = recall_parameters(reader.model)
    for row in BY_MASS:
        with reader.caches(row, LENGTH) as cache:
            assert all(layer.recall for layer in cache)
            now, untrained = recall_parameters(reader.model), untrained_recall(reader.model)
            assert all(mx.array_equal(now[path], untrained[path]) for path in trained)
    after = recall_parameters(reader.model)
    assert all(after[path] is value for path, value in trained.items())


def test_pages_of_another_text_come_back_as_far_as_it_was_read(reader):
    shuffled = losses(reader, "first", RECALL_SHUFFLED)
    assert not np.allclose(shuffled, losses(reader, "first", RECALL_ALONE), atol=0.1)
    reader.documents["second"] = reader.documents["first"]
    assert np.array_equal(losses(reader, "first", RECALL_SHUFFLED), losses(reader, "first", RECALL_ALONE))


def test_who_borrows_pages_leaves_none(reader):
    with reader.caches(RECALL_ALONE, LENGTH) as lenders:
        borrowers = [BorrowingCache.of(lender) for lender in lenders]
        list(reader.read(reader.documents["first"], lenders))
        for lender in lenders:
            lender.recall.flush()
        kept = lenders[0].recall.index.tokens
        list(reader.read(reader.documents["second"], borrowers))
        assert borrowers[0].folded and lenders[0].recall.index.tokens == kept


def test_untrained_gates_have_recall_too(reader):
    with reader.caches(RECALL_UNTRAINED, LENGTH) as cache:
        now = gate_parameters(reader.model) | recall_parameters(reader.model)
        assert all(np.array_equal(now[path], value) for path, value in reader.untrained.items())
        assert all(layer.recall and layer._kind for layer in cache)


def test_recalled_pages_are_gone_after_reading(reader, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with reader.caches(RECALL, LENGTH) as cache:
        list(reader.read(reader.documents["first"], cache))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_half_the_memory_and_untrained_gates_leave_the_model_as_it_was(reader):
    before = losses(reader, "first", OURS)
    for row in (HALF, UNTRAINED, RECALL_UNTRAINED):
        losses(reader, "first", row)
    assert np.array_equal(losses(reader, "first", OURS), before)


def test_a_tally_sums_each_stretch():
    pieces = [readings.Piece(np.array([1.0, 2.0, 3.0]), 0.5), readings.Piece(np.array([4.0]), 0.25)]
    assert tally(pieces, [1, 3]) == {"nats": [1.0, 9.0], "tokens": [1, 3], "seconds": 0.8}
