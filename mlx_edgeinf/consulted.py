"""Which pages of a document exact recall went back to for an answer."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

from .cache import EdgeCache
from .document_memory import DocumentMemory

MOST = 5


def consulted(memory: DocumentMemory, fork: list[EdgeCache]) -> tuple[int, ...]:
    """Pages of the document, from 0, that came back to a fork of its memory most often for their length.

    Over all layers, heads and choices; those above the average, at most MOST, the most consulted first.
    """
    recall, layout = fork[0].recall, fork[0].layout
    counts: Counter[int] = sum((layer.recall.consulted for layer in fork), Counter())
    size = recall.pages.shape.page_tokens
    read: Counter[int] = Counter()
    for page, times in counts.items():
        # The sinks never leave the window, so what is on disk begins behind them.
        read[bisect_right(memory.page_ends, layout.sinks + page * size)] += times
    ends = [0, *memory.page_ends]
    share = {page: read[page] / (ends[page + 1] - ends[page]) for page in read if page + 1 < len(ends)}
    average = sum(share.values()) / max(len(share), 1)
    ranked = sorted(share, key=lambda page: -share[page])
    return tuple(page for page in ranked[:MOST] if share[page] >= average)
