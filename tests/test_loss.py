from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from tiny import close, llama_model, qwen3_model, sequence

from mlx_edgeinf.training.loss import CHUNK, Objective, cross_entropy, head, log_softmax, token_losses

LENGTH, WIDTH = 22, 32
HEADS = pytest.mark.parametrize("make", [llama_model, qwen3_model], ids=["tied head", "own head"])
SHARES = pytest.mark.parametrize("distill", [0.0, 0.3, 1.0])


def hidden_states(seed: int, length: int = LENGTH) -> mx.array:
    return mx.random.normal((length, WIDTH), key=mx.random.key(seed))


def float64(model: nn.Module, hidden: mx.array) -> np.ndarray:
    """Log probabilities."""
    logits = np.array(head(model, hidden), dtype=np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def whole(
    distill: float, model: nn.Module, hidden: mx.array, targets: mx.array, teacher: mx.array
) -> mx.array:
    """The objective of all tokens at once, with MLX's own functions."""
    log_p, told = (nn.log_softmax(head(model, states), axis=-1) for states in (hidden, teacher))
    divergence = (mx.exp(told) * (told - log_p)).sum(axis=-1)
    return (1 - distill) * nn.losses.cross_entropy(head(model, hidden), targets) + distill * divergence


def test_log_softmax_is_mlx_s_own_in_float32():
    logits = 5 * mx.random.normal((7, 50), key=mx.random.key(0))
    assert mx.allclose(log_softmax(logits), nn.log_softmax(logits, axis=-1), atol=1e-4)
    assert log_softmax(logits.astype(mx.float16)).dtype == mx.float32


def test_cross_entropy_is_mlx_s_own():
    logits, targets = 5 * mx.random.normal((7, 50), key=mx.random.key(0)), mx.arange(7)
    assert mx.allclose(cross_entropy(logits, targets), nn.losses.cross_entropy(logits, targets), atol=1e-4)


@HEADS
def test_losses_are_those_of_the_models_logits(make):
    model, tokens = make(), sequence(LENGTH + 1)
    losses = token_losses(model, tokens[:-1], tokens[1:], cache=[None, None])
    assert close(losses, nn.losses.cross_entropy(model(tokens[None, :-1])[0], tokens[1:]))


# -- the objective -------------------------------------------------------------------


@HEADS
def test_distillation_is_the_divergence_from_full_attention_in_float64(make):
    model, hidden, teacher = make(), hidden_states(1), hidden_states(2)
    log_p, told = float64(model, hidden), float64(model, teacher)
    expected = (np.exp(told) * (told - log_p)).sum(axis=-1)
    assert np.allclose(Objective(1.0)(model, hidden, sequence(LENGTH), teacher), expected, rtol=1e-4)


@HEADS
def test_without_distillation_the_objective_is_next_token_loss_and_needs_no_teacher(make):
    model, hidden, targets = make(), hidden_states(1), sequence(LENGTH)
    expected = -float64(model, hidden)[np.arange(LENGTH), np.array(targets)]
    assert np.allclose(Objective()(model, hidden, targets, None), expected, rtol=1e-4)


def test_a_mixture_is_the_weighted_sum_of_both():
    batch = llama_model(), hidden_states(1), sequence(LENGTH), hidden_states(2)
    next_token, divergence = Objective(0.0)(*batch), Objective(1.0)(*batch)
    assert mx.allclose(Objective(0.3)(*batch), 0.7 * next_token + 0.3 * divergence, rtol=1e-5)


def test_a_teacher_that_says_the_same_leaves_nothing_to_learn():
    model, hidden, targets = llama_model(), hidden_states(1), sequence(LENGTH)
    (losses,), (gradient,) = mx.vjp(
        lambda states: Objective(1.0)(model, states, targets, hidden), [hidden], [mx.ones(LENGTH)]
    )
    assert mx.allclose(losses, mx.zeros(LENGTH), atol=1e-5)
    assert mx.allclose(gradient, mx.zeros(hidden.shape), atol=1e-4)


# -- in chunks -----------------------------------------------------------------------


@HEADS
@SHARES
@pytest.mark.parametrize("chunk", [1, 8, LENGTH // 2, LENGTH, 2 * LENGTH])
def test_chunks_change_neither_losses_nor_gradients(make, distill, chunk):
    """Whether or not they divide the length."""
    model, hidden, targets, teacher = make(), hidden_states(1), sequence(LENGTH), hidden_states(2)
    weight = mx.arange(LENGTH) / LENGTH

    def slopes(objective) -> tuple[mx.array, mx.array]:
        (losses,), (gradient,) = mx.vjp(lambda h: objective(model, h, targets, teacher), [hidden], [weight])
        return losses, gradient

    ours, expected = slopes(Objective(distill, chunk)), slopes(lambda *batch: whole(distill, *batch))
    assert mx.allclose(ours[0], expected[0], rtol=1e-4, atol=1e-4)
    assert mx.allclose(ours[1], expected[1], rtol=1e-3, atol=1e-4)


@SHARES
def test_a_few_logits_are_held_at_a_time(distill):
    """The head of a small model with a large vocabulary outweighs all else."""
    model, length = llama_model(vocab_size=4096), 4 * CHUNK
    hidden, teacher, targets = hidden_states(1, length), hidden_states(2, length), mx.arange(length)

    def peak(chunk: int) -> int:
        slope = mx.grad(lambda states: Objective(distill, chunk)(model, states, targets, teacher).sum())
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(slope(hidden))
        return mx.get_peak_memory() - before

    mx.eval(model.parameters(), hidden, teacher)
    peak(CHUNK)
    assert peak(CHUNK) < 0.6 * peak(length)
