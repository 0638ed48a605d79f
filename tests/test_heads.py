from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from held_out import evaluating
from numpy.testing import assert_allclose, assert_array_equal
from tiny import LAYOUT, llama_model, with_memory

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig
from mlx_edgeinf.centroids import CentroidMemory
from mlx_edgeinf.measure import heads
from mlx_edgeinf.measure.gap import OURS, WINDOW
from mlx_edgeinf.measure.heads import (
    BY_HEAD,
    BY_LAYER,
    LEAST,
    ODDS,
    TESTED,
    UnevenMemory,
    bought,
    split,
    splits,
    summary,
)
from mlx_edgeinf.measure.readings import memory_gates
from mlx_edgeinf.measure.results import Results, ResultsError
from mlx_edgeinf.measure.subject import Subject


@pytest.fixture
def run(tmp_path, tiny_subject):
    return evaluating(tmp_path, "heads", "h.json", "--length", "72")


def test_one_document_tells_what_heads_buy_and_the_other_tests_the_splits(run, tmp_path, capsys):
    assert run() == 0
    results = Results.read(tmp_path / "h.json")
    first, second = (results.entries[name] for name in results.setup["documents"])
    assert first.keys() == {WINDOW, OURS, *map(heads._row, ODDS)}
    assert second.keys() == {*TESTED}
    shown = capsys.readouterr().out
    assert "| layer | saved by its memory, nats |" in shown and "1 other document:" in shown


def test_what_heads_buy_adds_up_to_what_the_memory_saves():
    # One layer and one segment with a memory: nothing is left to truncate, so the sum must be exact.
    model = with_memory(llama_model(num_hidden_layers=1))
    tokens = np.random.default_rng(0).integers(0, 90, LAYOUT.capacity + LAYOUT.segment + 1).tolist()

    def loss(shift: float) -> float:
        gate = memory_gates(model)[0]
        before, gate.bias = gate.bias, gate.bias + shift
        value, _ = heads.excerpt_gradients(model, heads.Excerpt(tokens), heads.Objective())
        gate.bias = before
        return value

    # A random model's gates are all but open, so the loss bends more over s than a trained one's.
    points, weights = np.polynomial.legendre.leggauss(24)
    slopes = np.array([heads._slopes(model, tokens, (1 + s) / 2) for s in points])
    assert slopes.shape == (24, 1, memory_gates(model)[0].memory.heads.n_kv_heads)
    assert_allclose(weights / 2 @ slopes.sum(axis=(1, 2)), loss(0) - loss(-30), rtol=1e-3)


def test_a_head_buys_what_its_own_gates_do():
    # As above, but of one kv head at a time: the slope is that of the loss over these query heads' biases.
    model = with_memory(llama_model(num_hidden_layers=1))
    tokens = np.random.default_rng(0).integers(0, 90, LAYOUT.capacity + LAYOUT.segment + 1).tolist()
    gate, step = memory_gates(model)[0], 1e-2
    kv_heads = gate.memory.heads.n_kv_heads
    slopes, trained = heads._slopes(model, tokens, 1.0)[0], gate.bias
    for head in range(kv_heads):
        own = mx.repeat(mx.arange(kv_heads) == head, gate.bias.size // kv_heads)
        losses = []
        for shift in (-step, step):
            gate.bias = trained + shift * own
            losses.append(heads.excerpt_gradients(model, heads.Excerpt(tokens), heads.Objective())[0])
        gate.bias = trained
        assert slopes[head] == pytest.approx((losses[1] - losses[0]) / (2 * step), rel=0.02, abs=1e-5)


def test_what_is_bought_is_the_integral_over_the_odds(tmp_path):
    # Losses that fall by a s + b s^2, with other a and b for each document, layer and head.
    a, b = np.random.default_rng(0).random((2, 3, 2, 4))
    names = ["one", "two", "three", "other", "another", "last"]
    results = Results(tmp_path / "h.json", {"documents": dict.fromkeys(names, "")})
    for name, first, second in zip(names, a, b):
        slopes = {heads._row(s): {"slopes": (-first - 2 * second * s).tolist()} for s in ODDS}
        results.add({(name, row): entry for row, entry in slopes.items()})
    assert_allclose(bought(results), (a + b).transpose(1, 2, 0), rtol=1e-9)


def test_the_gates_are_left_as_they_were():
    model = with_memory(llama_model())
    before = np.array(memory_gates(model)[0].bias)
    heads._slopes(model, [1] * 40, 0.5)
    assert_array_equal(memory_gates(model)[0].bias, before)


def test_each_head_of_an_uneven_memory_clusters_for_itself():
    gate = memory_gates(with_memory(llama_model()))[0]
    sizes = [6, 3]
    uneven = UnevenMemory(gate.memory.heads, sizes)
    state = uneven.empty(1)
    shape = (1, 2, 16, gate.memory.heads.head_dim)
    keys, values = (mx.random.normal(shape, key=mx.random.key(n)) for n in (0, 1))
    received = mx.random.uniform(shape=(1, 2, 16), key=mx.random.key(2))
    for _ in range(2):
        state = uneven.write(state, keys, values, received)
    for at, size in enumerate(sizes):
        alone, own = CentroidMemory(uneven._each[at].heads, size), slice(at, at + 1)
        expected = alone.empty(1)
        for _ in range(2):
            expected = alone.write(expected, keys[:, own], values[:, own], received[:, own])
        for name, part in state.items():
            assert_array_equal(part[:, own, :size], expected[name])
            assert not part[:, own, size:].any()
    assert_allclose(state["z"].sum(axis=-1), 32, rtol=1e-6)


def test_an_uneven_memory_of_equal_heads_is_an_even_one():
    gate = memory_gates(with_memory(llama_model()))[0]
    shape = gate.memory.heads
    even, uneven = CentroidMemory(shape, 5), UnevenMemory(shape, [5] * shape.n_kv_heads)
    size = (1, shape.n_kv_heads, 16)
    tokens = [mx.random.normal((*size, shape.head_dim), key=mx.random.key(n)) for n in (0, 1)]
    received = mx.random.uniform(shape=size, key=mx.random.key(2))
    first, second = (memory.write(memory.empty(1), *tokens, received) for memory in (even, uneven))
    assert all(np.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_the_splits_are_read_and_compared_with_heads_alike(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(heads, "LEAST", 1)
    # Whatever the random gates of a tiny model buy.
    monkeypatch.setattr(heads, "bought", lambda _: np.array([[[3.0], [1.0]], [[0.0], [1.0]]]))
    assert run() == 0
    results = Results.read(tmp_path / "h.json")
    rows = results.entries[list(results.setup["documents"])[1]]
    per_token = {row: np.sum(entry["nats"]) / np.sum(entry["tokens"]) for row, entry in rows.items()}
    assert len({str(rows[row]["nats"]) for row in (OURS, BY_LAYER, BY_HEAD)}) == 3
    lines = capsys.readouterr().out.splitlines()
    for name in (BY_LAYER, BY_HEAD):
        line = next(line for line in lines if line.startswith(f"| {name} |"))
        shown = [float(cell.split("(")[0]) for cell in line.split("|")[2:4]]
        saved = [per_token[WINDOW] - per_token[name], per_token[OURS] - per_token[name]]
        assert shown == pytest.approx(saved, abs=6e-4)


@pytest.mark.parametrize("measurement", ["heads", "mixes"])
@pytest.mark.parametrize("kind", ["bank", "retained", "linear", "exponential"])
def test_gates_of_other_kinds_are_refused(tmp_path, monkeypatch, capsys, measurement, kind):
    subject = Subject(None, None, AdapterConfig("tiny", "", kind), {}, "")
    monkeypatch.setattr(Subject, "load", lambda *_: subject)
    more = ["--mixes", "4+0"] if measurement == "mixes" else []
    assert evaluate.main([measurement, "--data", str(tmp_path), *more]) == 1
    assert f"memory of kind {kind}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "gains, sizes",
    [
        ([1, 1, 1, 1], [100, 100, 100, 100]),
        ([3, 1, 0, 0], [LEAST + 252, LEAST + 84, LEAST, LEAST]),
        ([2, -1, 0, 2], [LEAST + 168, LEAST, LEAST, LEAST + 168]),
        ([0, 0, -1, 0], [100, 100, 100, 100]),
    ],
)
def test_a_split_is_in_proportion_and_takes_no_more(gains, sizes):
    assert split(np.array(gains, float)[:, None], 100, LEAST) == sizes


def test_by_layer_and_by_head_as_many_are_split():
    gains = np.random.default_rng(0).random((4, 3, 2))
    by_layer, by_head = (np.array(sizes) for sizes in splits(gains, 101).values())
    assert by_layer.sum() == by_head.sum() == 4 * 3 * 101
    assert by_layer.min() >= LEAST and by_head.min() >= LEAST
    assert (np.ptp(by_layer, axis=1) <= 1).all() and (np.ptp(by_head, axis=1) > 1).any()


def test_rounding_loses_no_entry():
    gains = np.random.default_rng(0).random((7, 3))
    assert sum(split(gains, 33, LEAST)) == 7 * 33


def test_few_entries_are_split_alike():
    assert split(np.array([[1.0], [0.0]]), 4, LEAST) == [4, 4]


def test_one_document_is_too_few(run, capsys):
    assert run("--documents", "1") == 1
    assert "take 2 or more" in capsys.readouterr().err


def test_what_was_stopped_is_not_shown(run, tmp_path):
    assert run() == 0
    results = Results.read(tmp_path / "h.json")
    next(iter(results.entries.values())).pop(heads._row(ODDS[0]))
    with pytest.raises(ResultsError, match="not finished"):
        summary(results)
