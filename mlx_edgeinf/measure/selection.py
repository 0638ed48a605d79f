"""Ways to estimate how much attention a page would get, compared with knowing it.

All recall the same number of tokens with the memory off and untrained gates of
recall, so what they close of the gap is theirs alone. A page is estimated from
something smaller than itself:

    mean key          one mean of its keys
    means of 4        a mean of each 4 keys
    Quest             bounds of each component (arXiv 2406.10774): the most that any of its keys could score
    Gaussian          mean and variance of each component: log E exp(q . k) = q . mean + q^2 . var / 2
                      (what `recall.Index` holds)
    Gaussian, fitted  with the share of the variance that fits a novel's pages best
    oracle            nothing smaller: its true mass

And two more that choose by means of 4: from pages whose keys and values are in 8 bits; and with recalled
keys not right before the window, but where they stood in the text.

A row is a way, how many tokens come back, and for how many queries at once: `Gaussian:512:16`. Rows can
be added later.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..adapter import untrained_recall
from ..cache import EdgeCache
from ..pagestore import PageStore, StoreShape
from ..recall import Recall
from ..recall.finding import best
from ..recall.index import shares_of
from ..sources import grouped
from ..training.recalling import temporary_pages
from ..wording import counted
from .gap import ENDS, FULL, WINDOW, check_finished, share_lines
from .perplexity import measure_more_rows
from .readings import Reader, gates
from .results import Results, described
from .tables import markdown

# Least squares over the log masses of the pages of a novel that gates are trained on (3,072 tokens, all
# layers and heads), each page weighing as much as the attention that it gets; 0.45 with all pages alike.
FITTED = 0.77

# Of queries (n, G, Q, d), scaled, and pages of keys (G, p, P, d): log masses (n, G, Q, p).
Estimator = Callable[[mx.array, mx.array], mx.array]


def by_means(number: int | None) -> Estimator:
    """As if all keys of each `number` neighbours, None for the whole page, were their mean."""

    def estimate(queries: mx.array, keys: mx.array) -> mx.array:
        heads, pages, tokens, size = keys.shape
        run = number or tokens
        means = keys.reshape(heads, -1, run, size).mean(axis=2)
        scores = queries @ means.swapaxes(-1, -2)
        return mx.logsumexp(scores.reshape(*scores.shape[:3], pages, -1), axis=-1) + math.log(run)

    return estimate


def quest(queries: mx.array, keys: mx.array) -> mx.array:
    """As if all keys scored what the best of them could."""
    low, high = keys.min(axis=2).swapaxes(-1, -2), keys.max(axis=2).swapaxes(-1, -2)
    most = mx.maximum(queries, 0) @ high + mx.minimum(queries, 0) @ low
    return most + math.log(keys.shape[2])


def gaussian(share: float) -> Estimator:
    """As if the keys were drawn from a normal distribution, with a share of each component's variance."""

    def estimate(queries: mx.array, keys: mx.array) -> mx.array:
        mean, variance = keys.mean(axis=2).swapaxes(-1, -2), keys.var(axis=2).swapaxes(-1, -2)
        return queries @ mean + share * mx.square(queries) @ variance / 2 + math.log(keys.shape[2])

    return estimate


class Estimating(Recall):
    """Recall that scans all pages with an estimator; for texts whose keys fit in memory."""

    estimate: Estimator

    def _choose(self, queries: mx.array, log_mass: mx.array) -> np.ndarray:
        there, wanted = self.pages.pages(self._layer), self._tokens // self._page
        if there <= wanted:
            return super()._choose(queries, log_mass)
        heads = self.pages.shape.kv_heads
        every = np.broadcast_to(np.arange(there), (heads, there))
        keys = mx.array(self.pages.gather(self._layer, every)[0]).reshape(heads, there, self._page, -1)
        asked = grouped(self._aimed(queries).astype(mx.float32) * self._scale, heads)
        besides = log_mass.reshape(*asked.shape[:3], 1)
        return best(shares_of(self.estimate(asked, keys) - besides), wanted)


class InPlace(Estimating):
    """Recalled keys stand as far away as they are."""

    def _positions(self, recalled: int) -> mx.array:
        """(n, G, R): of each block and head its own."""
        page, told = self._page, mx.array(self.chosen)
        tokens = (told[..., None] * page + mx.arange(page)).reshape(*told.shape[:2], -1)
        # Behind the pages, those that fill none yet: the last ones before the window.
        waiting = mx.arange(self.index.tokens - recalled + tokens.shape[2], self.index.tokens)
        waiting = mx.broadcast_to(waiting, (*told.shape[:2], waiting.size))
        return mx.concatenate([tokens, waiting], axis=2) - self.index.tokens + self._window_start


class Way(NamedTuple):
    """How pages are chosen, what they hold, and where what is on them stands."""

    estimate: Estimator
    precision: str = "float16"
    kind: type[Estimating] = Estimating


IN_PLACE = "means of 4, at true distances"
WAYS: dict[str, Way] = {
    "mean key": Way(by_means(None)),
    "means of 4": Way(by_means(4)),
    "means of 4, pages in 8 bits": Way(by_means(4), "int8"),
    IN_PLACE: Way(by_means(4), kind=InPlace),
    "Quest": Way(quest),
    "Gaussian": Way(gaussian(1.0)),
    "Gaussian, fitted": Way(gaussian(FITTED)),
    "oracle": Way(by_means(1)),
}


def choice(text: str) -> str:
    """A row as it is typed, way:tokens:queries; for `argparse`.

    Raises:
        ArgumentTypeError: it is none.
    """
    way, *numbers = text.split(":")
    if way not in WAYS or len(numbers) != 2 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise ArgumentTypeError(f"{text} is not way:tokens:queries with one of {', '.join(WAYS)}")
    if int(numbers[0]) % StoreShape.page_tokens:
        raise ArgumentTypeError(f"{numbers[0]} tokens are no whole pages of {StoreShape.page_tokens}")
    return ":".join([way, *(str(int(number)) for number in numbers)])


def measure_selection(reader: Reader, rows: Sequence[str], results: Results) -> None:
    """Read the reader's documents with each choice of pages, with full attention, and with sinks + window."""

    @contextmanager
    def caches(row: str) -> Iterator[list[EdgeCache]]:
        name, tokens, block = _parts(row)
        with temporary_pages(reader.model, WAYS[name].precision) as pages:
            yield _estimating(reader, pages, WAYS[name], tokens, block)

    with gates(reader.model, untrained_recall(reader.model)):
        measure_more_rows(reader, (*ENDS, *rows), results, caches)


def _estimating(reader: Reader, pages: PageStore, way: Way, tokens: int, block: int) -> list[EdgeCache]:
    """Caches without a memory that recall in a way."""
    caches = []
    for number, layer in enumerate(reader.model.layers):
        rotation, scale = layer.self_attn.memory_gate.rotation, layer.self_attn.scale
        recall = way.kind(pages, number, rotation, scale, reader.model.layout.sinks, tokens, throughout=True)
        recall.estimate, recall.block = way.estimate, block
        caches.append(EdgeCache(reader.model.layout, None, rotation, recall=recall))
    return caches


def summary(results: Results) -> str:
    """Markdown: the table, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    names = list(results.setup["documents"])
    rows = results.common(names) - {*ENDS}
    rows = sorted(rows, key=lambda row: (list(WAYS).index(_parts(row)[0]), *_parts(row)[1:]))
    check_finished(results, product(names, (*ENDS, *rows)))
    header, *lines = (line[:-1] for line in share_lines(results, [FULL, *rows, WINDOW], FULL))
    columns = ["pages chosen by", "tokens", "queries", *header[1:]]
    table = [columns, *([*_cells(row), *line] for row, *line in lines)]
    told = described(results.setup, rows=rows)
    return f"{counted(len(names), 'document')}:\n\n{markdown(table)}\n\n{told}"


def _cells(row: str) -> list[str]:
    return [row, "-", "-"] if row in ENDS else [*map(str, _parts(row))]


def _parts(row: str) -> tuple[str, int, int]:
    """Way, tokens and queries of a row."""
    way, tokens, block = row.split(":")
    return way, int(tokens), int(block)
