"""The ways of reading a held-out text that `evaluate` compares.

All read the same tokens in the same segments; they differ in what is still
there of the tokens that have left the window.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from ..adapter import untrained_recall
from ..basemodel import dtype_of
from ..cache import EdgeCache, ExactCache, Layout
from ..gate import MemoryGate
from ..pagestore import PageStore
from ..recall import ASKED, BLOCK, PRECEDENCE, QUESTION_BLOCK, THROUGHOUT, Recall
from ..recall.index import Index
from ..recall.lexicon import COMMON, MOST, WORTH
from ..retained import RetainedMemory
from ..training.bptt import segments
from ..training.loss import cross_entropy, head
from ..training.recalling import check_recall, temporary_pages, without_memory
from .eviction import H2OCache, RetainingLayout, SnapKVCache
from .gap import (
    ALIKE,
    BY_MASS,
    FULL,
    H2O,
    HALF,
    LONGER,
    OURS,
    RECALL,
    RECALL_ALONE,
    RECALL_ALONE_BY_MASS,
    RECALL_BY_MASS,
    RECALL_SHUFFLED,
    RECALL_UNTRAINED,
    RECALLING,
    RETAINED,
    SHUFFLED,
    SNAPKV,
    UNTRAINED,
    ZEROED,
)  # fmt: skip

# What the numbers of questions that recall depend on, for `Results.setup`.
RECALLED = {
    "tokens": ASKED, "named pages": MOST, "worth": WORTH, "common": COMMON,
    "order": "the best named last", "precedence": PRECEDENCE, "queries of an answer": BLOCK,
    "of a question": QUESTION_BLOCK,
}  # fmt: skip
# And those of texts that recall while they are read.
THROUGHOUT_RECALLED = {"tokens": THROUGHOUT, "queries": BLOCK}
# Of a number in the state of a memory, whatever the model computes in.
NUMBER_BYTES = mx.float32.size


class Piece(NamedTuple):
    """Losses (nats, one per token that counts) of one segment, and the seconds it took."""

    losses: np.ndarray
    seconds: float


class AlikeCache(EdgeCache):
    """Folds every token with the same weight, whatever attention it received."""

    def note(self, received: mx.array) -> None:
        pass


class BorrowingCache(EdgeCache):
    """Recalls what another text left on disk, and keeps nothing of its own there."""

    @classmethod
    def of(cls, lender: EdgeCache) -> BorrowingCache:
        """One that is read in step with its lender, and finds at each segment as much as that one would."""
        return cls(lender.layout, None, lender._rotation, recall=copy.copy(lender.recall))

    def _fold(self, keys: mx.array, values: mx.array, position: int) -> None:
        pass


@dataclass
class Reader:
    """Reads token lists in each of the ways that are compared.

    untrained: parameters of the gates before any training.
    first: position of the first token whose loss counts.
    throughout: whether rows with recall look up while they read, or only what their forks are asked.
    """

    model: nn.Module
    untrained: dict[str, mx.array]
    documents: dict[str, list[int]]
    first: int
    throughout: bool = True

    def measure(self, name: str, row: str) -> dict[tuple[str, str], list[Piece]]:
        """Read a document; the pieces by (document, row).

        The row `ours` also lends its memory to the document before it, for `memory shuffled`; `recall
        shuffled` has the document before it read for its pages.
        """
        tokens = self.documents[name]
        names = list(self.documents)
        before = names[names.index(name) - 1]
        if row == OURS:
            own, lent = self._read_and_lend(tokens, self.documents[before])
            return {(name, OURS): own, (before, SHUFFLED): lent}
        if row == RECALL_SHUFFLED:
            return {(name, row): list(self._read_with_pages_of(self.documents[before], tokens))}
        with self.caches(row, len(tokens)) as cache:
            return {(name, row): list(self.read(tokens, cache))}

    def read(self, tokens: list[int], cache: list[EdgeCache]) -> Iterator[Piece]:
        """Read segment by segment; the vocabulary is only weighed where losses count."""
        position = 1
        for inputs, targets in segments(tokens, cache[0].layout):
            began = time.perf_counter()
            skipped = min(max(self.first - position, 0), targets.size)
            hidden = self.model.model(inputs[None], cache=cache)[0, skipped:]
            losses = cross_entropy(head(self.model, hidden), targets[skipped:])
            mx.eval(losses, [layer.state for layer in cache])
            check_recall(cache)
            yield Piece(np.array(losses, dtype=np.float64), time.perf_counter() - began)
            position += targets.size

    @contextmanager
    def caches(self, row: str, length: int) -> Iterator[list[EdgeCache]]:
        """Empty caches of a row, for `length` tokens, and its gates and sizes as long as they are used."""
        with ExitStack() as others:
            if row in (UNTRAINED, RECALL_UNTRAINED):
                others.enter_context(gates(self.model, self.untrained))
            if row == HALF:
                fewer = half(self.model)
                others.enter_context(features(self.model, fewer))
            if row in BY_MASS:
                others.enter_context(gates(self.model, untrained_recall(self.model)))
            pages = others.enter_context(temporary_pages(self.model)) if row in RECALLING else None
            yield self._caches(row, length, pages)

    def _caches(self, row: str, length: int, pages: PageStore | None) -> list[EdgeCache]:
        layout, memories = self.model.layout, memory_gates(self.model)
        if row in (OURS, HALF, UNTRAINED, RECALL, RECALL_BY_MASS, RECALL_UNTRAINED):
            return self.model.make_cache(pages=pages, throughout=self.throughout)
        if row in (RECALL_ALONE, RECALL_ALONE_BY_MASS):
            recalling = self.model.make_cache(pages=pages, throughout=self.throughout)
            return without_memory(self.model, recalling)
        if row == FULL:
            return [ExactCache.like(cache, length) for cache in self.model.make_cache()]
        if row == ALIKE:
            return [AlikeCache(layout, gate.memory, gate.rotation) for gate in memories]
        if row == RETAINED:
            return mixed(self.model, layout, 0, memories[0].memory.features)
        worth = tokens_worth(self.model)
        if row in (H2O, SNAPKV):
            retaining = RetainingLayout(layout.sinks, layout.window, layout.segment, worth)
            kind = H2OCache if row == H2O else SnapKVCache
            return [kind(retaining, gate.rotation) for gate in memories]
        if row == LONGER:
            layout = replace(layout, window=layout.window + worth)
        caches = [EdgeCache(layout, None, gate.rotation) for gate in memories]
        if row == ZEROED:
            for cache, gate in zip(caches, memories):
                cache.memory = gate.memory.empty(1)
        return caches

    def _read_and_lend(
        self, tokens: list[int], others: list[int]
    ) -> tuple[list[Piece], list[Piece]]:
        """Read two documents side by side, both with the memory of the first."""
        lenders, borrowers = self.model.make_cache(), self._caches(SHUFFLED, len(others), None)
        own, lent = [], []
        reading = self.read(others, borrowers)
        for piece in self.read(tokens, lenders):
            for borrower, lender in zip(borrowers, lenders):
                borrower.memory = lender.memory
            own.append(piece)
            lent.append(next(reading))
        return own, lent

    def _read_with_pages_of(self, others: list[int], tokens: list[int]) -> Iterator[Piece]:
        """Read a document with what another one, of which as much was read, left on disk."""
        with self.caches(RECALL_ALONE, len(others)) as lenders:
            borrowers = [BorrowingCache.of(lender) for lender in lenders]
            reading = self.read(tokens, borrowers)
            for _ in self.read(others, lenders):
                for lender in lenders:
                    lender.recall.flush()
                yield next(reading)


def every_page(recall: Recall) -> Index:
    """An index that knows each page on disk by itself, however many there are: what its bound costs."""
    pages, layer = recall.pages, recall._layer
    there = pages.pages(layer)
    every = np.broadcast_to(np.arange(there), (pages.shape.kv_heads, there))
    moments = mx.array(pages.summaries(layer, every)).reshape(*every.shape, -1)
    index = Index(there + there % 2, pages.shape.page_tokens)
    index.restore(there * pages.shape.page_tokens, moments.astype(mx.float16))
    return index


def mixed(model: nn.Module, layout: Layout, centres: int, retained: int) -> list[EdgeCache]:
    """Empty caches whose memories are so many centres and, beside them, so many tokens as they are."""
    return [
        EdgeCache(layout, RetainedMemory(gate.memory.heads, centres + retained, centres), gate.rotation)
        for gate in memory_gates(model)
    ]


def memory_gates(model: nn.Module) -> list[MemoryGate]:
    """The memory gates of a retrofitted model, by layer."""
    return [layer.self_attn.memory_gate for layer in model.layers]


def tokens_worth(model: nn.Module) -> int:
    """Tokens whose exact keys and values, in the model's own precision, take the bytes of a kv head's memory.

    With it counts what the cache notes for the next fold, one number a token of a segment.
    """
    token, feature = _bytes(model)
    memory = feature * memory_gates(model)[0].memory.features
    return math.ceil((memory + NUMBER_BYTES * model.layout.segment) / token)


def half(model: nn.Module) -> int:
    """Features of a memory that is worth half as many tokens."""
    token, feature = _bytes(model)
    return int((tokens_worth(model) * token / 2 - NUMBER_BYTES * model.layout.segment) // feature)


def _bytes(model: nn.Module) -> tuple[int, int]:
    """Of a token's exact keys and values, and of a feature's state, in one kv head."""
    gate = memory_gates(model)[0]
    size = 2 * gate.rotation.omega.size
    return 2 * size * dtype_of(model).size, NUMBER_BYTES * gate.memory.feature_size(size)


@contextmanager
def features(model: nn.Module, number: int) -> Iterator[None]:
    """Memories of another size in place of a model's own, for a while; gates fit any size."""
    memories = [gate.memory for gate in memory_gates(model)]
    before = memories[0].features
    for memory in memories:
        memory.features = number
    try:
        yield
    finally:
        for memory in memories:
            memory.features = before


@contextmanager
def gates(model: nn.Module, parameters: dict[str, mx.array]) -> Iterator[None]:
    """Other parameters in place of those of a model's gates, for a while."""
    every = dict(tree_flatten(model.parameters()))
    trained = {path: every[path] for path in parameters}
    model.update(tree_unflatten(list(parameters.items())))
    try:
        yield
    finally:
        model.update(tree_unflatten(list(trained.items())))


def tally(pieces: Iterable[Piece], counts: list[int]) -> dict:
    """Sums of the losses of the first counts[0] tokens, the next counts[1], and so on."""
    pieces = list(pieces)
    parts = np.split(np.concatenate([piece.losses for piece in pieces]), np.cumsum(counts)[:-1])
    return {
        "nats": [part.sum() for part in parts],
        "tokens": [part.size for part in parts],
        "seconds": round(sum(piece.seconds for piece in pieces), 1),
    }
