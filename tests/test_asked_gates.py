"""The gates of questions: their equation, where they count, their file, and how they are learnt."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from memories import answered
from mlx.utils import tree_flatten
from test_gate import HEADS, TRAINED, assert_mixed, filled, local, normal, queries  # noqa: F401
from test_recall_gate import config_of, same
from tiny import LAYOUT, byte_tokenizer, learnt_asked, learnt_recall, llama_model, sequence, with_memory

from mlx_edgeinf.adapter import (
    ASKED,
    RECALL,
    AdapterError,
    gate_parameters,
    load_weights,
    other_parameters,
    save_adapter,
    swap_gates,
    untrained_parameters,
)
from mlx_edgeinf.cache import forked
from mlx_edgeinf.gate import FORMS, AskedGates, Gate, MemoryGate
from mlx_edgeinf.lexicon import Lexicon
from mlx_edgeinf.measure.answers import predicted
from mlx_edgeinf.measure.gap import FULL, OURS, RECALL_ALONE, RECALL_BY_MASS, WINDOW
from mlx_edgeinf.measure.gap import RECALL as WITH_RECALL
from mlx_edgeinf.measure.subject import Subject
from mlx_edgeinf.memory import State
from mlx_edgeinf.models import equip
from mlx_edgeinf.pagestore import PageStore
from mlx_edgeinf.savefile import identity
from mlx_edgeinf.training import asking as asking_module
from mlx_edgeinf.training.asking import Asking
from mlx_edgeinf.training.bptt import excerpt_gradients, validation_loss
from mlx_edgeinf.training.excerpts import Excerpt
from mlx_edgeinf.training.loss import Objective
from mlx_edgeinf.training.recalling import temporary_pages
from mlx_edgeinf.turns import Prompter

# Fixtures among what is imported are named again where they are used.
# ruff: noqa: F811

DOCUMENT = LAYOUT.capacity + 5 * LAYOUT.segment + 3
TOKENS, QUESTION = sequence(DOCUMENT).tolist(), sequence(20, seed=3)


def told(model: nn.Module, pages: PageStore | None = None) -> mx.array:
    """Logits behind a question that was put to a fork of what was read."""
    cache = model.make_cache(pages=pages)
    model(mx.array(TOKENS)[None], cache=cache)
    return model(QUESTION[None], cache=forked(cache))[0]


# -- the equation --------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_they_add_to_the_logit_of_the_memorys_gate(form, queries, local):
    gate, added = MemoryGate(HEADS, "centroids", 6, form), Gate(HEADS, form, mass=0.0)
    own = {term: value for term, value in TRAINED.items() if term in gate}
    more = {term: 0.5 * normal(9, *value.shape) for term, value in own.items()}
    gate.update(own)
    added.update(more)
    state = filled(gate)
    output = gate(queries, gate.memory.entries(state), local, closed=0.7, asked=added)
    memory = answered(gate.memory, state, queries)
    sums = {term: own[term] + more[term] for term in own} | {"bias": own["bias"] + more["bias"] - 0.7}
    terms = [np.array(sums.get(term, mx.zeros(value.shape))) for term, value in TRAINED.items()]
    assert_mixed(output, terms, queries, memory, local)


@pytest.mark.parametrize("form", FORMS)
def test_untrained_they_add_nothing(form, queries, local):
    gate = MemoryGate(HEADS, "centroids", 6, form)
    entries, asked = gate.memory.entries(filled(gate)), AskedGates(HEADS, form).memory
    assert mx.array_equal(gate(queries, entries, local, asked=asked), gate(queries, entries, local))


# -- where they count ----------------------------------------------------------------


def test_what_is_read_does_not_depend_on_them_and_what_is_asked_does():
    def both(model: nn.Module) -> tuple[list[State], mx.array, mx.array]:
        with temporary_pages(model) as pages:
            cache = model.make_cache(pages=pages)
            read = model(mx.array(TOKENS)[None], cache=cache)
            return [layer.memory for layer in cache], read, model(QUESTION[None], cache=forked(cache))[0]

    before, after = both(with_memory(llama_model())), both(learnt_asked(with_memory(llama_model())))
    assert mx.array_equal(before[1], after[1])
    for one, other in zip(before[0], after[0], strict=True):
        assert all(mx.array_equal(one[name], other[name]) for name in one)
    assert not mx.allclose(before[2], after[2], atol=1e-2)


def test_saved_memories_serve_them_whatever_they_are():
    model = with_memory(llama_model())
    before = identity(model)
    assert identity(learnt_asked(model)) == before


def test_those_of_the_memory_count():
    model = with_memory(llama_model())
    before = told(model)
    for layer in model.layers:
        layer.self_attn.asked.memory.bias -= 1e9
    assert not mx.allclose(told(model), before, atol=1e-2)


def test_those_of_recall_count():
    model = with_memory(llama_model())
    with temporary_pages(model) as pages:
        before = told(model, pages)
    for layer in model.layers:
        layer.self_attn.asked.recall.bias -= 1e9
    with temporary_pages(model) as pages:
        assert not mx.allclose(told(model, pages), before, atol=1e-2)


def test_gates_of_running_text_do_not_count_where_something_is_asked():
    model = with_memory(llama_model())
    with temporary_pages(model) as pages:
        before = told(model, pages)
    with temporary_pages(model) as pages:
        assert mx.array_equal(told(learnt_recall(model), pages), before)


def test_what_follows_a_question_is_still_asked():
    cache = with_memory(llama_model()).make_cache()
    assert not any(layer.asked for layer in cache)
    assert all(layer.asked for layer in forked(forked(cache))) and not any(layer.asked for layer in cache)


# -- their file ----------------------------------------------------------------------


def test_they_come_back_as_they_were_saved(tmp_path):
    model, fresh = learnt_asked(with_memory(llama_model())), llama_model()
    save_adapter(model, config_of(model), tmp_path)
    assert (tmp_path / ASKED).exists() and not (tmp_path / RECALL).exists()
    equip(fresh, config_of(model), tmp_path)
    assert same(other_parameters(fresh), other_parameters(model))
    assert not same(other_parameters(fresh, ASKED), untrained_parameters(fresh, ASKED))
    assert same(other_parameters(fresh, RECALL), untrained_parameters(fresh, RECALL))


def test_untrained_ones_are_not_saved_and_take_the_place_of_trained_ones(tmp_path):
    model, other = learnt_asked(with_memory(llama_model())), with_memory(llama_model())
    save_adapter(model, config_of(model), tmp_path)
    save_adapter(other, config_of(other), tmp_path)
    assert not (tmp_path / ASKED).exists()
    swap_gates(model, tmp_path)
    assert same(other_parameters(model), untrained_parameters(model))
    assert same(other_parameters(model), other_parameters(other))


def test_those_of_another_shape_or_damaged_are_refused(tmp_path):
    model = learnt_asked(with_memory(llama_model()))
    save_adapter(model, config_of(model), tmp_path)
    before = other_parameters(model)
    cut = {path: value[:1] for path, value in other_parameters(model, ASKED).items()}
    mx.save_safetensors(str(tmp_path / ASKED), cut)
    with pytest.raises(AdapterError, match="do not match"):
        load_weights(model, config_of(model), tmp_path)
    (tmp_path / ASKED).write_bytes(b"torn")
    with pytest.raises(AdapterError, match="is missing or damaged"):
        load_weights(model, config_of(model), tmp_path)
    assert same(other_parameters(model), before)


def test_a_file_holds_its_own_gates_alone(tmp_path):
    model = learnt_asked(with_memory(llama_model()))
    save_adapter(model, config_of(model), tmp_path)
    both = other_parameters(model, ASKED) | gate_parameters(model)
    mx.save_safetensors(str(tmp_path / ASKED), both)
    with pytest.raises(AdapterError, match="do not match"):
        load_weights(model, config_of(model), tmp_path)


def test_what_is_asked_is_told_apart_by_their_digest():
    subject = Subject(None, None, None, {}, "memory", "recall", "asked")
    rows = subject.asked_digests
    assert rows[OURS] == rows[WITH_RECALL] == "memory/asked" and rows[RECALL_ALONE] == "/asked"
    assert rows[RECALL_BY_MASS] == "memory" and not {FULL, WINDOW} & rows.keys()
    assert subject.digests[OURS] == "memory" and subject.digests[WITH_RECALL] == "memory+recall"
    assert replace(subject, asked="").asked_digests[WITH_RECALL] == "memory"


# -- training ------------------------------------------------------------------------

ANSWERS = [TOKENS + sequence(length, seed=length).tolist() for length in (31, 35, 40)]
# Behind a question of 20 tokens.
FAMILY = [Excerpt(tokens, learnt=DOCUMENT + 20, read=DOCUMENT, questions=("what?",)) for tokens in ANSWERS]
TOGETHER = replace(FAMILY[0], siblings=tuple(FAMILY[1:]))


def test_only_they_are_trained_and_all_of_them():
    model = with_memory(llama_model())
    asking = Asking(model, byte_tokenizer())
    _, gradients = excerpt_gradients(model, TOGETHER, Objective(), reading=asking)
    found = dict(tree_flatten(gradients))
    assert found.keys() == other_parameters(model, ASKED).keys()
    assert all(mx.any(gradient != 0).item() for gradient in found.values())


@pytest.mark.parametrize("trained", [False, True])
def test_answers_lose_what_they_do_where_the_app_asks(trained):
    """With recall and without by turns, each behind its own question."""
    model = with_memory(llama_model())
    if trained:
        learnt_asked(model)
    asking, losses = Asking(model, byte_tokenizer()), []
    lexicon = Lexicon(Prompter(byte_tokenizer()))
    for number, each in enumerate(TOGETHER.family):
        cache = model.make_cache()
        model(mx.array(TOKENS)[None], cache=cache)
        asked = forked(cache, named=lexicon.named(TOKENS, each.questions, cache))
        for layer in asked if (DOCUMENT + number) % 2 else ():
            layer.recall = None
        *prompt, last = each.tokens[DOCUMENT : each.learnt]
        model(mx.array(prompt)[None], cache=asked)
        losses.append(-predicted(model, last, each.tokens[each.learnt :], asked).log_probability)
    sizes = [len(each.tokens) - each.learnt for each in TOGETHER.family]
    expected = pytest.approx(np.average(losses, weights=sizes), rel=1e-4)
    assert validation_loss(model, [TOGETHER], asking) == expected
    assert excerpt_gradients(model, TOGETHER, Objective(), reading=asking)[0] == expected


def test_the_gradient_is_the_slope_of_the_loss():
    """Of the last layer, whose gates no later part of the answer reads through."""
    model = learnt_asked(with_memory(llama_model()))
    asking, gate = Asking(model, byte_tokenizer()), model.layers[-1].self_attn.asked.memory
    _, gradients = excerpt_gradients(model, TOGETHER, Objective(), reading=asking)
    slope = dict(tree_flatten(gradients))["model.layers.1.self_attn.asked.memory.bias"][0].item()
    step, losses = mx.array([0.02, *(0,) * (gate.bias.size - 1)]), []
    for sign in (1, -1):
        gate.bias = gate.bias + sign * step
        losses.append(validation_loss(model, [TOGETHER], asking))
        gate.bias = gate.bias - sign * step
    assert slope == pytest.approx((losses[0] - losses[1]) / 0.04, rel=0.02, abs=1e-5)


def test_a_document_is_read_once_for_all_answers(monkeypatch):
    model, reads = with_memory(llama_model()), []
    reading = asking_module.read_on
    monkeypatch.setattr(asking_module, "read_on", lambda *a: reads.append(a[1].size) or reading(*a))
    excerpt_gradients(model, TOGETHER, Objective(), reading=Asking(model, byte_tokenizer()))
    assert sum(reads) == DOCUMENT + 3 * 19
