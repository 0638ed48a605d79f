from __future__ import annotations

import numpy as np
import pytest
from held_out import evaluating

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig
from mlx_edgeinf.measure import layers
from mlx_edgeinf.measure.gap import OURS, WINDOW
from mlx_edgeinf.measure.layers import LEAST, SPLIT, bought, split, summary, without
from mlx_edgeinf.measure.results import Results, ResultsError
from mlx_edgeinf.measure.subject import Subject


@pytest.fixture
def run(tmp_path, tiny_subject):
    return evaluating(tmp_path, "layers", "l.json", "--length", "72")


def test_one_document_tells_what_layers_buy_and_the_other_tests_the_split(run, tmp_path, capsys):
    assert run() == 0
    results = Results.read(tmp_path / "l.json")
    first, second = (results.entries[name] for name in results.setup["documents"])
    assert first.keys() == {OURS, *map(without, range(results.setup["layers"]))}
    assert second.keys() == {WINDOW, OURS, SPLIT}
    shown = capsys.readouterr().out
    assert "| layer | lost without its memory, nats |" in shown and "| 1 other document |" in shown


def test_what_a_layer_buys_is_what_is_lost_without_its_memory(run, tmp_path):
    assert run() == 0
    results = Results.read(tmp_path / "l.json")
    rows = next(iter(results.entries.values()))
    per_token = {row: np.sum(entry["nats"]) / np.sum(entry["tokens"]) for row, entry in rows.items()}
    for layer, gain in enumerate(bought(results)):
        assert gain == pytest.approx([per_token[without(layer)] - per_token[OURS]])
        assert per_token[without(layer)] != per_token[OURS]


def test_a_layer_without_its_memory_has_none(run, tmp_path, monkeypatch):
    read, noted = layers._split, []
    monkeypatch.setattr(layers, "_split", lambda *a: noted.append((a[2], read(*a))) or noted[-1][1])
    assert run() == 0
    for sizes, caches in noted[:2]:
        kept = [bool(cache.memory) and cache.memory["z"].shape[-1] for cache in caches]
        assert kept == sizes and sorted(sizes) == [0, 4]


def test_the_split_is_read_and_compared_with_layers_alike(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(layers, "LEAST", 1)
    # Whatever the random gates of a tiny model buy.
    monkeypatch.setattr(layers, "bought", lambda _: np.array([[3.0], [1.0]]))
    assert run() == 0
    results = Results.read(tmp_path / "l.json")
    rows = results.entries[list(results.setup["documents"])[1]]
    per_token = {row: np.sum(entry["nats"]) / np.sum(entry["tokens"]) for row, entry in rows.items()}
    assert rows[SPLIT]["nats"] != rows[OURS]["nats"]
    line = next(line for line in capsys.readouterr().out.splitlines() if "other document" in line)
    shown = [float(cell.split("(")[0]) for cell in line.split("|")[2:-1]]
    pairs = ((WINDOW, OURS), (WINDOW, SPLIT), (SPLIT, OURS))
    assert shown == pytest.approx([per_token[one] - per_token[other] for one, other in pairs], abs=6e-4)


@pytest.mark.parametrize("measurement", ["layers", "mixes"])
@pytest.mark.parametrize("kind", ["bank", "linear", "exponential"])
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
def test_the_split_is_in_proportion_and_takes_no_more(gains, sizes):
    assert split(np.array(gains, float)[:, None], 100) == sizes


def test_rounding_loses_no_entry():
    gains = np.random.default_rng(0).random((7, 3))
    assert sum(split(gains, 33)) == 7 * 33


def test_few_entries_are_split_alike():
    assert split(np.array([[1.0], [0.0]]), 4) == [4, 4]


def test_one_document_is_too_few(run, capsys):
    assert run("--documents", "1") == 1
    assert "take 2 or more" in capsys.readouterr().err


def test_what_was_stopped_is_not_shown(run, tmp_path):
    assert run() == 0
    results = Results.read(tmp_path / "l.json")
    next(iter(results.entries.values())).pop(without(0))
    with pytest.raises(ResultsError, match="not finished"):
        summary(results)
