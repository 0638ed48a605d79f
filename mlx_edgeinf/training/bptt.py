"""Tuning the gates end to end, through the frozen model.

Truncated backpropagation through time (UIO-LLMs, arXiv 2406.18173): an excerpt is read segment
by segment as in inference, and the loss of each segment is differentiated through all layers
of that segment (with exact recall, of a part of it); what was left behind before
(window and memory) is a constant. So the bound on memory is one segment, whatever the
excerpt's length.
Only segments that have a memory to read, and something to learn, are trained on:
the rest of a document under an answer is read as fast as in inference.

Gates start where the mass alone opens them. Learned feature maps were once fitted layer by layer to the
output of exact attention instead (six excerpts, 240 steps): the error fell, to 0.3 to 0.97 of the window's,
and the loss of six books did not (-0.05, -0.24, 0.04, 0.02, -0.31 and -0.29 of the gap were closed). What is
nearer in output can be further in what the next layers read from it, so there is no such start here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..cache import EdgeCache, Layout
from ..generation import read_on
from ..recall import BLOCK
from .blocks import Block, chunked, hidden_states
from .excerpts import Excerpt
from .loss import Objective, token_losses
from .recalling import check_recall

# Iterations in which the rate rises to its peak.
WARMUP = 4
# Tokens differentiated at a time where pages come back: those of each block have keys and values of their
# own. With a whole segment of the starter model it was 18 GB, and slower.
RECALLING = 8 * BLOCK


class TrainingDiverged(ArithmeticError):
    """The loss or its gradient is no longer a number."""


def segments(
    tokens: list[int], layout: Layout, first: int = 0, most: int | None = None
) -> Iterator[tuple[mx.array, mx.array]]:
    """Inputs and next-token targets (L,) from the token `first` on, cut where the cache folds.

    most: tokens of a piece; None for as many as come before the next fold.
    """
    start, fold = first, layout.capacity
    while start < len(tokens) - 1:
        while fold <= start:
            fold += layout.segment
        stop = min(fold, start + (most or fold))
        piece = mx.array(tokens[start : stop + 1])
        yield piece[:-1], piece[1:]
        start = stop


class Counted(NamedTuple):
    """A segment of which something counts, about to be read.

    inputs (L,), targets (n,): the last n of its next tokens. teacher (n, D): what full attention has
    there, or None. cache: with all that is before.
    """

    inputs: mx.array
    targets: mx.array
    teacher: mx.array | None
    cache: list[EdgeCache]


def counted_segments(model: nn.Module, excerpt: Excerpt) -> Iterator[Counted]:
    """The segments of an excerpt and its siblings that count; whoever takes one reads it and evaluates it.

    What is between is read here, and what all of them begin with once: its end, which an answer alone has
    in its own first segment, is a constant too.

    Raises:
        StoreError: what left the window could not be kept or read again.
    """
    cache, shared = model.make_cache(), excerpt.shared
    most = RECALLING if cache[0].recall else None
    for inputs, _ in segments(excerpt.tokens[: shared + 1], cache[0].layout):
        read_on(model, inputs, cache)
    for each in excerpt.family:
        own = copy.deepcopy(cache) if excerpt.siblings else cache
        yield from _counted_from(model, each, own, shared, most)


def _counted_from(
    model: nn.Module, excerpt: Excerpt, cache: list[EdgeCache], start: int, most: int | None
) -> Iterator[Counted]:
    """Those of one excerpt from a place on up to which its cache has read; most: see `segments`."""
    layout = cache[0].layout
    end, count, first = start + 1, 0, excerpt.counts_from(layout.capacity)
    for inputs, targets in segments(excerpt.tokens, layout, start, most):
        end += targets.size
        new = min(max(end - first, 0), targets.size)
        if new:
            teacher = None if excerpt.teacher is None else excerpt.teacher[count : count + new]
            yield Counted(inputs, targets[-new:], teacher, cache)
        else:
            read_on(model, inputs, cache)
        check_recall(cache)
        count += new


def excerpt_gradients(
    model: nn.Module, excerpt: Excerpt, objective: Objective, block: Block = chunked
) -> tuple[float, dict]:
    """Mean loss (nats per token) and its gradients, over the tokens that count (`Excerpt`).

    block: how each layer is read, and so what it keeps meanwhile.
    """

    def loss_of(inputs: mx.array, targets: mx.array, teacher: mx.array | None, cache: list) -> mx.array:
        hidden = hidden_states(model, inputs, cache, block)[-targets.size :]
        return objective(model, hidden, targets, teacher).sum()

    differentiate = nn.value_and_grad(model, loss_of)
    loss, count, total = 0.0, 0, None
    for part in counted_segments(model, excerpt):
        value, gradients = differentiate(*part)
        total = gradients if total is None else tree_map(mx.add, total, gradients)
        # Evaluated, the state is a constant for the segments to come: no graph reaches back.
        mx.eval(value, total, [layer.state for layer in part.cache])
        loss, count = loss + value.item(), count + part.targets.size
    return loss / count, tree_map(lambda g: g / count, total)


def validation_loss(model: nn.Module, examples: Sequence[Excerpt]) -> float:
    """Mean next-token loss over the tokens that count, of the excerpts of all processes."""
    total, count = 0.0, 0
    for part in chain.from_iterable(counted_segments(model, excerpt) for excerpt in examples):
        losses = token_losses(model, part.inputs, part.targets, part.cache)
        mx.eval(losses, [layer.state for layer in part.cache])
        total, count = total + losses.sum().item(), count + part.targets.size
    total, count = mx.distributed.all_sum(mx.array([total, count])).tolist()
    return total / count


def make_optimizer(learning_rate: float, iters: int) -> optim.Optimizer:
    """Adam without weight decay; the learned maps of `ExponentialMemory` at a fifth of the gates' rate.

    Gates need a rate of their own, far above a model's: at a usual rate they
    stay where they start. Adam takes steps of the rate's size in every
    parameter however noisy its gradient, so the rate must not be too high
    either. With two excerpts a step, 10 steps at 0.02 took the held-out loss
    from 3.487 to 3.471 nats; with one, 10 steps at 0.03 left it where it was.
    """
    def schedule(peak: float):
        rise = optim.linear_schedule(peak / WARMUP, peak, WARMUP)
        fall = optim.cosine_decay(peak, max(iters - WARMUP, 1), 0.05 * peak)
        return optim.join_schedules([rise, fall], [WARMUP])

    maps = optim.Adam(schedule(learning_rate / 5), betas=[0.9, 0.98], bias_correction=True)
    gates = optim.Adam(schedule(learning_rate), betas=[0.9, 0.98], bias_correction=True)
    return optim.MultiOptimizer([maps, gates], [lambda path, _: "projection" in path or "_bias" in path])


def update(model: nn.Module, optimizer: optim.Optimizer, loss: float, gradients: dict) -> float:
    """One clipped optimizer step; returns the gradient's norm before clipping.

    Raises:
        TrainingDiverged: before the step is taken, so the parameters stay sound.
    """
    gradients = nn.average_gradients(gradients)
    clipped, norm = optim.clip_grad_norm(gradients, 1.0)
    if not (math.isfinite(loss) and math.isfinite(norm.item())):
        raise TrainingDiverged(f"The loss became {loss}, its gradient's norm {norm.item()}.")
    optimizer.update(model, clipped)
    mx.eval(model.trainable_parameters(), optimizer.state)
    return norm.item()
