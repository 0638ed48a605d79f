"""Exact recall: evicted tokens that come back from disk for the queries that want them.

For each block of queries and each kv head, the pages that a question names and those to which the queries
would attend most (`finding`) are read back and attended exactly. Where a text is to be predicted, the first
of the block and some before it speak for it, because it must not know what comes after it. Recalled tokens
are placed right before the window, the best named page last (the sinks stay where they are, among them): at
their true distances a long past would run out of positions that the model knows.

While a document is read its tokens go to disk and nothing comes back: it is read nearly as fast as without,
and what comes back is for the text that follows, a question and its answer, read into a fork. With
memory off, or to measure what recall adds to running text, it can come back throughout.

It is one more exact source, so it joins the local one by its mass; what is recalled is taken
out of the memory, so that nothing counts twice. The memory gives way to it, from the first segment on.

Everything recalled is in the memory too, so a disk that fails ends the recall and not the reading:
the pages note why, and from then on no layer asks them.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..memory import Entries
from ..pagestore.errors import StoreError
from ..pagestore.pages import Pages
from ..rotation import Rotation
from ..sources import Source, attend_to_all, in_a_row, in_batch
from .finding import Finder
from .index import Index

# Of a page: the mean and the deviation of its keys.
SUMMARY_ROWS = 2
# Queries that recall the same: neighbours want the same, and choosing for each would read too much.
# As many queries up to its first choose for a block. Share of the gap that 512 tokens without memory
# close over tokens 1,024 to 4,095 of Emma (chosen by four means of each page): 0.95; chosen by each
# fourth of them 0.94, but then invented facts lost 0.3 nats; by the first alone 0.75; with blocks of
# 32, 0.91.
BLOCK = 16
# Of a question, whose tokens nobody predicts, more of them choose together, for themselves: three facts of
# 8k tokens asked for at once got -1.38 nats a token with either, and 465 tokens were read in 18 s, not 29.
QUESTION_BLOCK = 64
# Tokens that come back for a block, at most half of them named. What else comes back takes attention from
# what was asked for: of twenty facts in 32k tokens, the numbers got -0.58, -0.75, -1.02 and -1.26 nats a
# token with 512, 1,024, 2,048 and 4,096, 512 of them named. Where nothing is asked for by name it helps:
# four answers about one story (SQuALITY) got -3.32 without recall, and with nothing named -3.21, -3.19 and
# -3.17 with 1,024, 2,048 and 4,096.
ASKED = 1024
# The same throughout a text: what `evaluate` compares with the memory.
THROUGHOUT = 512
# Tokens that come back for all blocks worked on at once: no more of them are held.
TOGETHER = 1 << 14
# Of recall over the memory, whose gates were tuned without it: nats taken off logit g. Answers of one to
# three documents got, with 0, 1, 2 and 3 where they were asked: invented facts -1.72, -1.57, -1.50 and (one
# document) -1.25 after -1.28; facts gathered -2.74, -2.59, -2.55, -2.55; lines of a register -2.61, -2.52,
# -2.52, -2.55; about a story -3.215, -3.196, -3.200; about all of a meeting -3.66 with 0 and -3.68 with 2.
# While a text is read as well: twenty facts of 8k tokens got -0.46 with 0 (12 exact) and -0.34 with 2 (17);
# answers about six stories -3.180 and -3.192. Throughout a text it is 0, where the memory does more.
PRECEDENCE = 2.0
# Entries of the index of each kv head at most: beyond as many pages, neighbours share one.
RUNS = 2048

# The memory less keys and values (1, G, T, d), for each block those where taken (n, G, T) is 1.
Without = Callable[[mx.array, mx.array, mx.array], Entries | None]


class Recalled(NamedTuple):
    """What recalled tokens answer to n blocks of queries, and what the memory holds besides them."""

    source: Source
    entries: Entries | None


class Brought(NamedTuple):
    """Tokens that came back for n blocks, placed: keys, values (n, G, R, d); and the memory without them."""

    keys: mx.array
    values: mx.array
    entries: Entries | None


class Recall:
    """The evicted tokens of one layer: their pages on disk, and the index to find them by.

    Args:
        pages: of all layers. layer: which one this is. rotation, scale: of its attention.
        window_start: position behind the last recalled token, where the window begins.
        tokens: most that come back for a block of queries, beside those that fill no page yet.
        throughout: whether anything comes back while a text is read, through the gates of recall.
        dtype: in which what came back is held, the model's.

    Attributes:
        block: queries that recall the same, chosen by as many up to the first of them.
        asking: whether anything comes back now.
        causal: whether a block of several queries may not choose by all of them.
        named: pages (m,) that come back first, the best first; half of all at most.
        precedence: nats by which the memory's gate is closed, while a text is read and where it is asked.
        index: of the evicted tokens. chosen: pages (n, G, k) that came back last.
        consulted: how often each page came back, since the fork.
    """

    block = BLOCK

    def __init__(
        self, pages: Pages, layer: int, rotation: Rotation, scale: float, window_start: int,
        tokens: int = ASKED, throughout: bool = False, dtype: mx.Dtype = mx.float32,
    ):  # fmt: skip
        self.pages, self._layer, self._dtype = pages, layer, dtype
        self._rotation, self._scale, self._window_start, self._tokens = rotation, scale, window_start, tokens
        self._held: Brought | None = None
        self._uses = 0
        # Keys and values (G, T, d) that are to be kept, float32.
        self._leaving: tuple[mx.array, mx.array] | None = None
        self.throughout = self.asking = throughout
        self.causal, self.named = True, np.zeros(0, int)
        self.precedence = 0.0 if throughout else PRECEDENCE
        # The latest queries and their log masses, side by side: (H, block - 1, d + 1).
        self._asked: mx.array | None = None
        self.index = Index(RUNS, self._page)
        self.chosen: np.ndarray | None = None
        self.consulted: Counter[int] = Counter()

    @property
    def _page(self) -> int:
        return self.pages.shape.page_tokens

    def first_token(self, page: int) -> int:
        """Where in the text a page begins: the sinks never leave the window, so pages begin behind them."""
        return self._window_start + page * self._page

    @property
    def answers(self) -> bool:
        """Whether the next tokens get anything back."""
        return self.asking and self.holds

    @property
    def holds(self) -> bool:
        """Whether anything is on disk, or waiting for it, and the disk has not failed."""
        return (self.index.tokens > 0 or self._leaving is not None) and not self.failed

    @property
    def failed(self) -> bool:
        """Whether the pages could not be read or written, so that nothing is recalled any more."""
        return self.pages.failure is not None

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Take tokens (1, G, T, d) that leave the window, keys without position; `flush` puts them down."""
        self.flush()
        # Begun now: behind the segment that pushes them out, they would be waited for as long as for that.
        self._leaving = keys[0].astype(mx.float32), values[0].astype(mx.float32)
        mx.async_eval(self._leaving)

    def flush(self) -> None:
        """Put on disk what has left the window.

        At the latest when something is asked; but while the GPU computes the next segment is a good time.
        """
        if self._leaving is None:
            return
        (keys, values), self._leaving = self._leaving, None
        if self.failed:
            return
        try:
            self.pages.append(self._layer, np.array(keys), np.array(values))
        except StoreError as error:
            self.pages.failure = error
            return
        self.index.add(keys)
        # Now, or it would keep the keys of every segment until something is asked.
        mx.async_eval(self.index.moments)
        self._uses = 0

    def in_blocks(self, *parts: mx.array) -> Iterator[tuple[mx.array, ...]]:
        """Parts (1, H, L, d) of L queries as blocks (n, H, B, d), then what fills no block.

        So many blocks at once that what comes back for all of them is TOGETHER tokens at most.
        """
        block = self.block if self.causal else QUESTION_BLOCK
        length, most = parts[0].shape[2], block * max(TOGETHER // self._tokens, 1)
        whole = length - length % block
        for start in range(0, whole, most):
            stop = min(start + most, whole)
            yield tuple(in_batch(part[:, :, start:stop], (stop - start) // block) for part in parts)
        if whole < length:
            yield tuple(part[:, :, whole:] for part in parts)

    def read(self, queries: mx.array, log_mass: mx.array, without: Without) -> Recalled | None:
        """Bring back what blocks of queries (n, H, L, d), with their position, ask for, and answer them.

        log_mass (n, H, L): of what they attend to besides. None where the pages fail.
        """
        self.flush()
        if self.failed:
            return None
        try:
            latest = self._latest(queries, log_mass)
            brought = self._reused_or_fetched(*latest, queries.shape[2] == 1, without)
        except StoreError as error:
            self.pages.failure = error
            return None
        source = attend_to_all(queries, brought.keys, brought.values, self._scale)
        return Recalled(source._replace(output=source.output.astype(queries.dtype)), brought.entries)

    def _latest(self, queries: mx.array, log_mass: mx.array) -> tuple[mx.array, mx.array]:
        """Those that choose for each block of queries (n, H, L, d): these, or the latest up to its first."""
        n, _, length, _ = queries.shape
        packed = mx.concatenate([queries.astype(mx.float32), log_mass[..., None]], axis=-1)
        row = in_a_row(packed)[0]
        before = mx.repeat(row[:, :1], self.block - 1, axis=1) if self._asked is None else self._asked
        row = mx.concatenate([before, row], axis=1)
        self._asked = mx.contiguous(row[:, row.shape[1] + 1 - self.block :])
        if length > 1 or self._uses % self.block == 0:
            # Now, or it would keep all queries of the segment, or of every token written. Pages are chosen
            # by them next, so they are waited for anyway; as numbers, no gradient goes through them.
            self._asked = mx.array(np.array(self._asked))
        if length > 1 and not self.causal:
            return queries.astype(mx.float32), log_mass
        latest = row[:, length * mx.arange(n)[:, None] + mx.arange(self.block)].swapaxes(0, 1)
        return latest[..., :-1], latest[..., -1]

    def _reused_or_fetched(
        self, queries: mx.array, log_mass: mx.array, written: bool, without: Without
    ) -> Brought:
        """What these queries choose; while tokens are written one by one, the same for a block of them."""
        if not written:
            self._held, self._uses = None, 0
            return self._choose_and_fetch(queries, log_mass, without)
        if self._uses % self.block == 0:
            self._held = self._choose_and_fetch(queries, log_mass, without)
        self._uses += 1
        return self._held

    def _choose_and_fetch(self, queries: mx.array, log_mass: mx.array, without: Without) -> Brought:
        """Choose pages, note them, and fetch what is on them."""
        self.chosen = self._choose(queries, log_mass)
        self.consulted.update(self.chosen.ravel().tolist())
        return self._fetch(self.chosen, without)

    def _choose(self, queries: mx.array, log_mass: mx.array) -> np.ndarray:
        """Pages (n, G, k), in the order in which they are placed, for blocks of queries (n, H, L, d)."""
        finder = Finder(self.pages, self._layer, self.index, self._scale)
        wanted = self._tokens // self._page
        return finder.find(self._aimed(queries), log_mass, wanted, self.named, self.causal)

    def _aimed(self, queries: mx.array) -> mx.array:
        """Queries turned so that they meet bare keys as if these were where they would be placed."""
        middle = self._window_start - self._tokens / 2
        return self._rotation.turn(queries, -middle * self._rotation.omega)

    def _fetch(self, chosen: np.ndarray, without: Without) -> Brought:
        """What is on pages (n, G, k), and behind it the tokens that fill no page."""
        blocks, heads, _ = chosen.shape
        distinct = [np.unique(chosen[:, head]) for head in range(heads)]
        most = max(map(len, distinct))
        # Neighbouring blocks want much the same: a page is read once. Heads with fewer read some again.
        read = self.pages.gather(self._layer, np.stack([np.resize(pages, most) for pages in distinct]))
        picks = np.stack([np.searchsorted(distinct[head], chosen[:, head]) for head in range(heads)], axis=1)
        waiting = self.pages.waiting(self._layer)
        taken = np.zeros((blocks, heads, most), np.float32)
        np.put_along_axis(taken, picks, 1, axis=2)
        taken = np.pad(taken.repeat(self._page, axis=2), [(0, 0), (0, 0), (0, waiting[0].shape[1])],
                       constant_values=1)  # fmt: skip
        keys, values = (mx.array(np.concatenate(part, axis=1)) for part in zip(read, waiting))
        entries, picks = without(keys[None], values[None], mx.array(taken)), mx.array(picks)
        placed, spread = self._rotated(keys, picks), self._for_each_block(values, picks)
        return Brought(placed.astype(self._dtype), spread.astype(self._dtype), entries)

    def _rotated(self, keys: mx.array, picks: mx.array) -> mx.array:
        """Of keys (G, T, d) those of each block, (n, G, R, d), turned to stand right before the window."""
        own, across = (self._for_each_block(each, picks) for each in (keys, self._rotation.across(keys)))
        positions = self._positions(own.shape[2])
        return self._rotation.between(own, across, positions[..., None] * self._rotation.omega)

    def _positions(self, recalled: int) -> mx.array:
        """Where recalled tokens stand: (R,), the same for all blocks and heads."""
        return mx.arange(self._window_start - recalled, self._window_start)

    def _for_each_block(self, tokens: mx.array, picks: mx.array) -> mx.array:
        """Of tokens (G, m * P + w, d) the pages at picks (n, G, k), and the last w, for each block."""
        (blocks, heads, _), size = picks.shape, tokens.shape[-1]
        whole = tokens.shape[1] - tokens.shape[1] % self._page
        pages = tokens[:, :whole].reshape(heads, -1, self._page, size)
        chosen = pages[mx.arange(heads)[:, None], picks].reshape(blocks, heads, -1, size)
        last = mx.broadcast_to(tokens[:, whole:], (blocks, heads, tokens.shape[1] - whole, size))
        return mx.concatenate([chosen, last], axis=2)

    @property
    def arrays(self) -> list:
        """The index, and what is held while an answer is written."""
        return [self.index.moments, self._held]

    def __deepcopy__(self, memo: dict) -> Recall:
        """An independent continuation from here, on a fork of the pages; both keep what is leaving."""
        twin = copy.copy(self)
        twin.pages, twin.index = copy.deepcopy(self.pages, memo), self.index.fork()
        twin.consulted = Counter()
        return twin


def summarize(keys: np.ndarray) -> np.ndarray:
    """Mean and deviation (G, n, 2, d) of the keys of pages (G, n, P, d), for the page store."""
    return np.stack([keys.mean(axis=2), keys.std(axis=2)], axis=2)
