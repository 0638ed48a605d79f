"""EdgeCache: the constant state of one attention layer, in mlx-lm's cache protocol.

    [ sinks | window | segment ]   exact keys and values, at positions 0, 1, 2, ...
    memory                         everything older, in fixed size

Tokens are appended until there is no room; then what stands between the sinks
and the last `window` tokens is folded into memory, and the window slides back
to stand right behind the sinks. So a token is never both exact and in memory,
no distance ever exceeds the exact part, and nothing grows.

A cache starts on the *base path*: until `exact_limit` tokens it is an ordinary
KV cache and the base model runs untouched. What outgrows the limit migrates by
the same fold, once; which of its tokens queries asked for the base model does
not tell, so they are folded as equals.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache

from .memory import Entries, Memory, State
from .recall import Recall
from .rotation import Rotation
from .sources import lengthened
from .watch import Watch, Watched


@dataclass(frozen=True)
class Layout:
    """Sizes in tokens of the exact part of the state."""

    sinks: int = 4
    window: int = 512
    segment: int = 512

    @property
    def capacity(self) -> int:
        """Exact tokens held at most on the memory path."""
        return self.sinks + self.window + self.segment


class EdgeCache:
    """Sinks, window, segment and memory of one layer.

    Follows mlx-lm's cache protocol: `offset`, `update_and_fetch`, `make_mask`,
    `state`, `nbytes`, `is_trimmable`, `trim`, `size`, `empty`.

    Args:
        layout: sizes of the exact part.
        kind: of the layer's memory; None forgets what leaves the window
            (sinks + window alone: StreamingLLM).
        rotation: the layer's rotary embedding.
        exact_limit: tokens up to which the base path runs.
        recall: brings back folded tokens from disk; None for memory alone.

    watch: told what is folded and what the gate lets in, while somebody looks; see `watch.watching`.
    """

    def __init__(
        self, layout: Layout, kind: Memory | None, rotation: Rotation, exact_limit: int = 0,
        recall: Recall | None = None,
    ):  # fmt: skip
        self.layout = layout
        self.local = KVCache()
        self.memory: State = {}
        self.received: mx.array | None = None
        self.folded = 0
        self.exact_limit = exact_limit
        self.recall = recall
        self.watch: Watch | None = None
        self._kind = kind
        self._rotation = rotation
        self._ready: tuple[list, Entries] | None = None

    # -- how attention uses it ------------------------------------------------

    @property
    def offset(self) -> int:
        """Position of the next token: behind the exact tokens, however long the past."""
        return self.local.offset

    @property
    def tokens(self) -> int:
        """All tokens ever read, exact and folded."""
        return self.folded + self.local.offset

    @property
    def recalls(self) -> bool:
        """Whether the next tokens get something back from disk."""
        return self.recall is not None and self.recall.answers

    @property
    def precedence(self) -> float:
        """Nats by which the memory's gate is closed, where exact recall stands beside it."""
        return self.recall.precedence if self.recall and self.recall.holds else 0.0

    def on_base_path(self, length: int) -> bool:
        """True while `length` more tokens leave the base model's own attention untouched."""
        return self.folded == 0 and self.offset + length <= self.exact_limit

    @property
    def capacity(self) -> int:
        """Exact tokens held at most before the next fold."""
        return self.layout.capacity if self.folded else max(self.exact_limit, self.layout.capacity)

    def room(self) -> int:
        """Tokens that fit before the next fold."""
        return self.capacity - self.offset

    def make_room(self) -> None:
        """Fold everything between the sinks and the window, a segment at a time."""
        layout, local = self.layout, self.local
        keys, values = local.keys_and_values()
        start, stop = layout.sinks, local.offset - layout.window
        for at in range(start, stop, layout.segment):
            part = slice(at, min(at + layout.segment, stop))
            self._fold(keys[:, :, part], values[:, :, part], at)
        shifted = self._rotation.shift(keys[:, :, stop:], start - stop)
        local.keys = mx.concatenate([keys[:, :, :start], shifted], axis=2)
        local.values = mx.concatenate([values[:, :, :start], values[:, :, stop:]], axis=2)
        local.offset = layout.sinks + layout.window
        self.received = None
        self.folded += stop - start

    def note(self, received: mx.array) -> None:
        """Add up the attention (B, G, N) that those tokens received which the next fold will take.

        Counted from fold to fold: with a window of at least a segment, all of them had the same
        queries to ask for them, but for the first fold, whose later tokens had fewer.
        """
        if self.capacity > self.layout.capacity:
            return
        next_fold = self.layout.sinks + self.layout.segment
        received = received[:, :, self.layout.sinks : next_fold]
        if self.received is not None:
            received = received + lengthened(self.received, received.shape[2])
        self.received = received

    def entries(self, kind: Memory, written: bool) -> Entries | None:
        """The memory, as a kind of memory reads it; None before the first fold.

        written: tokens are written one by one, for all of which up to the next fold it is worked out once.
        """
        if not (self.memory and written):
            self._ready = None
            return kind.entries(self.memory) if self.memory else None
        # Gates may be swapped in between, or a state put in.
        made_of = [self.memory, *kind.values()]
        if self._ready is None or any(old is not new for old, new in zip(self._ready[0], made_of)):
            self._ready = made_of, kind.entries(self.memory)
        return self._ready[1]

    @property
    def pending(self) -> list[mx.array]:
        """What was noted and folded for later segments: this one's output may need none of it."""
        noted = [] if self.received is None else [self.received]
        return [*noted, *self.memory.values(), *(self.watch.pending if self.watch else ())]

    def _fold(self, keys: mx.array, values: mx.array, position: int) -> None:
        bare = self._rotation.remove(keys, position)
        if self.recall:
            if len(keys) > 1:
                raise ValueError("Recall serves one text at a time: read several without pages.")
            self.recall.append(bare, values)
        if self._kind is not None:
            state = self.memory or self._kind.empty(keys.shape[0])
            received = mx.ones(keys.shape[:3]) if self.received is None else self.received
            if self.watch and self.memory:
                self.watch.folding(self._kind, state, bare, values, self.folded + position)
            self.memory = self._kind.write(state, bare, values, received)

    # -- mlx-lm's cache protocol ----------------------------------------------

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append rotated keys and values (B, G, L, d); return all exact ones (B, G, N, d)."""
        return self.local.update_and_fetch(keys, values)

    def make_mask(self, *args, **kwargs):
        return self.local.make_mask(*args, **kwargs)

    @property
    def state(self) -> list:
        """Everything that changes while reading, as one tree."""
        return [self.local.keys, self.local.values, self.local.offset,
                self.received, self.folded, self.exact_limit, self.memory]  # fmt: skip

    @state.setter
    def state(self, tree: list) -> None:
        (self.local.keys, self.local.values, self.local.offset,
         self.received, self.folded, self.exact_limit, self.memory) = tree  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of the state, of the index of what is on disk, and of what is held to write tokens."""
        held = [self._ready[1] if self._ready else (), self.recall.arrays if self.recall else ()]
        arrays = (part for _, part in tree_flatten([self.state, held]) if isinstance(part, mx.array))
        return sum({id(part): part.nbytes for part in arrays}.values())

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.local.empty()

    def is_trimmable(self) -> bool:
        """Folded tokens cannot be taken back."""
        return self.folded == 0

    def trim(self, n: int) -> int:
        trimmed = self.local.trim(n)
        if self.received is not None:
            self.received = self.received[:, :, : max(self.offset - self.layout.sinks, 0)]
        return trimmed

    # -- forking ----------------------------------------------------------------

    def __deepcopy__(self, memo: dict) -> EdgeCache:
        """An independent continuation from here: neither side sees the other's later tokens."""
        twin = copy.copy(self)
        twin.local = copy.copy(self.local)
        if not self.empty():
            # An assignment to a slice changes the array object itself, so each side needs its own.
            twin.local.keys = mx.array(self.local.keys)
            twin.local.values = mx.array(self.local.values)
        twin.recall = copy.deepcopy(self.recall, memo)
        twin.watch = None
        return twin


class ExactCache(EdgeCache):
    """Keeps everything, and reads it through `attend`: full attention, fast on the CPU too."""

    @classmethod
    def like(cls, cache: EdgeCache, length: int) -> ExactCache:
        """For `length` tokens, in place of another cache of its layer."""
        return cls(cache.layout, None, cache._rotation, length)

    def on_base_path(self, length: int) -> bool:
        return False

    def note(self, received: mx.array) -> None:
        """Nothing will be folded."""


def forked(
    cache: list[EdgeCache], causal: bool = False, named: np.ndarray | None = None
) -> list[EdgeCache]:
    """An independent continuation of all layers, to be asked: what it reads is looked up on disk.

    The layers share one fork of the pages there.

    Args:
        causal: what is read is to be predicted, so what comes back must not depend on what follows.
        named: pages on disk that come back first (see `recall.lexicon`), half at most; None: as in `cache`.
    """
    twins = copy.deepcopy(cache)
    for recall in (twin.recall for twin in twins if twin.recall):
        recall.asking, recall.causal = True, causal
        if named is not None:
            recall.named = named
    return twins


def state_bytes(cache: list[EdgeCache]) -> int:
    """Bytes of the state of all layers."""
    return sum(layer.nbytes for layer in cache)


@contextmanager
def watching(cache: list[EdgeCache]) -> Iterator[Watched]:
    """Entered while a text (a batch of one) is read into these caches."""
    layers = [Watch() for _ in cache]
    for layer, watch in zip(cache, layers):
        layer.watch = watch
    try:
        yield Watched(layers)
    finally:
        for layer in cache:
            layer.watch = None
