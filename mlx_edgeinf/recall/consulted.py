"""Which pages of a document exact recall went back to for an answer."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from .recall import Recall

MOST = 5


def consulted(page_ends: Sequence[int], layers: Sequence[Recall]) -> tuple[int, ...]:
    """Pages of the document, from 0, that came back to a fork of its memory most often for their length.

    Over all layers, heads and choices; those above the average, at most MOST, the most consulted first.

    Args:
        page_ends: tokens of the document up to the end of each of its pages. layers: of the fork.
    """
    counts: Counter[int] = sum((recall.consulted for recall in layers), Counter())
    read: Counter[int] = Counter()
    for page, times in counts.items():
        read[bisect_right(page_ends, layers[0].first_token(page))] += times
    ends = [0, *page_ends]
    share = {page: read[page] / (ends[page + 1] - ends[page]) for page in read if page + 1 < len(ends)}
    average = sum(share.values()) / max(len(share), 1)
    ranked = sorted(share, key=lambda page: -share[page])
    return tuple(page for page in ranked[:MOST] if share[page] >= average)
