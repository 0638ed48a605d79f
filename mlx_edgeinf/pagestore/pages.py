"""Pages of keys and values of all layers, on top of two record files.

What is appended is cut into pages. The last tokens of a layer, fewer than a
page, wait in memory: they are attended to like any others (`waiting`), and
nothing on disk is ever written twice.

A fork has files of its own, temporary ones that die with it, for what comes
after the fork, and reads what came before from where it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..wording import size
from .errors import DiskFull, NoSuchPage, QuotaExceeded, StoreError
from .precision import to_float, to_half
from .records import STRIPE, RecordFile
from .shape import StoreShape

# Left free on the disk for everything else on the machine.
SPARE_BYTES = 10**9

# What the pages of a conversation, a fork, may take: tens of thousands of tokens.
TALK_BYTES = 4 << 30

# Of the keys (G, n, P, d), float32, of n pages: their summaries (G, n, rows, d).
Summarize = Callable[[np.ndarray], np.ndarray]


class Pages:
    """Keys and values of evicted tokens, in pages, for every layer and kv head.

    G kv heads, P tokens per page, d head size. Appends come from one thread at
    a time; reads from any.

    Attributes:
        shape: what is held.
        quota_bytes: that the files of this object may take.
        lasting: whether these files are there when nobody has them open; a fork's end with it.
        trouble: what the latest fork could not do, though these files are sound.
    """

    lasting = False

    def __init__(
        self, folder: Path, shape: StoreShape, files: list[RecordFile], quota_bytes: int,
        summarize: Summarize, base: Pages | None = None,
    ):  # fmt: skip
        self.shape, self.quota_bytes = shape, quota_bytes
        self._folder, self._files, self._summarize, self._base = folder, files, summarize, base
        self._failure: StoreError | None = None
        self.trouble: StoreError | None = None
        layers = range(shape.layers)
        self._first = [base.pages(layer) if base else 0 for layer in layers]
        self._pages = list(self._first)
        empty = np.zeros((2, shape.kv_heads, 0, shape.head_dim), np.float16)
        self._waiting = [base._waiting[layer] if base else empty for layer in layers]

    @property
    def failure(self) -> StoreError | None:
        """Why nothing is recalled any more, in any layer, from here and its forks."""
        return self._failure or (self._base.failure if self._base else None)

    @failure.setter
    def failure(self, error: StoreError) -> None:
        self._failure = self._failure or error
        base = self._base
        while base:
            base.trouble, base = self._failure, base._base

    # -- how much there is ------------------------------------------------------

    def pages(self, layer: int) -> int:
        """Complete pages of a layer: the ones that can be read."""
        return self._pages[layer]

    @property
    def tokens(self) -> int:
        """Tokens that all layers hold, in pages or waiting."""
        return min(map(self._tokens, range(self.shape.layers)))

    @property
    def bytes_used(self) -> int:
        """Bytes that the files of this object take, without what a fork reads from where it was."""
        return self._bytes(max(pages - first for pages, first in zip(self._pages, self._first)))

    def forecast(self, tokens: int) -> int:
        """Bytes that a document of so many evicted tokens takes in the end."""
        return self._bytes(tokens // self.shape.page_tokens)

    # -- writing ----------------------------------------------------------------

    def append(self, layer: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Add the next T tokens of a layer: keys and values (G, T, d), any floats.

        After an error nothing of them is there, and the same append may be tried again.

        Raises:
            QuotaExceeded, DiskFull: there is no room for them.
            StoreError: the files cannot be written, or were deleted or replaced.
            Unstorable: they are not finite in half precision.
            ValueError: they are not of this store's shape.
        """
        shape, page = self.shape, self.shape.page_tokens
        if keys.shape != values.shape or keys.shape[::2] != (shape.kv_heads, shape.head_dim):
            raise ValueError(f"Keys {keys.shape} and values {values.shape} are not those of {shape}.")
        tokens = np.concatenate([self._waiting[layer], np.stack([to_half(keys), to_half(values)])], axis=2)
        count = tokens.shape[2] // page
        if count:
            whole = tokens[:, :, : count * page].reshape(2, shape.kv_heads, count, page, shape.head_dim)
            self._make_room(self._pages[layer] - self._first[layer] + count)
            self._write(layer, *whole)
            self._pages[layer] += count
        self._waiting[layer] = tokens[:, :, count * page :].copy()

    def fork(self, quota_bytes: int) -> Pages:
        """An independent continuation from here, whose appends go to temporary files and end with it.

        What is appended here later, the fork does not see.

        Raises:
            StoreError: temporary files cannot be made.
        """
        try:
            files = [tempfile.TemporaryFile(dir=self._folder, buffering=0) for _ in self._files]
        except OSError as error:
            raise StoreError(
                f"No temporary file could be made in {self._folder} ({error.strerror or error}): "
                "ask without recall."
            ) from error
        records = record_files(self.shape, [self._folder / "temporary pages"] * len(files), files, seed=0)
        return Pages(self._folder, self.shape, records, quota_bytes, self._summarize, base=self)

    def __deepcopy__(self, _: dict) -> Pages:
        """A fork for a conversation; for all layers of a cache one, which `copy.deepcopy` sees to.

        Where none can be made, one that has failed: the memory answers alone.
        """
        if self.failure:
            # Nobody asks these any more.
            return self
        self.trouble = None
        try:
            return self.fork(TALK_BYTES)
        except StoreError as error:
            fork = Pages(self._folder, self.shape, [], 0, self._summarize, base=self)
            fork.failure = error
            return fork

    # -- reading ----------------------------------------------------------------

    def waiting(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values (G, w, d), float32, of the last tokens, w < P, that fill no page yet."""
        keys, values = self._waiting[layer]
        return to_float(keys, np.float32), to_float(values, np.float32)

    def gather(
        self, layer: int, pages: np.ndarray, dtype: type = np.float32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values (G, k*P, d) of k pages (G, k) for each kv head, in the order asked for.

        Raises:
            NoSuchPage: one of them is not there.
            StoreDamaged: one of them is not what was written.
        """
        heads = np.repeat(np.arange(self.shape.kv_heads), pages.shape[1])
        keys, values = self.shape.codec.decode(self._read(0, layer, heads, pages.ravel()), dtype)
        flat = (self.shape.kv_heads, -1, self.shape.head_dim)
        return keys.reshape(flat), values.reshape(flat)

    def summaries(self, layer: int, pages: np.ndarray) -> np.ndarray:
        """Summaries (G, n, rows, d), float32, of n pages (G, n) for each kv head.

        Raises:
            NoSuchPage, StoreDamaged: as `gather`.
        """
        shape, heads = self.shape, self.shape.kv_heads
        rows = self._read(1, layer, np.repeat(np.arange(heads), pages.shape[1]), pages.ravel())
        summaries = np.ascontiguousarray(rows).view(np.float16)
        return to_float(summaries, np.float32).reshape(heads, -1, shape.summary_rows, shape.head_dim)

    # -- inside -----------------------------------------------------------------

    def _tokens(self, layer: int) -> int:
        return self._pages[layer] * self.shape.page_tokens + self._waiting[layer].shape[2]

    def _bytes(self, pages: int) -> int:
        # A stripe is taken for all layers at once: what fits for the first layer fits for the last.
        return -(-pages // STRIPE) * sum(file.stripe_bytes for file in self._files)

    def _make_room(self, pages: int) -> None:
        """Raise unless the quota and the disk have room for so many pages."""
        used, needed = self.bytes_used, self._bytes(pages)
        if needed > self.quota_bytes:
            raise QuotaExceeded(
                f"The pages in {self._folder} take {size(used)}, the next ones {size(needed - used)} more, "
                f"and {size(self.quota_bytes)} are allowed: allow more, or go on without recall."
            )
        if needed > used and (free := self._files[0].free) < needed - used + SPARE_BYTES:
            raise DiskFull(
                f"The disk of {self._folder} has {size(free)} free, the next pages take "
                f"{size(needed - used)} and {size(SPARE_BYTES)} are left for other programs: "
                "free space there, or go on without recall."
            )

    def _write(self, layer: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Write whole pages (G, n, P, d) behind the last one."""
        page = self._pages[layer] - self._first[layer]
        made = to_half(self._summarize(to_float(keys, np.float32)))
        shape = (*keys.shape[:2], self.shape.summary_rows, self.shape.head_dim)
        if made.shape != shape:
            raise ValueError(f"Summaries of shape {made.shape} were made where {shape} were expected.")
        summaries = np.ascontiguousarray(made).reshape(*keys.shape[:2], -1).view(np.uint8)
        for file, payload in zip(self._files, (self.shape.codec.encode(keys, values), summaries)):
            file.write(layer, page, payload)

    def _read(self, kind: int, layer: int, heads: np.ndarray, pages: np.ndarray) -> np.ndarray:
        """Payloads (n, bytes) of keys and values (kind 0) or summaries (kind 1), verified."""
        if len(pages) and not 0 <= pages.min() <= pages.max() < self.pages(layer):
            raise NoSuchPage(
                f"Page {pages.min() if pages.min() < 0 else pages.max()} of layer {layer} was asked for, "
                f"and {self._folder} holds {self.pages(layer)}: ask for pages from 0 on."
            )
        first = self._first[layer]
        below = pages < first
        if not below.any():
            return self._files[kind].read(layer, heads, pages - first)
        read = partial(self._read_base, kind, layer)
        if below.all():
            return read(heads, pages)
        payloads = np.empty((len(pages), self._files[kind].payload), np.uint8)
        payloads[below] = read(heads[below], pages[below])
        payloads[~below] = self._files[kind].read(layer, heads[~below], pages[~below] - first)
        return payloads

    def _read_base(self, kind: int, layer: int, heads: np.ndarray, pages: np.ndarray) -> np.ndarray:
        """As `_read`, from before the fork; what is wrong there is wrong for everybody."""
        try:
            return self._base._read(kind, layer, heads, pages)
        except StoreError as error:
            self._base.failure = error
            raise


def record_files(
    shape: StoreShape, paths: list[Path], files: list[BinaryIO], seed: int
) -> list[RecordFile]:
    """Open files as those of keys and values, and of summaries."""
    sizes = [shape.codec.nbytes, shape.summary_bytes]
    return [
        RecordFile(file, path, shape.layers, shape.kv_heads, size, seed)
        for file, path, size in zip(files, paths, sizes)
    ]
