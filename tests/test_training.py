from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from tiny import LAYOUT, MODELS, close, llama_model, sequence, with_memory

from mlx_edgeinf.adapter import gate_parameters
from mlx_edgeinf.cache import Layout, forked
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.training import blocks
from mlx_edgeinf.training.blocks import chunked, hidden_states, kept, recomputed
from mlx_edgeinf.training.bptt import (
    TrainingDiverged,
    excerpt_gradients,
    make_optimizer,
    segments,
    update,
    validation_loss,
)
from mlx_edgeinf.training.excerpts import Excerpt, taught
from mlx_edgeinf.training.loss import Objective, token_losses

TOKENS = sequence(LAYOUT.capacity + 4 * LAYOUT.segment + 1).tolist()
EXCERPT = Excerpt(TOKENS)
ANY_KIND = pytest.mark.parametrize("kind", KINDS)


def gates(model: nn.Module) -> dict[str, np.ndarray]:
    return {path: np.array(value) for path, value in gate_parameters(model).items()}


def cosine(one: mx.array, other: mx.array) -> float:
    return ((one * other).sum() / (mx.linalg.norm(one) * mx.linalg.norm(other))).item()


def flat(gradients: dict) -> dict[str, mx.array]:
    return dict(tree_flatten(gradients))


@pytest.mark.parametrize("length", [2, 18, 19, 20, 30, 51])
def test_segments_are_the_excerpt_and_its_successors_cut_where_the_cache_folds(length):
    inputs, targets = zip(*segments(TOKENS[:length], LAYOUT))
    assert mx.concatenate(inputs).tolist() == TOKENS[: length - 1]
    assert mx.concatenate(targets).tolist() == TOKENS[1:length]
    assert inputs[0].size == min(LAYOUT.capacity, length - 1)
    assert all(piece.size == LAYOUT.segment for piece in inputs[1:-1])


@pytest.fixture
def half_read():
    """A model in the middle of an excerpt: its cache, and the segment it reads next."""
    def prepare(kind: str):
        model = with_memory(llama_model(), kind)
        cache = model.make_cache()
        first, second, third = list(segments(TOKENS, LAYOUT))[:3]
        for inputs, _ in (first, second):
            model.model(inputs[None], cache=cache)
        mx.eval([layer.state for layer in cache])
        return model, cache, third

    return prepare


def segment_loss(model: nn.Module, cache: list, segment: tuple) -> mx.array:
    return token_losses(model, *segment, forked(cache)).mean()


@ANY_KIND
def test_gradients_of_every_gate_parameter_are_the_slopes_of_the_loss(kind, half_read):
    """Central differences along random directions, through two layers that read memory."""
    model, cache, segment = half_read(kind)
    _, gradients = nn.value_and_grad(model, segment_loss)(model, cache, segment)
    step = 1e-2

    def loss_at(path: str, value: mx.array) -> float:
        model.update(tree_unflatten([(path, value)]))
        return segment_loss(model, cache, segment).item()

    steep = 0
    for path, gradient in flat(gradients).items():
        value = gate_parameters(model)[path]
        for seed in range(3):
            direction = mx.random.normal(value.shape, key=mx.random.key(seed))
            direction /= mx.linalg.norm(direction)
            rise = loss_at(path, value + step * direction) - loss_at(path, value - step * direction)
            slope = (gradient * direction).sum().item()
            assert rise / (2 * step) == pytest.approx(slope, rel=0.03, abs=1e-3), path
            steep += abs(slope) > 1e-2
        loss_at(path, value)
    assert steep > 6


@pytest.mark.parametrize("make", MODELS)
def test_gradients_are_for_gates_alone(make):
    model = with_memory(make())
    _, gradients = excerpt_gradients(model, EXCERPT, Objective())
    assert flat(gradients).keys() == gate_parameters(model).keys()
    assert all(mx.any(gradient != 0).item() for gradient in flat(gradients).values())


def test_gradients_are_those_of_the_mean_loss():
    """Of an excerpt with a single segment that reads memory."""
    model = with_memory(llama_model())
    excerpt, cache = Excerpt(TOKENS[: LAYOUT.capacity + LAYOUT.segment + 1]), model.make_cache()
    (tokens, _), reads_memory = segments(excerpt.tokens, LAYOUT)
    model.model(tokens[None], cache=cache)
    loss, expected = nn.value_and_grad(model, segment_loss)(model, cache, reads_memory)
    mean, gradients = excerpt_gradients(model, excerpt, Objective())
    assert mean == pytest.approx(loss.item(), rel=1e-5)
    for path, gradient in flat(expected).items():
        assert close(flat(gradients)[path], gradient), path


@ANY_KIND
@pytest.mark.parametrize("block", [chunked, recomputed])
@pytest.mark.parametrize("make", MODELS)
def test_what_is_computed_again_changes_neither_loss_nor_gradients(make, block, kind, monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK", 3)  # which does not divide a segment
    model = with_memory(make(), kind)
    plain, again = (excerpt_gradients(model, EXCERPT, Objective(), way) for way in (kept, block))
    assert plain[0] == pytest.approx(again[0], rel=1e-5)
    for path, gradient in flat(plain[1]).items():
        assert close(flat(again[1])[path], gradient), path


@pytest.mark.parametrize("block", [chunked, recomputed])
def test_the_cache_is_left_as_plain_reading_leaves_it(block, half_read):
    model, cache, (inputs, _) = half_read("centroids")
    twin = forked(cache)
    for read, state in ((kept, cache), (block, twin)):
        nn.value_and_grad(model, lambda cache: hidden_states(model, inputs, cache, read).sum())(state)
    for one, other in zip(tree_flatten([c.state for c in cache]), tree_flatten([c.state for c in twin])):
        assert one[0] == other[0] and close(mx.array(one[1]), mx.array(other[1])), one[0]


def test_less_is_kept_by_chunks_of_the_mlp_and_least_by_computing_layers_again():
    layout = Layout(4, 256, 256)
    model = with_memory(llama_model(intermediate_size=2048, num_hidden_layers=4), layout=layout)
    excerpt = Excerpt((20 * TOKENS)[: layout.capacity + layout.segment + 1])

    def peak(block: blocks.Block) -> int:
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(excerpt_gradients(model, excerpt, Objective(), block)[1])
        return mx.get_peak_memory() - before

    peak(kept)
    assert peak(recomputed) < peak(chunked) < 0.8 * peak(kept)


def test_the_loss_is_the_mean_over_what_reads_memory():
    """Before the first fold there is no gate to train."""
    model = with_memory(llama_model())
    tokens = mx.array(TOKENS)
    losses = token_losses(model, tokens[:-1], tokens[1:], model.make_cache())
    expected = losses[LAYOUT.capacity :].mean().item()
    assert excerpt_gradients(model, EXCERPT, Objective())[0] == pytest.approx(expected, rel=1e-4)
    assert validation_loss(model, [EXCERPT]) == pytest.approx(expected, rel=1e-4)


def test_distillation_holds_each_token_against_its_own_teacher():
    model = with_memory(llama_model())
    excerpt, tokens = taught(model, EXCERPT), mx.array(TOKENS)
    hidden = model.model(tokens[None, :-1], cache=model.make_cache())[0, LAYOUT.capacity :]
    expected = Objective(0.7)(model, hidden, tokens[LAYOUT.capacity + 1 :], excerpt.teacher).mean().item()
    assert excerpt_gradients(model, excerpt, Objective(0.7))[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind, least_cosine", [("centroids", 0.5), ("exponential", 0.5)])
def test_gradients_cut_between_segments_against_those_of_the_whole_excerpt(kind, least_cosine):
    """Truncated backpropagation (UIO-LLMs, arXiv 2406.18173) against backpropagation through all of time.

    The state of the last layer is made by the layers below and by its own key features. What only
    reads it has the same gradient either way; of all else the cut takes a part, and leaves the direction.
    """
    model, tokens = with_memory(llama_model(), kind), mx.array(TOKENS)

    def whole(model: nn.Module) -> mx.array:
        return token_losses(model, tokens[:-1], tokens[1:], model.make_cache())[LAYOUT.capacity :].mean()

    loss, full = nn.value_and_grad(model, whole)(model)
    mean, cut = excerpt_gradients(model, EXCERPT, Objective())
    assert mean == pytest.approx(loss.item(), rel=1e-4)
    full, cut = flat(full), flat(cut)
    reading = {path for path in full if path.startswith("model.layers.1.") and ".key_" not in path}
    for path in reading:
        assert close(cut[path], full[path], 1e-3), path
    for path in full.keys() - reading:
        assert mx.abs(cut[path] - full[path]).max() > 1e-3 * mx.abs(full[path]).max(), path
        assert cosine(cut[path], full[path]) > least_cosine, path


def test_validation_weighs_every_token_the_same():
    model = with_memory(llama_model())
    short, long = Excerpt(TOKENS[:30]), EXCERPT
    counts = [len(excerpt.tokens) - 1 - LAYOUT.capacity for excerpt in (short, long)]
    apart = [validation_loss(model, [excerpt]) for excerpt in (short, long)]
    assert validation_loss(model, [short, long]) == pytest.approx(np.average(apart, weights=counts))


@pytest.mark.parametrize("block", [chunked, recomputed])
def test_gradients_take_no_more_memory_for_longer_excerpts(block):
    model = with_memory(llama_model())

    def peak(count: int) -> int:
        excerpt = Excerpt(sequence(LAYOUT.capacity + count * LAYOUT.segment + 1).tolist())
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(excerpt_gradients(model, excerpt, Objective(), block)[1])
        return mx.get_peak_memory() - before

    peak(2)
    # Four times as many segments: a graph kept alive would take about four times the memory.
    assert peak(16) < 1.6 * peak(4)


# -- the optimizer -------------------------------------------------------------------


@pytest.mark.parametrize("objective", [Objective(), Objective(distill=1.0)], ids=str)
def test_a_few_updates_lower_the_loss_and_leave_the_base_model_alone(objective):
    model = with_memory(llama_model())
    excerpt = taught(model, EXCERPT)
    base = {p: np.array(v) for p, v in tree_flatten(model.parameters()) if p not in gate_parameters(model)}
    optimizer = make_optimizer(0.03, iters=8)
    optimizer.init(model.trainable_parameters())
    losses = []
    for _ in range(8):
        loss, gradients = excerpt_gradients(model, excerpt, objective)
        losses.append(loss)
        update(model, optimizer, loss, gradients)
    assert losses[-1] < losses[0] - 0.05
    after = dict(tree_flatten(model.parameters()))
    assert all(np.array_equal(after[path], value) for path, value in base.items())


def test_feature_maps_learn_at_a_fifth_of_the_gates_rate():
    """Adam's first step is a share of the rate, whatever the gradient."""
    model = with_memory(llama_model(), "exponential")
    optimizer = make_optimizer(0.04, iters=10)
    optimizer.init(model.trainable_parameters())
    before = gates(model)
    gradients = tree_map(mx.ones_like, model.trainable_parameters())
    update(model, optimizer, 1.0, gradients)
    for path, value in gates(model).items():
        rate = 0.01 / 5 if "projection" in path or "_bias" in path else 0.01
        assert np.allclose(before[path] - value, rate, rtol=1e-2), path


def test_the_rate_rises_then_falls():
    model = with_memory(llama_model())
    optimizer = make_optimizer(0.1, iters=20)
    optimizer.init(model.trainable_parameters())
    rates = []
    for _ in range(20):
        update(model, optimizer, 1.0, tree_map(mx.ones_like, model.trainable_parameters()))
        rates.append(optimizer.optimizers[1].learning_rate.item())
    top = int(np.argmax(rates))
    assert 3 <= top <= 5 and rates[top] == pytest.approx(0.1)
    assert np.all(np.diff(rates[: top + 1]) > 0) and np.all(np.diff(rates[top:]) <= 0)
    assert rates[-1] == pytest.approx(0.005, rel=0.2)


def test_gradients_are_clipped_to_length_one():
    model = with_memory(llama_model())
    optimizer = make_optimizer(0.1, iters=4)
    optimizer.init(model.trainable_parameters())
    gradients = tree_map(lambda p: 1e3 * mx.ones_like(p), model.trainable_parameters())
    count = sum(p.size for p in gate_parameters(model).values())
    assert update(model, optimizer, 1.0, gradients) == pytest.approx(1e3 * count**0.5, rel=1e-4)
    moments = [v for path, v in flat(optimizer.optimizers[1].state).items() if path.endswith(".m")]
    assert sum(mx.square(m).sum().item() for m in moments) ** 0.5 == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("loss, factor", [(float("nan"), 1.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_what_is_not_a_number_stops_training_before_the_step(loss, factor):
    model = with_memory(llama_model())
    optimizer = make_optimizer(0.1, iters=4)
    optimizer.init(model.trainable_parameters())
    before = gates(model)
    gradients = tree_map(lambda p: factor * mx.ones_like(p), model.trainable_parameters())
    with pytest.raises(TrainingDiverged, match="nan|inf"):
        update(model, optimizer, loss, gradients)
    assert all(np.array_equal(value, before[path]) for path, value in gates(model).items())
