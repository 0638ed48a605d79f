"""Which pages come back: those that a question names, and those that its queries would attend to most.

What is asked for by name is found by its words (`lexicon`). Twenty invented facts in 32k tokens
of a book were asked for by beginning their sentences again (`measure.facts`): their numbers got -1.65 nats a
token with 4,096 tokens that attention alone chose, -1.26 with 32 of these 256 pages named, and -0.75 with 32
named and 32 chosen; -0.91 is what full attention gets at 8k.

A small model heeds what stands near: named pages are placed last, the best right before the window. Twenty
other facts in 8k tokens got -0.77 in the order of the text (6 exact) and -0.46 so (12 exact), answers about
three stories -3.194 and -3.195. With those that attention chose in the order of its estimate as well, the
facts got 0.02 more; named or not, it made little difference.

Attention is estimated from few numbers a page. With 4,096 tokens and nothing named those facts got -1.65 by
mean and deviation of the keys (shipped), -1.64 by Quest's bounds, -1.47 by means of pairs of keys, -1.75 of
fours, -1.44 by all keys, and -1.69 where each page brings its neighbour.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..pagestore.pages import Pages
from .index import Index, estimated_shares

# Pages whose summaries are read from disk, where the index is too coarse to choose among them.
CANDIDATES = 1024


class Finder(NamedTuple):
    """The evicted tokens of one layer, to look for pages in.

    pages: of all layers, on disk. layer: which one. index: of its evicted tokens. scale: of attention.
    """

    pages: Pages
    layer: int
    index: Index
    scale: float

    def find(
        self, queries: mx.array, log_mass: mx.array, number: int, named: np.ndarray, causal: bool
    ) -> np.ndarray:
        """At most so many pages (n, G, k) for n blocks of queries, in the order in which they are placed.

        The order of the text, but what is named comes last, the best right before the window.

        Args:
            queries: (n, H, L, d), turned to where keys would be placed. log_mass (n, H, L): of what they
                attend to besides.
            named: (m,) pages for all blocks and heads, best first; half of what comes back at most.
            causal: later blocks must not speak for the first.
        """
        blocks, heads = queries.shape[0], self.pages.shape.kv_heads
        there = self.pages.pages(self.layer)
        named = named[named < there][: number // 2]
        if there <= number:
            others = np.setdiff1d(np.arange(there), named)
        else:
            candidates, shares = self._estimated(queries, log_mass, there, causal)
            others = _best_others(candidates, shares, number, named)
        parts = others, _best_last(named)
        placed = [np.broadcast_to(part, (blocks, heads, part.shape[-1])) for part in parts]
        return np.concatenate(placed, axis=2)

    def _estimated(
        self, queries: mx.array, log_mass: mx.array, there: int, causal: bool
    ) -> tuple[np.ndarray, mx.array]:
        """Pages (G, c) worth choosing from, in order, and the attention (n, G, c) each would get."""
        page = self.pages.shape.page_tokens
        if self.index.grain == page:
            every = np.broadcast_to(np.arange(there), (self.pages.shape.kv_heads, there))
            return every, self.index.shares(queries, log_mass, self.scale)[..., :there]
        # The same for all blocks: summaries are many.
        speaking = slice(1 if causal else None)
        shares = self.index.shares(queries[speaking], log_mass[speaking], self.scale)
        candidates = self._candidates(shares.max(axis=0), there)
        moments = mx.array(self.pages.summaries(self.layer, candidates)).reshape(*candidates.shape, -1)
        return candidates, estimated_shares(queries, moments, page, log_mass, self.scale)

    def _candidates(self, shares: mx.array, there: int) -> np.ndarray:
        """Pages (G, c), in order, whose runs get most attention; the latest, of no whole run, among them.

        shares: (G, runs).
        """
        each = self.index.grain // self.pages.shape.page_tokens
        whole = there // each
        runs = best(shares[..., :whole], min(CANDIDATES // each, whole))
        pages = (runs[..., None] * each + np.arange(each)).reshape(runs.shape[0], -1)
        latest = np.arange(whole * each, there)
        return np.concatenate([pages, np.broadcast_to(latest, (len(pages), len(latest)))], axis=1)


def _best_others(candidates: np.ndarray, shares: mx.array, number: int, named: np.ndarray) -> np.ndarray:
    """Of candidates (G, c) the number - m pages (n, G, k) of the largest shares (n, G, c), none named."""
    # Each comes back once.
    shares = mx.where(mx.array(np.isin(candidates, named)), -1, shares)
    places = best(shares, number - len(named))
    return np.take_along_axis(np.broadcast_to(candidates, shares.shape), places, axis=2)


def _best_last(named: np.ndarray) -> np.ndarray:
    """Pages (m,) that come best first: the best last, beside their neighbours in the order of the text."""
    pages, rank = np.sort(named), {page: place for place, page in enumerate(named.tolist())}
    runs = np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1)
    runs.sort(key=lambda run: min(map(rank.get, run.tolist()), default=0), reverse=True)
    return np.concatenate(runs)


def best(shares: mx.array, number: int) -> np.ndarray:
    """Places (..., number), ascending, of the largest of the last axis."""
    places = mx.argpartition(-shares, number - 1, axis=-1)[..., :number]
    return np.array(mx.sort(places, axis=-1))
