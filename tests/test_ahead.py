from __future__ import annotations

import numpy as np
import pytest
from held_out import evaluating
from tiny import llama_model, with_memory

from mlx_edgeinf.cache import Layout
from mlx_edgeinf.measure import ahead
from mlx_edgeinf.measure.ahead import CACHED, DISKS, Tally, shared, summary
from mlx_edgeinf.measure.readings import Reader
from mlx_edgeinf.measure.results import Results, ResultsError
from mlx_edgeinf.training.recalling import temporary_pages


@pytest.fixture(autouse=True)
def one_page(monkeypatch):
    """So little comes back that a short text has more."""
    monkeypatch.setattr(ahead, "THROUGHOUT", 16)


@pytest.fixture
def run(tmp_path, tiny_subject):
    return evaluating(tmp_path, "ahead", "a.json", "--length", "120")


def tallied(model, length: int = 120) -> Tally:
    reader, tally = Reader(model, {}, {}, 0), Tally()
    tokens = np.random.default_rng(0).integers(0, 250, length).tolist()
    with temporary_pages(model) as pages, ahead._watched(reader, pages, tally) as caches:
        list(reader.read(tokens, caches))
    return tally


def test_pages_are_compared_block_by_block_and_head_by_head():
    chosen, others = np.array([[[1, 2], [3, 4]]]), np.array([[[2, 1], [3, 1]]])
    assert shared(chosen, others) == 0.75


def test_of_layers_that_change_nothing_the_estimate_is_right():
    model = with_memory(llama_model(), layout=Layout(2, 40, 40))
    for layer in model.layers:
        layer.self_attn.o_proj.weight *= 0
        layer.mlp.down_proj.weight *= 0
    model.layers[1].input_layernorm.weight = model.layers[0].input_layernorm.weight
    # Segments of 40 are two blocks of queries and what fills none.
    tally = tallied(model, 300)
    assert len(tally.hits) > 9 and set(tally.hits) == {1.0}
    assert 0 < np.mean(tally.below) <= 1 <= np.mean(tally.read_below)


def test_of_others_it_is_not_always_and_costs_time():
    tally = tallied(with_memory(llama_model()))
    assert 0 < np.mean(tally.hits) < 1
    assert tally.waiting > 0 and tally.estimating > 0 and tally.bytes > 0


def test_a_text_is_read_as_it_is_without_being_watched():
    model = with_memory(llama_model())
    norms = [layer.input_layernorm for layer in model.layers]
    reader, tokens = Reader(model, {}, {}, 0), np.random.default_rng(1).integers(0, 250, 80).tolist()
    with temporary_pages(model) as pages, ahead._watched(reader, pages, Tally()) as caches:
        watched = np.concatenate([piece.losses for piece in reader.read(tokens, caches)])
    assert [layer.input_layernorm for layer in model.layers] == norms
    with temporary_pages(model) as pages:
        plain = model.make_cache(pages=pages, throughout=True)
        for layer in plain:
            layer.recall._tokens = 16
        expected = np.concatenate([piece.losses for piece in reader.read(tokens, plain)])
    np.testing.assert_allclose(watched, expected, atol=1e-5)


def test_a_run_tells_both_estimates_and_what_there_is_to_save(run, tmp_path, capsys):
    assert run() == 0
    results = Results.read(tmp_path / "a.json")
    assert all(entries.keys() == {*ahead._disks()} for entries in results.entries.values())
    shown = capsys.readouterr().out
    assert "2 documents:" in shown and "| pages of a layer estimated by |" in shown
    assert all(f"| {disk} |" in shown for disk in ahead._disks())
    assert run() == 0


def test_what_cannot_be_forgotten_is_not_measured(run, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(ahead.os, "posix_fadvise", raising=False)
    assert run() == 0
    assert f"| {CACHED} |" in (shown := capsys.readouterr().out) and f"| {DISKS[1]} |" not in shown


def test_what_was_stopped_is_not_shown(run, tmp_path):
    assert run() == 0
    results = Results.read(tmp_path / "a.json")
    next(iter(results.entries.values())).clear()
    with pytest.raises(ResultsError, match="not finished"):
        summary(results)
