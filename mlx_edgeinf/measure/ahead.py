"""What reading pages a layer ahead would bring: while one layer computes, those of the next are fetched.

InfiniGen (arXiv 2406.19707) estimates them from the input of the layer below: what that layer's attention
reads goes through the next layer's query projection as well, and those queries choose pages. Here a text is
read with recall throughout, both choices are made, and the estimate has hits where the layer then chooses
the same. It is given the mass of what is attended to besides, which in earnest would be estimated too. The
other estimate is free: the pages that the layer below has chosen itself, for any of its heads.

What could be saved is the time that reading waits for pages; what it would cost, that of the estimate.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..adapter import untrained_recall
from ..basemodel import dtype_of
from ..cache import EdgeCache
from ..pagestore import PageStore
from ..recall import THROUGHOUT, Recall
from ..recall.recall import Recalled, Without
from ..sources import in_batch
from ..training.recalling import temporary_pages
from ..wording import counted
from .gap import check_finished
from .readings import Reader, gates
from .results import Results, described
from .tables import markdown, with_interval
from .work import Entries, measure_missing

CACHED, COLD = DISKS = "in the system's cache", "on a cold disk"


@dataclass
class Tally:
    """Of one reading: shares of what layers chose, a number for each layer and segment; seconds; bytes."""

    hits: list[float] = field(default_factory=list)
    below: list[float] = field(default_factory=list)
    read_below: list[float] = field(default_factory=list)
    estimating: float = 0.0
    waiting: float = 0.0
    bytes: int = 0


class Tap(nn.Module):
    """Notes what a layer's attention is given."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self._norm, self.latest = norm, None

    def __call__(self, x: mx.array) -> mx.array:
        self.latest = self._norm(x)
        return self.latest


class Ahead(Recall):
    """Recall of one layer that is estimated from the layer below as well, and compared."""

    _tally: Tally | None = None

    def watch(self, below: Ahead, tap: Tap, attention: nn.Module, cache: EdgeCache, tally: Tally) -> None:
        """Begin: with the recall and the input of the layer below, and what estimates from it."""
        self._below, self._tap, self._attention = below, tap, attention
        self._cache, self._tally = cache, tally
        self._asked_ahead: mx.array | None = None
        # Of the segment that is being read: its input below, and the queries of that which are not used yet.
        self._given: mx.array | None = None
        self._left: mx.array | None = None

    def read(self, queries: mx.array, log_mass: mx.array, without: Without) -> Recalled | None:
        recalled = super().read(queries, log_mass, without)
        if self._tally and recalled:
            began = time.perf_counter()
            ahead = self._estimate(*queries.shape[::2], log_mass)
            self._tally.estimating += time.perf_counter() - began
            if self.chosen.shape[2] < self.pages.pages(self._layer):
                self._compare(ahead)
        return recalled

    def _estimate(self, blocks: int, length: int, log_mass: mx.array) -> np.ndarray:
        """Pages (n, G, k) for the next n blocks of so many queries, from the input of the layer below."""
        if self._given is not self._tap.latest:
            self._given = self._tap.latest
            bare, *_ = self._attention._project(self._given)
            self._left = self._attention.rope(bare, offset=self._cache.offset - bare.shape[2])
        queries, self._left = mx.split(self._left, [blocks * length], axis=2)
        own, self._asked = self._asked, self._asked_ahead
        speaking = self._latest(in_batch(queries, blocks), log_mass)
        self._asked_ahead, self._asked = self._asked, own
        return self._choose(*speaking)

    def _compare(self, ahead: np.ndarray) -> None:
        blocks, _, wanted = self.chosen.shape
        self._tally.hits.append(shared(self.chosen, ahead))
        # For any of its heads: so each head of this layer would have all of them read.
        any_head = [np.unique(pages) for pages in self._below.chosen]
        found = [np.isin(pages, some).mean() for pages, some in zip(self.chosen, any_head)]
        self._tally.below.append(float(np.mean(found)))
        self._tally.read_below.append(sum(map(len, any_head)) / (blocks * wanted))


def shared(chosen: np.ndarray, ahead: np.ndarray) -> float:
    """Share of the pages (n, G, k), each once for a block and head, that are among others (n, G, k)."""
    return float((chosen[..., None] == ahead[..., None, :]).any(axis=-1).mean())


def measure_ahead(reader: Reader, results: Results) -> None:
    """Read the reader's documents, once with pages in the system's cache and once from a cold disk.

    What comes back has its share by its mass: the estimates are asked, not the gates.
    """

    def measure(name: str, disk: str) -> Entries:
        tally, began = Tally(), time.perf_counter()
        with (
            gates(reader.model, untrained_recall(reader.model)),
            temporary_pages(reader.model) as pages,
            _watched(reader, pages, tally) as caches,
        ):
            for _ in reader.read(reader.documents[name], caches):
                if disk == COLD:
                    _forget(pages)
        means = {key: float(np.mean(getattr(tally, key))) for key in ("hits", "below", "read_below")}
        spent = {"seconds": time.perf_counter() - began, "waiting": tally.waiting, "bytes": tally.bytes}
        return {(name, disk): means | spent | {"estimating": tally.estimating}}

    def told(name: str, disk: str) -> str:
        return f"{name}, {disk}: {results.entries[name][disk]['hits']:.2f} of the pages were estimated"

    measure_missing(results, list(product(reader.documents, _disks())), {}, measure, told)


def summary(results: Results) -> str:
    """Markdown: how good both estimates are, what there is to save, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    documents = results.setup["documents"]
    disks = [disk for disk in DISKS if results.common(documents) & {disk}]
    check_finished(results, product(documents, disks or DISKS))

    def of(key: str, disk: str = CACHED) -> np.ndarray:
        return np.array([results.entries[name][disk][key] for name in documents])

    hits = [["pages of a layer estimated by", "of those it chooses", "read for each chosen"]]
    hits += [["its queries of the input of the layer below", with_interval(of("hits"), 2), "1.00"]]
    hits += [["what the layer below chose for any head", *(with_interval(of(key), 2)
                                                           for key in ("below", "read_below"))]]  # fmt: skip
    waits = [["pages are", "reading, s", "of it waiting for pages", "estimating ahead", "pages, MB"]]
    for disk in disks:
        # The estimate is no part of a reading as it is.
        seconds = of("seconds", disk) - of("estimating", disk)
        shares = (f"{(of(key, disk) / seconds).mean():.3f}" for key in ("waiting", "estimating"))
        waits.append([disk, f"{seconds.mean():.0f}", *shares, f"{of('bytes', disk).mean() / 1e6:,.0f}"])
    title = f"{counted(len(documents), 'document')}:"
    return "\n\n".join([title, markdown(hits), markdown(waits), described(results.setup)])


def _disks() -> tuple[str, ...]:
    """As far as the system can be told to forget what it has read."""
    return DISKS if hasattr(os, "posix_fadvise") else (CACHED,)


@contextmanager
def _watched(reader: Reader, pages: PageStore, tally: Tally) -> Iterator[list[EdgeCache]]:
    """Caches that recall throughout, and tell the tally; the layers' norms are tapped meanwhile."""
    layers, caches = reader.model.layers, []
    for number, layer in enumerate(layers):
        gate, scale = layer.self_attn.memory_gate, layer.self_attn.scale
        recall = Ahead(
            pages, number, gate.rotation, scale, reader.model.layout.sinks, THROUGHOUT, throughout=True,
            dtype=dtype_of(reader.model),
        )  # fmt: skip
        caches.append(EdgeCache(reader.model.layout, gate.memory, gate.rotation, recall=recall))
    norms = [layer.input_layernorm for layer in layers]
    taps = [Tap(norm) for norm in norms]
    for below, above, tap, layer in zip(caches, caches[1:], taps, layers[1:]):
        above.recall.watch(below.recall, tap, layer.self_attn, above, tally)
    pages.gather = partial(_timed, pages.gather, tally)
    _put(layers, taps)
    try:
        yield caches
    finally:
        _put(layers, norms)


def _put(layers: list[nn.Module], norms: list[nn.Module]) -> None:
    """Norms in front of the layers' attention."""
    for layer, norm in zip(layers, norms):
        layer.input_layernorm = norm


def _timed(gather: Callable, tally: Tally, *args: object) -> tuple[np.ndarray, np.ndarray]:
    """What `Pages.gather` gives, its seconds and bytes added up."""
    began = time.perf_counter()
    keys, values = gather(*args)
    tally.waiting += time.perf_counter() - began
    # As on disk: 8 bits a number.
    tally.bytes += keys.size + values.size
    return keys, values


def _forget(pages: PageStore) -> None:
    """Let the system's cache forget a store's files."""
    pages.sync()
    for file in pages._files:
        os.posix_fadvise(file._fd, 0, 0, os.POSIX_FADV_DONTNEED)
