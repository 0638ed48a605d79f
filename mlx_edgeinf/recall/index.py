"""Where in the past to look: means of runs of keys, never more than so many.

A run is `grain` consecutive tokens. Once all vectors are taken, neighbours are merged and the
grain doubles: the index of any length takes the same memory and the same time to scan, and what
it cannot tell apart any more is told apart by the summaries of the pages, on disk.

n blocks of queries, G kv heads, H query heads, L queries of a block, d head size.
"""

from __future__ import annotations

import mlx.core as mx

from ..fastmath import exp
from ..sources import grouped

# Tokens of a run at first: four runs a page of 16 estimate its attention far better than one.
FINEST = 4


class Index:
    """Of one layer's evicted keys, without position.

    capacity: most vectors per kv head; even.
    """

    def __init__(self, capacity: int):
        self.capacity, self.grain, self.tokens = capacity, FINEST, 0
        self.means: mx.array | None = None

    @property
    def vectors(self) -> int:
        """Runs that there are, the last one perhaps not full."""
        return -(-self.tokens // self.grain)

    def add(self, keys: mx.array) -> None:
        """Take in the keys (G, T, d) of the next T tokens."""
        heads, added, size = keys.shape
        if self.means is None:
            self.means = mx.zeros((heads, self.capacity, size), mx.float16)
        while -(-(self.tokens + added) // self.grain) > self.capacity:
            self._double()
        first, begun = divmod(self.tokens, self.grain)
        runs = mx.arange(begun, begun + added) // self.grain
        number = -(-(begun + added) // self.grain)
        member = (runs == mx.arange(number)[:, None]).astype(mx.float32)
        # The run that was begun before goes on.
        before = self.means[:, first : first + 1].astype(mx.float32) * begun
        sums = member @ keys.astype(mx.float32)
        sums = mx.concatenate([sums[:, :1] + before, sums[:, 1:]], axis=1)
        self.tokens += added
        counts = self._counts()[first : first + number, None]
        self.means[:, first : first + number] = (sums / counts).astype(mx.float16)

    def shares(self, queries: mx.array, log_mass: mx.array, scale: float) -> mx.array:
        """(n, G, vectors): attention that each run would get from the queries of each block.

        queries (n, H, L, d), log_mass (n, H, L): see `estimated_shares`.
        """
        return estimated_shares(queries, self.means[:, : self.vectors], self._counts(), log_mass, scale)

    def restore(self, tokens: int, means: mx.array) -> None:
        """Be the index (G, vectors, d) of so many tokens.

        Raises:
            ValueError: it is not one of so many tokens.
        """
        self.tokens, self.grain = tokens, FINEST
        while self.vectors > self.capacity:
            self.grain *= 2
        if means.shape[1] != self.vectors:
            raise ValueError(f"{means.shape[1]} vectors are not an index of {tokens} tokens.")
        self.means = mx.pad(means, [(0, 0), (0, self.capacity - self.vectors), (0, 0)])

    def fork(self) -> Index:
        """An independent continuation from here."""
        twin = Index(self.capacity)
        twin.grain, twin.tokens = self.grain, self.tokens
        # An assignment to a slice changes the array object itself, so each side needs its own.
        twin.means = None if self.means is None else mx.array(self.means)
        return twin

    @property
    def nbytes(self) -> int:
        return 0 if self.means is None else self.means.nbytes

    def _counts(self) -> mx.array:
        """Tokens of each run that there is."""
        starts = self.grain * mx.arange(self.vectors)
        return mx.minimum(self.tokens - starts, self.grain).astype(mx.float32)

    def _double(self) -> None:
        """Merge neighbours: half as many runs, twice as long."""
        counts = mx.pad(self._counts(), (0, self.capacity - self.vectors)).reshape(-1, 2, 1)
        heads, _, size = self.means.shape
        pairs = self.means.astype(mx.float32).reshape(heads, -1, 2, size)
        merged = (pairs * counts).sum(axis=2) / mx.maximum(counts.sum(axis=1), 1)
        self.means = mx.pad(merged.astype(mx.float16), [(0, 0), (0, self.capacity // 2), (0, 0)])
        self.grain *= 2


def estimated_shares(
    queries: mx.array, means: mx.array, counts: mx.array | int, log_mass: mx.array, scale: float
) -> mx.array:
    """(n, G, N): attention that runs of keys would get, if all keys of a run were their mean.

    Args:
        queries: (n, H, L, d), turned to where the keys would be placed.
        means: (G, N, d), without position. counts: tokens of each run.
        log_mass: (n, H, L) of what the queries attend to besides.
    """
    counts = mx.broadcast_to(mx.array(counts, mx.float32), means.shape[:2])[..., None]
    # Two more components, so that the product is the log of each run's mass over the mass of all besides.
    asking = [queries.astype(mx.float32) * scale, mx.ones((*log_mass.shape, 1)), -log_mass[..., None]]
    asked = [means.astype(mx.float32), mx.log(counts), mx.ones(counts.shape)]
    asking, asked = (mx.concatenate(each, axis=-1) for each in (asking, asked))
    return shares_of(grouped(asking, asked.shape[0]) @ asked.swapaxes(-1, -2))


def shares_of(log_ratios: mx.array) -> mx.array:
    """(n, G, N): attention that parts of the past get from all queries of a block.

    log_ratios (n, G, q, N): of the mass of each part, for each query, to that of what is attended to besides.
    """
    # e**80 times all vectors of an index is just less than float32 holds.
    ratios = exp(mx.minimum(log_ratios, 80))
    total = 1 + ratios.sum(axis=-1, keepdims=True)
    return ((1 / total).swapaxes(-1, -2) @ ratios)[:, :, 0]
