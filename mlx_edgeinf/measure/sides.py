"""The sides of the benchmark, and how each is measured.

Prefill and decoding are the same few lines for all, after mlx-lm's own: what
differs is the model, its cache and how much is read at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import mean, median

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import KVCache

from ..adapter import gate_parameters, recall_parameters, swap_gates
from ..cache import forked
from ..generation import read_on
from ..pagestore import PageStore
from ..training.recalling import check_recall

STOCK_CHUNK = 2048  # mlx-lm's default prefill_step_size
# Tokens decoded at each length. The first of them are not timed: after a whole number of segments the
# fold falls on the sixth. Recalled pages are chosen for sixteen, twice among those that are timed.
DECODED, UNTIMED = 48, 16
SHORT, PAIRS = 1024, 5  # tokens and paired readings of the short path
SWAPS = 9


class Stock:
    """A base model as mlx-lm runs it."""

    def __init__(self, model: nn.Module):
        self.model = model

    def make_cache(self) -> list:
        return [KVCache() for _ in self.model.layers]

    def chunk(self, cache: list) -> int:
        """Tokens of the next piece of a prefill."""
        return STOCK_CHUNK

    def read(self, tokens: mx.array, cache: list) -> None:
        """Read a piece (L,), as mlx-lm does, and evaluate it."""
        self.model(tokens[None], cache=cache)
        mx.eval([layer.state for layer in cache])
        mx.clear_cache()

    @contextmanager
    def branch(self, cache: list) -> Iterator[list]:
        """A cache to decode in, after which `cache` is as it was."""
        before = cache[0].offset
        # A copy would double its memory, so what was decoded is taken back instead.
        yield cache
        for layer in cache:
            layer.trim(layer.offset - before)


class Ours(Stock):
    """A retrofitted model on the memory path, fed so that each piece ends with a full segment."""

    def make_cache(self) -> list:
        return self.model.make_cache()

    def chunk(self, cache: list) -> int:
        return cache[0].room() or cache[0].layout.segment

    def read(self, tokens: mx.array, cache: list) -> None:
        read_on(self.model, tokens, cache)

    @contextmanager
    def branch(self, cache: list) -> Iterator[list]:
        yield forked(cache)


class Recalling(Ours):
    """Ours with exact recall, from empty pages."""

    def __init__(self, model: nn.Module, pages: PageStore):
        super().__init__(model)
        self._pages = pages

    def make_cache(self) -> list:
        return self.model.make_cache(pages=self._pages)

    @contextmanager
    def branch(self, cache: list) -> Iterator[list]:
        """A fork that must have been answered from its pages.

        Raises:
            StoreError: they could not be read, so that what was measured is something else.
        """
        with super().branch(cache) as branch:
            yield branch
            check_recall(branch)


def with_weights_of(model: nn.Module, base: nn.Module) -> nn.Module:
    """Let a base model hold the very weight arrays of a retrofitted one."""
    gates = gate_parameters(model) | recall_parameters(model)
    weights = [(path, value) for path, value in tree_flatten(model.parameters()) if path not in gates]
    base.update(tree_unflatten(weights))
    return base


def measure(side: Stock, tokens: list[int], lengths: list[int]) -> Iterator[tuple[int, dict]]:
    """Read up to the longest length; (length, measurements) at each.

    peak_bytes counts the reading so far and the weights; ttft is the reading and
    the first token, seconds; prefill and decode are tokens/s.
    """
    cache, read, seconds, peak = side.make_cache(), 0, 0.0, 0
    for length in sorted(lengths):
        mx.reset_peak_memory()
        # As in mlx-lm, the last token of a prompt belongs to the first decoding step.
        seconds += prefill(side, tokens[read : length - 1], cache)
        read, peak = length - 1, max(peak, mx.get_peak_memory())
        held = sum(layer.nbytes for layer in cache)
        with side.branch(cache) as branch:
            first, *steps = decode(side.model, tokens[read], branch)
        yield length, {
            "peak_bytes": peak,
            "state_bytes": held,
            "ttft": seconds + first,
            "prefill": read / seconds,
            "decode": 1 / mean(steps[UNTIMED:]),
        }


def prefill(side: Stock, tokens: list[int], cache: list) -> float:
    """Read tokens into a cache, piece by piece; seconds."""
    return sum(prefilling(side, tokens, cache))


def prefilling(side: Stock, tokens: list[int], cache: list) -> Iterator[float]:
    """Seconds of each piece of tokens that is read into a cache."""
    start = 0
    while start < len(tokens):
        stop = min(start + side.chunk(cache), len(tokens))
        began = time.perf_counter()
        side.read(mx.array(tokens[start:stop]), cache)
        # What nobody waits for, such as the index of pages, would be done in the next one's time.
        mx.synchronize()
        yield time.perf_counter() - began
        start = stop


def by_turns(*sides: Iterator[float]) -> list[list[float]]:
    """Seconds that each of some sides takes, a step of each by turns: a slow machine slows all alike."""
    return [list(seconds) for seconds in zip(*zip(*sides, strict=True))]


def decode(model: nn.Module, token: int, cache: list) -> Iterator[float]:
    """Seconds of the first token after `token`, and of `DECODED` more."""
    for _ in range(1 + DECODED):
        began = time.perf_counter()
        token = mx.argmax(model(mx.array([[token]]), cache=cache)[0, -1]).item()
        yield time.perf_counter() - began


def short_path(edge: Ours, base: Stock, tokens: list[int]) -> dict:
    """Logits of a short input on both sides, and the seconds of alternating readings."""
    x = mx.array(tokens)[None]
    on_base_path = partial(edge.model.make_cache, exact_limit=len(tokens))
    logits = [edge.model(x, cache=on_base_path()), base.model(x, cache=base.make_cache())]
    seconds = {"ours": [], "stock": []}
    for _ in range(PAIRS):
        seconds["stock"].append(prefill(base, tokens, base.make_cache()))
        seconds["ours"].append(prefill(edge, tokens, on_base_path()))
    return {
        "tokens": len(tokens),
        "identical": mx.array_equal(*logits).item(),
        "speed": median(seconds["stock"]) / median(seconds["ours"]),
        "seconds": seconds,
    }


def swaps(model: nn.Module, folder: Path) -> Iterator[float]:
    """Seconds that each of some changes to the gates of a folder takes."""
    for _ in range(SWAPS):
        began = time.perf_counter()
        swap_gates(model, folder)
        yield time.perf_counter() - began
