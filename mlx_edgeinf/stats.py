"""How far a reading is and what it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """Where a reading stands, all of it measured.

    pages, tokens: read so far. exact_tokens: those that are attended to one by one, of
    exact_capacity at most. folded_tokens: those in memory. seconds: spent reading.
    state_bytes: of sinks, window, memory and the index of what is on disk, in all layers.
    active_bytes, peak_bytes: of MLX in this process, weights included. full_cache_bytes: what a full KV
    cache would need.
    disk_bytes: of the pages for exact recall, now; disk_bytes_total: at the end.
    """

    pages: int
    pages_total: int
    tokens: int
    tokens_total: int
    seconds: float
    state_bytes: int
    active_bytes: int
    peak_bytes: int
    full_cache_bytes: int
    exact_tokens: int
    exact_capacity: int
    folded_tokens: int
    disk_bytes: int = 0
    disk_bytes_total: int = 0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        return (self.tokens_total - self.tokens) * self.seconds / max(self.tokens, 1)
