"""Fewer parameters than gates have: some that are common to several, and a little of each one's own.

EdgeFormer (arXiv 2202.07959) shares parameters and adapts each layer, MoEUT (arXiv 2405.16039) shares by
groups of layers. Here what a query says and the correction to the expected rotation are common; the
trust in the mass ratio and the bias stay each head's own.

Common parameters are equal ones: each is moved by the gradient of all, so that equal they stay.
"""

from __future__ import annotations

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

# Over the heads of each layer, or over groups of layers head by head: with nine heads a layer, about
# as many parameters.
WAYS = ("heads", "layers")
GROUP = 10
COMMON = ("query", "log_scale", "angle")


def shared(gradients: dict, way: str) -> dict:
    """Gradients of gates, (H, ...) each, with those of common parameters added up."""
    flat = dict(tree_flatten(gradients))
    totals: dict[str, mx.array] = {}
    for path, gradient in flat.items():
        if is_common(path):
            total = gradient.sum(axis=0, keepdims=True) if way == "heads" else gradient
            totals[_owner(path, way)] = totals.get(_owner(path, way), 0) + total
    for path in filter(is_common, flat):
        flat[path] = mx.broadcast_to(totals[_owner(path, way)], flat[path].shape)
    return tree_unflatten(list(flat.items()))


def independent(parameters: dict[str, mx.array], way: str | None) -> int:
    """Numbers that are trained in the parameters of gates, by their path: those in common count once."""
    sizes = {}
    for path, value in parameters.items():
        if way and is_common(path):
            sizes[_owner(path, way)] = value.size // (len(value) if way == "heads" else 1)
        else:
            sizes[path] = value.size
    return sum(sizes.values())


def is_common(path: str) -> bool:
    """Whether a parameter of a gate, by its path in the model, is one that can be shared."""
    return path.rpartition(".")[2] in COMMON


def _owner(path: str, way: str) -> str:
    """What all that share a parameter have in common: its layer, or the group of layers it is in."""
    if way == "heads":
        return path
    layer, _, name = path.partition("layers.")[2].partition(".")
    return f"{int(layer) // GROUP}.{name}"
