"""Which pages of a document exact recall went back to for an answer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence

from .recall import Recall

MOST = 5


def consulted(page_ends: Sequence[int], layers: Sequence[Recall]) -> tuple[int, ...]:
    """Pages of the document, from 0, of whose tokens most came back to a fork of its memory for their length.

    Over all layers, heads and choices; those above the average, at most MOST, the most consulted first. One
    shorter than pages are on average counts as long as that: of a heading all has soon come back.

    Args:
        page_ends: tokens of the document up to the end of each of its pages. layers: of the fork.
    """
    counts: Counter[int] = sum((recall.consulted for recall in layers), Counter())
    bounds, usual = [0, *page_ends], page_ends[-1] / len(page_ends)
    read: Counter[int] = Counter()
    for stored, times in counts.items():
        start, end = layers[0].first_token(stored), layers[0].first_token(stored + 1)
        last = min(bisect_left(page_ends, end), len(page_ends) - 1)
        for page in range(bisect_right(page_ends, start), last + 1):
            read[page] += times * (min(end, bounds[page + 1]) - max(start, bounds[page]))
    share = {page: tokens / max(bounds[page + 1] - bounds[page], usual) for page, tokens in (+read).items()}
    average = sum(share.values()) / max(len(share), 1)
    ranked = sorted(share, key=lambda page: -share[page])
    return tuple(page for page in ranked[:MOST] if share[page] >= average)
