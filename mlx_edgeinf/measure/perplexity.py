"""Held-out documents read from the same place by every row, their tokens' NLL compared (see `gap`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import product

import numpy as np

from ..cache import EdgeCache, state_bytes
from .gap import ROWS, SHUFFLED, WINDOW, ZEROED
from .readings import Reader, tally
from .results import Results
from .subject import Subject
from .work import Entries, measure_missing

# In the order they are read, ZEROED after WINDOW; `ours` also yields the row `memory shuffled`.
PASSES = (WINDOW, *(row for row in ROWS if row not in (WINDOW, SHUFFLED)))


Opened = Callable[[str, int], AbstractContextManager[tuple[Reader, list[EdgeCache]]]]


def measure_rows(
    documents: dict[str, list[int]], rows: Sequence[str], results: Results, opened: Opened
) -> None:
    """Read documents, by name the tokens of each, in several ways.

    opened: of a row, and of the tokens to read: who reads, and the caches to read into.
    """
    counts = np.diff(results.setup["edges"]).tolist()

    def measure(name: str, row: str) -> Entries:
        with opened(row, len(documents[name])) as (reader, cache):
            entry = tally(reader.read(documents[name], cache), counts)
            return {(name, row): entry | {"state_bytes": state_bytes(cache)}}

    # Row by row, so that a model is loaded once.
    pairs = [(name, row) for row, name in product(rows, documents)]
    measure_missing(results, pairs, {}, measure, partial(_line, results, pairs))


def measure_more_rows(
    reader: Reader, rows: Sequence[str], results: Results,
    caches: Callable[[str], AbstractContextManager[list[EdgeCache]]],
) -> None:  # fmt: skip
    """Read the reader's documents in its own ways and in others. caches: of a row that is none of `ROWS`."""

    @contextmanager
    def opened(row: str, length: int) -> Iterator[tuple[Reader, list[EdgeCache]]]:
        with reader.caches(row, length) if row in ROWS else caches(row) as cache:
            yield reader, cache

    measure_rows(reader.documents, rows, results, opened)


def measure_losses(subject: Subject, documents: dict[str, list[int]], results: Results) -> None:
    """Read documents, by name the tokens of each, in every way; losses are kept by stretch of positions."""
    edges, rows = results.setup["edges"], results.setup["rows"]
    reader = Reader(subject.model, subject.untrained, documents, edges[0])
    counts = np.diff(edges).tolist()

    def measure(name: str, row: str) -> Entries:
        if row == ZEROED and results.has(name, WINDOW):
            # The same numbers to the last bit: tests/test_readings.py reads both.
            return {(name, row): dict(results.entries[name][WINDOW])}
        return {key: tally(pieces, counts) for key, pieces in reader.measure(name, row).items()}

    pairs = list(product(documents, [row for row in PASSES if row in rows]))
    told = partial(_line, results, list(product(documents, rows)))
    measure_missing(results, pairs, subject.digests, measure, told)


def _line(results: Results, wanted: list[tuple[str, str]], name: str, row: str) -> str:
    entry, done = results.entries[name][row], sum(results.has(*pair) for pair in wanted)
    nll = sum(entry["nats"]) / sum(entry["tokens"])
    return f"{done} of {len(wanted)}: {name}, {row}: {nll:.4f} nats, {entry['seconds']:.0f} s"
