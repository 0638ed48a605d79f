from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference
from memories import answered
from mlx.utils import tree_flatten
from tiny import LAYOUT, MODELS, llama_model, with_memory

from mlx_edgeinf.adapter import gate_parameters
from mlx_edgeinf.attention import retrofit
from mlx_edgeinf.gate import FORMS, MemoryGate, opened
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.memory import Heads
from mlx_edgeinf.models import parameter_budget
from mlx_edgeinf.rotation import Rotation
from mlx_edgeinf.sources import Source, attend

B, H, G, D, L = 2, 4, 2, 8, 5
HEADS = Heads(H, G, D, D**-0.5, Rotation(mx.zeros(D // 2), False), nearest=12.0, farthest=100)


def normal(seed: int, *shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


TRAINED = {"mass": 1 + 0.3 * normal(5, H), "bias": normal(6, H), "query": 0.3 * normal(7, H, D)}


@pytest.fixture
def queries() -> mx.array:
    return normal(0, B, H, L, D)


@pytest.fixture
def local(queries) -> Source:
    return attend(queries, normal(1, B, G, 9, D), normal(2, B, G, 9, D), HEADS.scale)


def filled(gate: MemoryGate) -> dict:
    keys, values, received = normal(3, B, G, 12, D), normal(4, B, G, 12, D), mx.exp(normal(8, B, G, 12))
    return gate.memory.write(gate.memory.empty(B), keys, values, received)


def test_the_untrained_gate_of_calibrated_memory_is_the_mass_ratio(queries, local):
    gate = MemoryGate(HEADS, "centroids", 6)
    state = filled(gate)
    mixed, _ = reference.mix([local[:2], answered(gate.memory, state, queries)[:2]])
    assert np.allclose(gate(queries, gate.memory.entries(state), local), mixed, atol=1e-5)


def test_one_centre_per_token_without_positions_completes_exact_attention(queries):
    """Twelve tokens in memory and nine beside it answer like twenty-one."""
    keys, values = normal(1, B, G, 21, D), normal(2, B, G, 21, D)
    gate = MemoryGate(HEADS, "centroids", 12)
    state = gate.memory.write(gate.memory.empty(B), keys[:, :, :12], values[:, :, :12], mx.ones((B, G, 12)))
    local = attend(queries, keys[:, :, 12:], values[:, :, 12:], HEADS.scale)
    output = gate(queries, gate.memory.entries(state), local)
    assert mx.allclose(output, attend(queries, keys, values, HEADS.scale).output, atol=1e-5)


def assert_mixed(output: mx.array, terms: list[np.ndarray], queries: mx.array, *sources: Source) -> None:
    """As a gate with these terms (H, ...), a, b and u, mixes two sources in float64: the other, the local."""
    for b, h, i in np.ndindex(B, H, L):
        one = reference.Gate(*(term[h] for term in terms))
        answers = [
            (np.array(source.output[b, h, i], dtype=float), source.log_mass[b, h, i].item())
            for source in sources
        ]
        assert np.allclose(output[b, h, i], one.mix(np.array(queries[b, h, i]), *answers), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_trained_gate_agrees_with_float64(kind, form, queries, local):
    gate = MemoryGate(HEADS, kind, 6, form)
    gate.update({term: value for term, value in TRAINED.items() if term in gate})
    terms = [np.array(gate.get(term, mx.zeros(value.shape))) for term, value in TRAINED.items()]
    state = filled(gate)
    output, memory = gate(queries, gate.memory.entries(state), local), answered(gate.memory, state, queries)
    assert_mixed(output, terms, queries, memory, local)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_memory_leaves_the_local_answer_untouched(kind, form, queries, local):
    gate = MemoryGate(HEADS, kind, 6, form)
    assert mx.array_equal(gate(queries, gate.memory.entries(gate.memory.empty(B)), local), local.output)


@pytest.mark.parametrize("kind", KINDS)
def test_only_calibrated_memory_is_let_in_before_training(kind, queries, local):
    mx.random.seed(0)
    gate = MemoryGate(HEADS, kind, 6)
    remembered = answered(gate.memory, filled(gate), queries)
    opening = opened(gate.logit(queries, remembered, local), remembered)
    assert (mx.mean(opening).item() > 0.1) == (kind in ("centroids", "bank", "retained"))


@pytest.mark.parametrize("form", FORMS)
def test_a_gate_has_parameters_for_the_terms_of_its_form_alone(form):
    own = MemoryGate(HEADS, "linear", D, form).trainable_parameters()
    assert {term for term, value in own.items() if term != "memory"} == {"bias", *FORMS[form]}


@pytest.mark.parametrize("make", MODELS)
def test_the_base_model_is_frozen_and_the_gates_are_not(make):
    model = retrofit(make(), LAYOUT, "centroids", 4, 0)
    assert dict(tree_flatten(model.trainable_parameters())).keys() == gate_parameters(model).keys()


def test_the_budget_is_the_gates_share_of_the_base_model():
    base = sum(p.size for _, p in tree_flatten(llama_model().parameters()))
    gate, rotation = H + H + H * D, 2 * H * D // 2
    model = with_memory(llama_model())
    share = parameter_budget(model, gate_parameters(model))
    assert share == pytest.approx(2 * (gate + rotation) / base)
