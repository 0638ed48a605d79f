"""Whether what lies far behind helps or harms: the same tokens, read after less and after more.

The NLL of the last `COUNTED` tokens before each of some lengths is taken twice: with
everything before them read, far beyond the base model's context, and with the `recent`
tokens alone, which the base model's own attention can hold as well.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ..wording import count, counted
from .gap import FULL, OURS, check_finished
from .readings import Reader
from .results import Results, described
from .subject import Subject
from .tables import markdown, with_interval
from .work import Entries, measure_missing

COUNTED = 2048
ROWS = (FULL, OURS)
# Full attention takes time with the square of the length: twice its context shows what becomes of it.
BEYOND = 2


def measure_lengths(subject: Subject, documents: dict[str, list[int]], results: Results) -> None:
    """Read documents, by name the tokens of each, with full attention and with the memory."""
    lengths, recent = results.setup["lengths"], results.setup["recent"]
    reader = Reader(subject.model, subject.untrained, documents, first=1)

    def measure(name: str, row: str) -> Entries:
        tokens = documents[name]
        whole = [length for length in lengths if row == OURS or length <= BEYOND * recent]
        everything = _losses(reader, tokens, row, whole)
        later = (_losses(reader, tokens[end - recent : end], row, [recent])[0] for end in lengths[1:])
        # At the shortest length, everything is recent.
        return {(name, row): {"everything": everything, "recent": [everything[0], *later]}}

    def told(name: str, row: str) -> str:
        losses = (f"{nll:.4f}" for nll in results.entries[name][row]["everything"])
        return f"{name}, {row}: {', '.join(losses)} nats"

    # Row by row, so that two processes have as much to do.
    pairs = ((name, row) for row, name in product(ROWS, documents))
    measure_missing(results, pairs, subject.digests, measure, told)


def summary(results: Results) -> str:
    """Markdown: the table, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    check_finished(results, product(results.setup["documents"], ROWS))
    return f"{table(results)}\n\n{described(results.setup)}"


def _losses(reader: Reader, tokens: list[int], row: str, lengths: list[int]) -> list[float]:
    """NLL of the tokens before each length, in nats per token, all in one reading."""
    tokens = tokens[: lengths[-1]]
    with reader.caches(row, len(tokens)) as cache:
        losses = np.concatenate([piece.losses for piece in reader.read(tokens, cache)])
    return [losses[length - 1 - COUNTED : length - 1].mean() for length in lengths]


def table(results: Results) -> str:
    """Markdown: NLL before each length, by row, and what more than the recent tokens changes."""
    lengths, recent = results.setup["lengths"], results.setup["recent"]
    lines = [[f"NLL of the {count(COUNTED)} tokens before", *map(count, lengths)]]
    for row, read in product(ROWS, ("recent", "everything")):
        label = f"{row}, {f'last {count(recent)} tokens' if read == 'recent' else 'everything'}"
        cells = [f"{column.mean():.4f}" for column in _by_length(results, row, read)]
        lines.append([label, *cells, *["-"] * (len(lengths) - len(cells))])
    for row in ROWS:
        pairs = zip(_by_length(results, OURS, "everything"), _by_length(results, row, "recent"))
        against = f"ours, everything, minus {row}, last {count(recent)} tokens"
        lines.append([against, *(with_interval(ours - other) for ours, other in pairs)])
    return f"{counted(len(results.setup['documents']), 'document')}:\n\n{markdown(lines)}"


def _by_length(results: Results, row: str, read: str) -> np.ndarray:
    """NLL (lengths, documents)."""
    return np.array([results.entries[name][row][read] for name in results.setup["documents"]]).T
