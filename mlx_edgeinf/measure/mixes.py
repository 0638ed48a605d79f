"""How the bytes of a memory are best spent: on centres, on tokens as they are, and on how many of either.

All mixes are read with the same gates, beside the same sinks and window. A centre and a token take the
same bytes. Beyond the base model's context there is no full attention to compare with, so what a mix
saves is told in nats a token, against sinks and window alone. Mixes can be added later.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise, product

import numpy as np

from ..cache import EdgeCache
from ..wording import count, counted, size
from .gap import WINDOW, check_finished, mean_nll
from .perplexity import measure_more_rows
from .readings import Reader, mixed
from .results import Results, described
from .tables import markdown, with_interval


def mix(text: str) -> str:
    """A mix as it is typed, centres+tokens; for `argparse`.

    Raises:
        ArgumentTypeError: it is none.
    """
    centres, plus, tokens = text.partition("+")
    if not (plus and centres.isdecimal() and tokens.isdecimal() and int(centres) + int(tokens)):
        raise ArgumentTypeError(f"{text} is not a number of centres and one of tokens, such as 375+125")
    return f"{int(centres)}+{int(tokens)}"


def measure_mixes(reader: Reader, mixes: Sequence[str], results: Results) -> None:
    """Read the reader's documents with memories of each mix, and without any."""

    def caches(row: str) -> AbstractContextManager[list[EdgeCache]]:
        return nullcontext(mixed(reader.model, reader.model.layout, *_parts(row)))

    measure_more_rows(reader, (WINDOW, *mixes), results, caches)


def summary(results: Results) -> str:
    """Markdown: the table, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    documents = results.setup["documents"]
    mixes = sorted(results.common(documents) - {WINDOW}, key=lambda row: (sum(_parts(row)), _parts(row)[1]))
    check_finished(results, product(documents, (*mixes, WINDOW)))
    table = markdown(list(_lines(results, mixes)))
    told = described(results.setup, mixes=mixes)
    return f"{counted(len(documents), 'document')}:\n\n{table}\n\n{told}"


def _lines(results: Results, mixes: list[str]) -> Iterator[list[str]]:
    edges = results.setup["edges"]
    stretches = [f"{count(low)} to {count(high - 1)}" for low, high in pairwise(edges)]
    yield ["centres", "tokens", "state", *(f"saved at {stretch}, nats" for stretch in stretches)]
    for row in mixes:
        entries = (results.entries[name][row] for name in results.setup["documents"])
        state = size(max(entry["state_bytes"] for entry in entries))
        saved = (with_interval(_saved(results, row, at)) for at in range(len(stretches)))
        yield [*map(str, _parts(row)), state, *saved]


def _saved(results: Results, row: str, at: int) -> np.ndarray:
    """Nats a token, by document, in one stretch of positions."""
    stretch = slice(at, at + 1)
    return mean_nll(results, WINDOW, stretch) - mean_nll(results, row, stretch)


def _parts(row: str) -> tuple[int, int]:
    centres, tokens = row.split("+")
    return int(centres), int(tokens)
