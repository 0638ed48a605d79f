"""Keys and their nearest centres: the clustering under the centroid memory.

B batch, G kv heads, m centres, n points, d head size; all float32.
"""

from __future__ import annotations

import mlx.core as mx

# A key's weight in its centre: the square of the attention it received, over the average key's.
# Share of the KL divergence from full attention that 256 untrained centres remove (two excerpts of
# 4096 tokens, starter model): 0.45 with equal weights, 0.57 with the power 1, 0.60 with 1.5 and 2.
SHARPNESS, LEAST_WEIGHT = 2, 0.01


def members(points: mx.array, centres: mx.array) -> mx.array:
    """One-hot (B, G, m, n): which centre is nearest to each of n points, by squared distance."""
    best = mx.argmax(closeness(points, centres), axis=-1)
    return (best[:, :, None] == mx.arange(centres.shape[2])[:, None]).astype(mx.float32)


def closeness(points: mx.array, centres: mx.array, filled: mx.array | bool = True) -> mx.array:
    """(B, G, n, m): of each of n points to each centre, greatest where the squared distance is least.

    filled (B, G, m): to centres that are not, it is endlessly far.
    """
    lengths = mx.where(filled, 0.5 * mx.square(centres).sum(-1), mx.inf)
    return points @ centres.swapaxes(-1, -2) - lengths[:, :, None]


def run_sums(x: mx.array, run: int) -> mx.array:
    """Sums (B, G, n, d) over runs of neighbours in x (B, G, T, d); the last ones, of no whole run, stay."""
    B, G, tokens, size = x.shape
    whole = tokens - tokens % run
    sums = x[:, :, :whole].reshape(B, G, -1, run, size).sum(axis=3)
    return mx.concatenate([sums, x[:, :, whole:]], axis=2)


def member_means(members: mx.array, points: mx.array, weights: mx.array) -> mx.array:
    """Weighted means (B, G, m, d) of the points at each centre; 0 where there are none."""
    return members @ (points * weights) / mx.maximum(members @ weights, 1e-9)


def key_weights(received: mx.array) -> mx.array:
    """Weights (B, G, T) of new keys by the attention each received; what nobody asked for counts a little."""
    average = mx.maximum(received.mean(axis=-1, keepdims=True), 1e-9)
    return (received / average) ** SHARPNESS + LEAST_WEIGHT
