"""Ways to keep some tokens and drop the rest: H2O and SnapKV, reading a stream, and a memory of tokens.

    [ sinks | retained | window | segment ]   exact keys and values, at positions 0, 1, 2, ...

Both choose by attention which of the tokens that leave the window stay. H2O (arXiv 2306.14048)
adds up what each received from all queries so far. SnapKV (arXiv 2404.14469) asks the latest
queries alone, and keeps neighbours together; it was made for one choice at the end of a
prompt, here it chooses anew at each fold, from what it still has. Retained tokens stand right
before the window, in their order: at their true distances a long past would run out of
positions the model knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..cache import EdgeCache, Layout
from ..centroids import CentroidMemory
from ..memory import Heads, State
from ..rotation import Rotation
from ..sources import lengthened

NEIGHBOURS = 7  # SnapKV's pooling kernel


@dataclass(frozen=True)
class RetainingLayout(Layout):
    """A layout with so many retained tokens between sinks and window."""

    retained: int = 0

    @property
    def capacity(self) -> int:
        return super().capacity + self.retained


class H2OCache(EdgeCache):
    """Keeps the tokens that received most attention from all queries so far."""

    def __init__(self, layout: RetainingLayout, rotation: Rotation):
        super().__init__(layout, None, rotation)

    def note(self, received: mx.array) -> None:
        """Add up the attention (B, G, N) that all exact tokens received."""
        if self.received is not None:
            received = received + lengthened(self.received, received.shape[2])
        self.received = received

    def make_room(self) -> None:
        """Keep the best of what stands between the sinks and the window."""
        sinks, local = self.layout.sinks, self.local
        keys, values = local.keys_and_values()
        candidates = slice(sinks, local.offset - self.layout.window)
        window = slice(candidates.stop, local.offset)
        best = mx.argsort(-self.scores(self.received[:, :, candidates]), axis=-1)
        # In the order they stand in.
        chosen = mx.sort(best[:, :, : self.layout.retained], axis=-1) + sinks
        kept = mx.take_along_axis(keys, chosen[..., None], axis=2)
        angles = (mx.arange(self.layout.retained) + sinks - chosen)[..., None] * self._rotation.omega
        shifted = self._rotation.shift(keys[:, :, window], sinks + self.layout.retained - window.start)
        values_kept = mx.take_along_axis(values, chosen[..., None], axis=2)
        local.keys = mx.concatenate([keys[:, :, :sinks], self._rotation.turn(kept, angles), shifted], axis=2)
        local.values = mx.concatenate([values[:, :, :sinks], values_kept, values[:, :, window]], axis=2)
        local.offset = sinks + self.layout.retained + self.layout.window
        self.folded += window.start - sinks - self.layout.retained
        self.received = self.carried(self.received, chosen, window)

    def scores(self, received: mx.array) -> mx.array:
        """(B, G, N) -> (B, G, N): how much to keep each."""
        return received

    def carried(self, received: mx.array, chosen: mx.array, window: slice) -> mx.array | None:
        """What is known of the exact tokens after the choice."""
        parts = [received[:, :, : self.layout.sinks], mx.take_along_axis(received, chosen, axis=2)]
        return mx.concatenate([*parts, received[:, :, window]], axis=2)


class SnapKVCache(H2OCache):
    """Keeps the tokens, and their neighbours, that the latest segment attended to."""

    def scores(self, received: mx.array) -> mx.array:
        B, G, N = received.shape
        pooled = nn.MaxPool1d(NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2)(received.reshape(B * G, N, 1))
        return pooled.reshape(B, G, N)

    def carried(self, received: mx.array, chosen: mx.array, window: slice) -> None:
        return None


class RetainedMemory(CentroidMemory):
    """Some entries are tokens: those whose keys weigh most stay as they are, and centres take the rest.

    Entries stand in the order [ centres | retained ]. Without centres the rest is forgotten.
    """

    def __init__(self, heads: Heads, centres: int, retained: int):
        super().__init__(heads, centres + retained)
        self._centres = CentroidMemory(heads, centres)

    @classmethod
    def like(cls, memory: CentroidMemory, centres: int, retained: int) -> RetainedMemory:
        """For the layer of another."""
        return cls(memory._heads, centres, retained)

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
