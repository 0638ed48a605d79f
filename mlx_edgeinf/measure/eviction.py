"""Ways to keep some tokens and drop the rest: H2O and SnapKV, reading a stream.

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
