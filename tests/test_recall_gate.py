"""The gates of exact recall: their equation, their file, and how they are trained."""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from test_finetune import corpus, one_sentence, run, usual  # noqa: F401
from test_gate import HEADS, TRAINED, B, D, G, assert_mixed, local, normal, queries  # noqa: F401
from tiny import LAYOUT, learnt_recall, llama_model, sequence, with_memory

from mlx_edgeinf.adapter import (
    RECALL,
    WEIGHTS,
    AdapterConfig,
    AdapterError,
    gate_parameters,
    load_weights,
    recall_parameters,
    save_adapter,
    swap_gates,
    untrained_recall,
)
from mlx_edgeinf.basemodel import fingerprint
from mlx_edgeinf.cache import Layout, forked
from mlx_edgeinf.gate import RecallGate
from mlx_edgeinf.models import equip, load
from mlx_edgeinf.pagestore.errors import DiskFull
from mlx_edgeinf.pagestore.records import RecordFile
from mlx_edgeinf.recall import BLOCK
from mlx_edgeinf.sources import attend, attend_to_all
from mlx_edgeinf.training import bptt
from mlx_edgeinf.training.bptt import excerpt_gradients, validation_loss
from mlx_edgeinf.training.excerpts import Excerpt
from mlx_edgeinf.training.loss import Objective
from mlx_edgeinf.training.recalling import learn_recall, temporary_pages, without_memory

# Fixtures among what is imported are named again where they are used.
# ruff: noqa: F811

TOKENS = sequence(LAYOUT.capacity + 5 * LAYOUT.segment + 3).tolist()


def learning() -> nn.Module:
    """A tiny model whose gates of recall are to be trained."""
    model = with_memory(llama_model())
    learn_recall(model)
    return model


def config_of(model: nn.Module) -> AdapterConfig:
    sizes = {"sinks": LAYOUT.sinks, "window": LAYOUT.window, "segment": LAYOUT.segment, "features": 4}
    return AdapterConfig("tiny", fingerprint(model), **sizes)


def saved(folder: Path) -> nn.Module:
    """A model with trained gates of both kinds, which were saved to the folder."""
    model = learnt_recall(with_memory(llama_model()))
    save_adapter(model, config_of(model), folder)
    return model


def same(a: dict[str, mx.array], b: dict[str, mx.array]) -> bool:
    return a.keys() == b.keys() and all(mx.array_equal(a[path], b[path]).item() for path in a)


# -- the equation --------------------------------------------------------------------


def test_untrained_what_comes_back_completes_exact_attention(queries):
    keys, values = normal(1, B, G, 21, D), normal(2, B, G, 21, D)
    recalled = attend_to_all(queries, keys[:, :, :12], values[:, :, :12], HEADS.scale)
    beside = attend(queries, keys[:, :, 12:], values[:, :, 12:], HEADS.scale)
    both, whole = RecallGate(HEADS)(queries, recalled, beside), attend(queries, keys, values, HEADS.scale)
    assert mx.allclose(both.output, whole.output, atol=1e-5)
    assert mx.allclose(both.log_mass, whole.log_mass, atol=1e-5)


def test_trained_it_agrees_with_float64(queries, local):
    gate = RecallGate(HEADS)
    gate.update(TRAINED)
    recalled = attend_to_all(queries, normal(3, B, G, 12, D), normal(4, B, G, 12, D), HEADS.scale)
    both = gate(queries, recalled, local)
    assert_mixed(both.output, [*map(np.array, TRAINED.values())], queries, recalled, local)


def test_where_something_is_asked_what_comes_back_has_its_share_by_its_mass():
    def told(model: nn.Module) -> tuple[mx.array, mx.array]:
        with temporary_pages(model) as pages:
            cache = model.make_cache(pages=pages)
            model(mx.array(TOKENS)[None], cache=cache)
            without = copy.deepcopy(cache)
            for layer in without:
                layer.recall = None
            question = sequence(20, seed=3)[None]
            return model(question, cache=forked(cache)), model(question, cache=forked(without))

    model = with_memory(llama_model())
    untrained, without = told(model)
    assert mx.array_equal(told(learnt_recall(model))[0], untrained)
    assert not mx.allclose(untrained, without, atol=1e-2)


# -- their file ----------------------------------------------------------------------


def test_they_come_back_as_they_were_saved(tmp_path):
    model, fresh = saved(tmp_path), llama_model()
    equip(fresh, config_of(model), tmp_path)
    assert same(recall_parameters(fresh), recall_parameters(model))
    assert same(gate_parameters(fresh), gate_parameters(model))
    assert not same(recall_parameters(fresh), untrained_recall(fresh))


def test_untrained_ones_are_not_saved_and_take_the_place_of_trained_ones(tmp_path):
    model, other = saved(tmp_path / "trained"), with_memory(llama_model())
    save_adapter(model, config_of(model), tmp_path / "untrained")
    save_adapter(other, config_of(other), tmp_path / "untrained")
    assert not (tmp_path / "untrained" / RECALL).exists()
    swap_gates(model, tmp_path / "untrained")
    assert same(recall_parameters(model), untrained_recall(model))
    swap_gates(model, tmp_path / "trained")
    assert not same(recall_parameters(model), untrained_recall(model))


def test_those_of_another_shape_or_damaged_are_refused(tmp_path):
    model = saved(tmp_path)
    before = recall_parameters(model)
    mx.save_safetensors(str(tmp_path / RECALL), {path: value[:1] for path, value in before.items()})
    with pytest.raises(AdapterError, match="do not match"):
        load_weights(model, config_of(model), tmp_path)
    (tmp_path / RECALL).write_bytes(b"torn")
    with pytest.raises(AdapterError, match="is missing or damaged"):
        load_weights(model, config_of(model), tmp_path)
    assert same(recall_parameters(model), before)


# -- training ------------------------------------------------------------------------


def test_only_they_are_trained_and_all_of_them():
    model = learning()
    _, gradients = excerpt_gradients(model, Excerpt(TOKENS), Objective())
    found = dict(tree_flatten(gradients))
    assert found.keys() == recall_parameters(model).keys()
    assert all(mx.any(gradient != 0).item() for gradient in found.values())


def test_the_gradient_is_the_slope_of_the_loss():
    """Of the last layer, whose gates no later segment reads through."""
    model = learnt_recall(learning())
    gate = model.layers[-1].self_attn.recall_gate
    _, gradients = excerpt_gradients(model, Excerpt(TOKENS), Objective())
    slope, step = dict(tree_flatten(gradients))["model.layers.1.self_attn.recall_gate.bias"][0].item(), 0.02
    losses = []
    for sign in (1, -1):
        gate.bias = gate.bias + mx.array([sign * step, *(0,) * (gate.bias.size - 1)])
        losses.append(validation_loss(model, [Excerpt(TOKENS)]))
        gate.bias = gate.bias - mx.array([sign * step, *(0,) * (gate.bias.size - 1)])
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0.02, abs=1e-5)


def test_excerpts_are_read_with_recall_and_without_memory():
    model = learning()
    cache = model.make_cache()
    model.model(mx.array(TOKENS)[None], cache=cache)
    assert all(layer.recall.answers and layer.recall.index.tokens and not layer.memory for layer in cache)


def test_the_pages_of_an_excerpt_are_gone_before_the_next(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = learning()
    first = model.make_cache()
    assert len(list(tmp_path.iterdir())) == 1
    second = model.make_cache()
    assert len(list(tmp_path.iterdir())) == 1
    assert first[0].recall.pages is not second[0].recall.pages


@pytest.mark.parametrize("what", ["training", "validation"])
def test_a_disk_that_fails_ends_what_is_under_way(monkeypatch, what):
    def full(*_):
        raise DiskFull("The disk is full.")

    monkeypatch.setattr(RecordFile, "write", full)
    work = {
        "training": lambda model: excerpt_gradients(model, Excerpt(TOKENS), Objective()),
        "validation": lambda model: validation_loss(model, [Excerpt(TOKENS)]),
    }
    with pytest.raises(DiskFull, match="full"):
        work[what](learning())


def test_a_part_of_a_segment_is_differentiated_at_a_time(monkeypatch):
    """Of any number of blocks: what comes back is chosen as in whole segments."""
    model, layout = with_memory(llama_model(), layout=Layout(2, 64, 64)), Layout(2, 64, 64)
    learn_recall(model)
    excerpt, sizes = Excerpt((8 * TOKENS)[: layout.capacity + 2 * layout.segment + 1]), []
    whole = validation_loss(model, [excerpt])
    monkeypatch.setattr(bptt, "RECALLING", 2 * BLOCK)
    reading = bptt.hidden_states
    monkeypatch.setattr(bptt, "hidden_states", lambda *args: sizes.append(args[1].size) or reading(*args))
    loss, _ = excerpt_gradients(model, excerpt, Objective())
    assert loss == pytest.approx(whole, rel=1e-4) and sizes == 4 * [2 * BLOCK]


def test_answers_together_teach_what_each_does_alone():
    document = LAYOUT.capacity + 2 * LAYOUT.segment
    answers = [TOKENS[:document] + sequence(length, seed=length).tolist() for length in (5, 11)]
    told = [Excerpt(tokens, learnt=document + 1) for tokens in answers]
    model = learnt_recall(learning())
    alone = [excerpt_gradients(model, each, Objective()) for each in told]
    together = excerpt_gradients(model, replace(told[0], siblings=(told[1],)), Objective())
    assert together[0] == pytest.approx((4 * alone[0][0] + 10 * alone[1][0]) / 14, rel=1e-4)
    parts = [dict(tree_flatten(gradients)) for _, gradients in alone]
    for path, gradient in tree_flatten(together[1]):
        expected = (4 * parts[0][path] + 10 * parts[1][path]) / 14
        assert mx.allclose(gradient, expected, rtol=1e-3, atol=1e-4).item(), path


def test_caches_without_a_memory_recall_as_those_with_one():
    model = with_memory(llama_model())
    with temporary_pages(model) as pages:
        caches = model.make_cache(pages=pages, throughout=True)
        alone = without_memory(model, copy.copy(caches))
        assert [each.recall for each in alone] == [each.recall for each in caches]
        model.model(mx.array(TOKENS)[None], cache=alone)
        assert all(each.folded and not each.memory for each in alone)


# -- the command ---------------------------------------------------------------------


def test_a_run_trains_them_and_leaves_the_memorys_as_they_were(run, model_folder, tmp_path, capsys):
    memory = tmp_path / "memory"
    assert run("--adapter-path", str(memory)) == 0
    capsys.readouterr()
    both = tmp_path / "both"
    options = ["--recall", "--resume-adapter-file", str(memory / WEIGHTS), "--adapter-path", str(both)]
    assert run(*options) == 0
    assert (both / WEIGHTS).read_bytes() == (memory / WEIGHTS).read_bytes()
    assert not (memory / RECALL).exists()
    record = json.loads((both / "training.json").read_text())
    assert "--recall" in record["command"] and len(record["earlier"]) == 1
    model, _ = load(str(model_folder), adapter_path=str(both))
    assert same(recall_parameters(model), mx.load(str(both / RECALL)))


def test_a_stopped_run_goes_on_from_what_it_had_trained(run, tmp_path):
    assert run("--recall", "--iters", "2", "--adapter-path", str(tmp_path)) == 0
    before = mx.load(str(tmp_path / RECALL))
    again = ["--recall", "--iters", "3", "--learning-rate", "1e-9", "--adapter-path", str(tmp_path)]
    assert run(*again) == 0
    after = mx.load(str(tmp_path / RECALL))
    assert all(mx.allclose(after[path], value, atol=1e-6) for path, value in before.items())


def test_layers_are_not_read_twice(run, capsys):
    assert run("--recall", "--grad-checkpoint") == 1
    assert "--grad-checkpoint" in one_sentence(capsys)
