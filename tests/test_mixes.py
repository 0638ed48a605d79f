from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from held_out import evaluating
from test_report import run as report
from tiny import LAYOUT, llama_model, sequence, with_memory

from mlx_edgeinf.measure.gap import WINDOW
from mlx_edgeinf.measure.mixes import mix
from mlx_edgeinf.measure.readings import mixed
from mlx_edgeinf.measure.results import Results
from mlx_edgeinf.retained import RetainedMemory

LENGTH = 90


@pytest.fixture
def run(tmp_path, tiny_subject):
    measure = evaluating(tmp_path, "mixes", "m.json", "--lengths", "48", "72")
    return lambda *mixes, more=(): measure(*more, "--mixes", *mixes)


def caches(centres: int, tokens: int) -> list:
    """What is kept by layer after a text of LENGTH was read."""
    model = with_memory(llama_model())
    cache = mixed(model, LAYOUT, centres, tokens)
    model(sequence(LENGTH)[None], cache=cache)
    mx.eval([layer.state for layer in cache])
    return cache


@pytest.mark.parametrize("centres, tokens", [(6, 0), (4, 2), (1, 5), (0, 6)])
def test_a_mix_has_as_many_entries_as_are_asked_for(centres, tokens):
    for layer in caches(centres, tokens):
        z = np.array(layer.memory["z"])
        assert z.shape[-1] == centres + tokens
        assert (z[..., centres:] == 1).all()


@pytest.mark.parametrize("centres, tokens", [(6, 0), (4, 2), (1, 5)])
def test_with_centres_nothing_is_forgotten(centres, tokens):
    for layer in caches(centres, tokens):
        assert np.allclose(np.array(layer.memory["z"]).sum(axis=-1), layer.folded)


def test_centres_alone_are_the_memory_of_the_model():
    model = with_memory(llama_model(), features=6)
    usual = model.make_cache()
    model(sequence(LENGTH)[None], cache=usual)
    for mine, layer in zip(caches(6, 0), usual):
        for name, part in layer.memory.items():
            assert mx.allclose(mine.memory[name], part, atol=1e-5), name


def test_no_centre_stays_empty_beside_retained_tokens():
    """Not in the first fold either, where most rows are empty and some of the new tokens are retained."""
    mx.random.seed(0)
    heads = with_memory(llama_model()).layers[0].self_attn.memory_gate.memory.heads
    memory = RetainedMemory(heads, 24, 12)
    state = memory.empty(1)
    for _ in range(2):
        keys, values = mx.random.normal((2, 1, heads.n_kv_heads, 48, heads.head_dim))
        state = memory.write(state, keys, values, mx.random.uniform(shape=keys.shape[:3]))
        assert (np.array(state["z"]) > 0).all()


def test_retained_tokens_pull_no_centre():
    heads = with_memory(llama_model()).layers[0].self_attn.memory_gate.memory.heads
    memory, keys = RetainedMemory(heads, 2, 1), mx.zeros((1, heads.n_kv_heads, 4, heads.head_dim))
    keys[:, :, 2] = 9.0
    asked = mx.broadcast_to(mx.array([1.0, 1, 50, 1]), keys.shape[:3])
    state = memory.write(memory.empty(1), keys, keys, asked)
    assert np.allclose(state["centres"][:, :, 0], 0) and np.allclose(state["centres"][:, :, 1], 9)


def test_what_weighs_most_is_what_stays_as_it_is():
    for layer in caches(3, 3):
        # Of a centre all its tokens together, so that of each of them no more than the mean.
        weights = np.array(layer.memory["weight"] / mx.maximum(layer.memory["z"], 1))
        assert (weights[..., 3:].min(axis=-1) > weights[..., :3].max(axis=-1)).all()


def test_mixes_are_told_by_what_they_save_and_can_be_added_later(run, tmp_path, capsys):
    assert run("4+0", "2+2") == 0
    capsys.readouterr()
    assert run("0+4") == 0
    results = Results.read(tmp_path / "m.json")
    assert all(rows.keys() == {"4+0", "2+2", "0+4", WINDOW} for rows in results.entries.values())
    table = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [[cell.strip() for cell in line] for line in table[2:]] == [["4", "0"], ["2", "2"], ["0", "4"]]


def test_what_is_saved_is_what_the_window_loses_more(run, tmp_path, capsys):
    assert run("4+0") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| 4 |"))
    documents = Results.read(tmp_path / "m.json").entries.values()

    def lost(name: str) -> np.ndarray:
        return np.mean([np.divide(rows[name]["nats"], rows[name]["tokens"]) for rows in documents], axis=0)

    for cell, saved in zip(row.split("|")[4:6], lost(WINDOW) - lost("4+0"), strict=True):
        assert float(cell.split("(")[0]) == pytest.approx(saved, abs=6e-4)


@pytest.mark.parametrize("text", ["500", "+", "5+", "0+0", "a+1"])
def test_what_is_no_mix_is_refused(run, text, capsys):
    with pytest.raises(SystemExit):
        run(f"{text}")
    assert "such as 375+125" in capsys.readouterr().err


def test_a_mix_is_told_as_it_is_counted():
    assert mix("0500+00") == "500+0"


def test_lengths_within_two_windows_are_refused(run, capsys):
    assert run("4+0", more=("--lengths", "10")) == 1
    assert "two windows" in capsys.readouterr().err


def test_the_report_shows_them(run, tmp_path):
    assert run("4+0") == 0
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "README.md").write_text("<!-- mixes --><!-- /mixes -->")
    measured = (tmp_path / "m.json").rename(shown / "mixes.json")
    assert report(shown) == 0
    assert "| centres | tokens |" in (shown / "README.md").read_text()
    # Of a document that was not read to the end there is no table.
    fields = json.loads(measured.read_text())
    fields["entries"].popitem()
    measured.write_text(json.dumps(fields))
    assert report(shown) == 1
