"""Where in the past to look: runs of keys as if drawn from normal distributions, never more than so many.

A run is `grain` consecutive tokens, at first those of a page. Of each component of their keys the mean
and the deviation are kept, which say how much attention the run would get: for keys from a normal
distribution, log E exp(q . k) = q . mean + q^2 . deviation^2 / 2. Once all places are taken, neighbours
are merged and the grain doubles: the index of any length takes the same memory and the same time to
scan, and what it cannot tell apart any more is told apart by the summaries of the pages, on disk.

n blocks of queries, G kv heads, H query heads, L queries of a block, N runs, d head size.
"""

from __future__ import annotations

import mlx.core as mx

from ..fastmath import exp
from ..sources import grouped


class Index:
    """Of one layer's evicted keys, without position.

    Args:
        capacity: most runs per kv head; even. finest: tokens of a run at first.

    Attributes:
        moments: (G, capacity, 2 d) in half precision, of each run the mean and the deviation.
    """

    def __init__(self, capacity: int, finest: int):
        self.capacity, self.finest = capacity, finest
        self.grain, self.tokens = finest, 0
        self.moments: mx.array | None = None

    @property
    def runs(self) -> int:
        """Runs that there are, the last one perhaps not full."""
        return -(-self.tokens // self.grain)

    def add(self, keys: mx.array) -> None:
        """Take in the keys (G, T, d) of the next T tokens."""
        heads, added, size = keys.shape
        if self.moments is None:
            self.moments = mx.zeros((heads, self.capacity, 2 * size), mx.float16)
        while -(-(self.tokens + added) // self.grain) > self.capacity:
            self._double()
        first, begun = divmod(self.tokens, self.grain)
        number = -(-(begun + added) // self.grain)
        around = (begun, number * self.grain - begun - added)
        keys = mx.pad(keys.astype(mx.float32), [(0, 0), around, (0, 0)])
        keys = keys.reshape(heads, number, self.grain, size)
        there = mx.pad(mx.ones(added), around).reshape(number, self.grain)
        # Beside the new tokens of each run, as one more part, what there was of it: of the first one.
        before = mx.where(mx.arange(number)[:, None] == 0, begun, 0)
        means, deviations = mx.split(self._float(slice(first, first + number))[:, :, None], 2, axis=-1)
        counts = mx.concatenate([before, there], axis=1)[..., None]
        means = mx.concatenate([means, keys], axis=2)
        deviations = mx.concatenate([deviations, mx.zeros(keys.shape)], axis=2)
        self.moments[:, first : first + number] = pooled(counts, means, deviations).astype(mx.float16)
        self.tokens += added

    def shares(self, queries: mx.array, log_mass: mx.array, scale: float) -> mx.array:
        """(n, G, runs): attention that each run would get from the queries of each block.

        queries (n, H, L, d), log_mass (n, H, L): see `estimated_shares`.
        """
        return estimated_shares(queries, self.filled, self._counts(), log_mass, scale)

    @property
    def filled(self) -> mx.array:
        """(G, runs, 2 d): the moments of the runs that there are."""
        return self.moments[:, : self.runs]

    def restore(self, tokens: int, moments: mx.array) -> None:
        """Be the index of so many tokens whose runs are filled with these moments (G, runs, 2 d).

        Raises:
            ValueError: it is not one of so many tokens.
        """
        self.tokens, self.grain = tokens, self.finest
        while self.runs > self.capacity:
            self.grain *= 2
        if moments.shape[1] != self.runs:
            raise ValueError(f"{moments.shape[1]} runs are not an index of {tokens} tokens.")
        self.moments = mx.pad(moments, [(0, 0), (0, self.capacity - self.runs), (0, 0)])

    def fork(self) -> Index:
        """An independent continuation from here."""
        twin = Index(self.capacity, self.finest)
        twin.grain, twin.tokens = self.grain, self.tokens
        # An assignment to a slice changes the array object itself, so each side needs its own.
        twin.moments = None if self.moments is None else mx.array(self.moments)
        return twin

    def _counts(self) -> mx.array:
        """Tokens of each run that there is."""
        starts = self.grain * mx.arange(self.runs)
        return mx.minimum(self.tokens - starts, self.grain).astype(mx.float32)

    def _double(self) -> None:
        """Merge neighbours: half as many runs, twice as long."""
        counts = mx.pad(self._counts(), (0, self.capacity - self.runs)).reshape(-1, 2, 1)
        heads = self.moments.shape[0]
        pairs = self._float(slice(None)).reshape(heads, -1, 2, self.moments.shape[-1])
        merged = pooled(counts, *mx.split(pairs, 2, axis=-1)).astype(mx.float16)
        self.moments = mx.pad(merged, [(0, 0), (0, self.capacity // 2), (0, 0)])
        self.grain *= 2

    def _float(self, runs: slice) -> mx.array:
        return self.moments[:, runs].astype(mx.float32)


def pooled(counts: mx.array, means: mx.array, deviations: mx.array) -> mx.array:
    """(..., N, 2 d): mean and deviation of all keys of N runs, from those of the parts of each.

    counts (N, parts, 1); means, deviations (..., N, parts, d). From differences of means, not of
    squares: keys have components far from 0 that hardly vary.
    """
    total = mx.maximum(counts.sum(axis=-2), 1)
    mean = (counts * means).sum(axis=-2) / total
    squares = mx.square(deviations) + mx.square(means - mean[..., None, :])
    return mx.concatenate([mean, mx.sqrt((counts * squares).sum(axis=-2) / total)], axis=-1)


def estimated_shares(
    queries: mx.array, moments: mx.array, counts: mx.array | int, log_mass: mx.array, scale: float
) -> mx.array:
    """(n, G, N): attention that runs of keys would get, if their keys were drawn from normal distributions.

    Args:
        queries: (n, H, L, d), turned to where the keys would be placed.
        moments: (G, N, 2 d), mean and deviation of each run, without position. counts: its tokens.
        log_mass: (n, H, L) of what the queries attend to besides.
    """
    queries = queries.astype(mx.float32) * scale
    means, deviations = mx.split(moments.astype(mx.float32), 2, axis=-1)
    counts = mx.broadcast_to(mx.array(counts, mx.float32), means.shape[:2])[..., None]
    # Two more components, so that the product is the log of each run's mass over the mass of all besides.
    asking = [queries, mx.square(queries) / 2, mx.ones((*log_mass.shape, 1)), -log_mass[..., None]]
    asked = [means, mx.square(deviations), mx.log(counts), mx.ones(counts.shape)]
    asking, asked = (mx.concatenate(each, axis=-1) for each in (asking, asked))
    return shares_of(grouped(asking, asked.shape[0]) @ asked.swapaxes(-1, -2))


def shares_of(log_ratios: mx.array) -> mx.array:
    """(n, G, N): attention that parts of the past get from all queries of a block.

    log_ratios (n, G, q, N): of the mass of each part, for each query, to that of what is attended to besides.
    """
    # Of the largest mass, whose own is 1 then: no run's is too large for float32.
    largest = mx.maximum(log_ratios.max(axis=-1, keepdims=True), 0)
    ratios = exp(log_ratios - largest)
    total = exp(-largest) + ratios.sum(axis=-1, keepdims=True)
    return ((1 / total).swapaxes(-1, -2) @ ratios)[:, :, 0]
