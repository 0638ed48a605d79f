"""Tuning the gates end to end, on next-token loss through the frozen model.

Truncated backpropagation through time: an excerpt is read segment by segment as
in inference, and the loss of each segment is differentiated through all layers
of that segment; what earlier segments left behind (window and memory) is a
constant. So the bound on memory is one segment, whatever the excerpt's length.
Only segments that have a memory to read are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..cache import EdgeCache
from .loss import cross_entropy, head, token_losses


class TrainingDiverged(ArithmeticError):
    """The loss or its gradient is no longer a number."""


def segments(tokens: list[int], layout) -> Iterator[tuple[mx.array, mx.array]]:
    """Inputs and next-token targets (L,), cut where the cache folds."""
    start, stop = 0, layout.capacity
    while start < len(tokens) - 1:
        piece = mx.array(tokens[start : stop + 1])
        yield piece[:-1], piece[1:]
        start, stop = stop, stop + layout.segment


def excerpt_gradients(
    model: nn.Module, tokens: list[int], checkpoint: bool = False
) -> tuple[float, dict]:
    """Mean loss (nats per token) and its gradients over the segments that read memory."""
    forward = checkpointed_losses if checkpoint else token_losses
    differentiate = nn.value_and_grad(model, lambda *batch: forward(model, *batch).sum())
    cache = model.make_cache()
    loss, count, total = 0.0, 0, None
    for inputs, targets in segments(tokens, cache[0].layout):
        if cache[0].tokens == 0:
            model.model(inputs[None], cache=cache)
            mx.eval([layer.state for layer in cache])
            continue
        value, gradients = differentiate(inputs, targets, cache)
        total = gradients if total is None else tree_map(mx.add, total, gradients)
        # Evaluated, the state is a constant for the segments to come: no graph reaches back.
        mx.eval(value, total, [layer.state for layer in cache])
        loss, count = loss + value.item(), count + targets.size
    return loss / count, tree_map(lambda g: g / count, total)


def validation_loss(model: nn.Module, examples: list[list[int]]) -> float:
    """Mean loss over the segments that read memory, of several excerpts."""
    total, count = 0.0, 0
    for tokens in examples:
        cache = model.make_cache()
        for inputs, targets in segments(tokens, cache[0].layout):
            reads_memory = cache[0].tokens > 0
            losses = token_losses(model, inputs, targets, cache)
            mx.eval(losses, [layer.state for layer in cache])
            if reads_memory:
                total, count = total + losses.sum().item(), count + losses.size
    return total / count


def checkpointed_losses(
    model: nn.Module, tokens: mx.array, targets: mx.array, cache: list[EdgeCache]
) -> mx.array:
    """`token_losses` that keeps only each layer's input and recomputes the rest going backwards."""
    hidden = model.model.embed_tokens(tokens[None])
    for layer, layer_cache in zip(model.layers, cache):
        hidden = _checkpointed(layer, hidden, layer_cache)
    return cross_entropy(head(model, model.model.norm(hidden))[0], targets)


def _checkpointed(layer: nn.Module, hidden: mx.array, cache: EdgeCache) -> mx.array:
    before = cache.state

    def run(parameters: dict, hidden: mx.array) -> mx.array:
        # Called again on the way back, so it starts from the same state each time.
        cache.state = before
        layer.update(parameters)
        return layer(hidden, cache=cache)

    return mx.checkpoint(run)(layer.trainable_parameters(), hidden)


def make_optimizer(learning_rate: float, iters: int, warmup: int = 4) -> optim.Optimizer:
    """Adam without weight decay; feature maps learn at a fifth of the gates' rate.

    Gates need a rate of their own, far above a model's: at a usual rate they
    stay where they start.
    """
    def schedule(peak: float):
        rise = optim.linear_schedule(peak / warmup, peak, warmup)
        fall = optim.cosine_decay(peak, max(iters - warmup, 1), 0.05 * peak)
        return optim.join_schedules([rise, fall], [warmup])

    features = optim.Adam(schedule(learning_rate / 5), betas=[0.9, 0.98])
    gates = optim.Adam(schedule(learning_rate), betas=[0.9, 0.98])
    return optim.MultiOptimizer([features, gates], [lambda path, _: "projection" in path or "_bias" in path])


def update(model: nn.Module, optimizer: optim.Optimizer, loss: float, gradients: dict) -> float:
    """One clipped optimizer step; returns the gradient's norm before clipping.

    Raises:
        TrainingDiverged: before the step is taken, so the parameters stay sound.
    """
    clipped, norm = optim.clip_grad_norm(gradients, 1.0)
    if not (math.isfinite(loss) and math.isfinite(norm.item())):
        raise TrainingDiverged(f"Loss {loss} with gradient norm {norm.item()}.")
    optimizer.update(model, clipped)
    mx.eval(model.trainable_parameters(), optimizer.state)
    return norm.item()
