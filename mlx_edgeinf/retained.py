"""A memory of tokens: those that queries asked for most are kept, under the same gate as clusters of all.

B batch, G kv heads, m entries, T tokens written, d head size.
"""

from __future__ import annotations

import mlx.core as mx

from .centroids import CentroidMemory
from .memory import Heads, State


class RetainedMemory(CentroidMemory):
    """Some entries are tokens: those whose keys weigh most stay as they are, and centres take the rest.

    Entries stand in the order [ centres | retained ]. Without centres the rest is forgotten.

    Args:
        features: entries altogether. centres: how many of them.
    """

    def __init__(self, heads: Heads, features: int, centres: int = 0):
        super().__init__(heads, features)
        self._centres = CentroidMemory(heads, centres)

    def _cluster(self, state: State, points: mx.array, weights: mx.array) -> mx.array:
        """One-hot (B, G, m, m + T): what weighs most of the tokens by itself, of the rest what is nearest."""
        centres, place = self._centres.features, mx.arange(points.shape[2])
        tokens = mx.where(place < centres, 0, weights[..., 0])
        best = mx.argsort(-tokens, axis=-1)[:, :, : self.features - centres]
        kept = (best[..., None] == place).astype(mx.float32)
        rest = 1 - kept.sum(axis=2, keepdims=True)
        return mx.concatenate([self._nearest(state, points, weights, rest), kept], axis=2)

    def _nearest(self, state: State, points: mx.array, weights: mx.array, rest: mx.array) -> mx.array:
        """One-hot (B, G, centres, m + T): which centre each point of the rest (B, G, 1, m + T) goes to."""
        centres = self._centres.features
        if not centres:
            return mx.zeros((*points.shape[:2], 0, points.shape[2]))
        weights = weights * rest.swapaxes(-1, -2)
        own = {name: part[:, :, :centres] for name, part in state.items()}
        # Centres start at points of the rest: at a retained token, or where none is, they would stay empty.
        started = mx.where(own["z"][..., None] > 0, own["centres"], self._starts(points, weights))
        own |= {"centres": started, "z": mx.maximum(own["z"], 1e-6)}
        return rest * self._centres._cluster(own, points, weights)

    def _starts(self, points: mx.array, weights: mx.array) -> mx.array:
        """(B, G, centres, d): evenly, of the points behind the centres that have a weight."""
        centres, place = self._centres.features, mx.arange(points.shape[2])
        weighty = (weights[..., 0] > 0) & (place >= centres)
        first = mx.argsort(mx.where(weighty, place, place + place.size), axis=-1)
        number = weighty.sum(axis=-1, keepdims=True)
        chosen = mx.take_along_axis(first, mx.arange(centres) * number // centres, axis=2)
        return mx.take_along_axis(points, chosen[..., None], axis=2)
