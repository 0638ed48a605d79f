"""The share of the gap between forgetting and full attention that is closed.

Entries come from `evaluate`: by document and row, sums of NLL (nats) and counts
of tokens in each stretch of positions between two edges.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from ..wording import counted
from .results import Results, ResultsError, described
from .tables import folded, markdown, ratio

FULL, WINDOW = "full attention", "sinks + window"
LONGER, H2O, SNAPKV = "longer window, same bytes", "H2O, same bytes", "SnapKV, same bytes"
OURS, HALF, UNTRAINED = "ours", "ours, half the memory", "gate untrained"
ALIKE, RETAINED = "nothing retained, all averaged", "all retained, nothing averaged"
SHUFFLED, ZEROED = "memory shuffled", "memory zeroed"
RECALL, RECALL_ALONE = "ours with recall", "recall without memory"
# The same before gates of recall are trained; what every model can have before any are.
RECALL_BY_MASS, RECALL_ALONE_BY_MASS = f"{RECALL}, by its mass", f"{RECALL_ALONE}, by its mass"
BY_MASS = (RECALL_BY_MASS, RECALL_ALONE_BY_MASS)
RECALL_UNTRAINED = "gate untrained, with recall"
RECALL_SHUFFLED = "recall shuffled"
# Where something is asked for by name: what attention alone brings back.
UNNAMED = "ours with recall, nothing named"
# And what it would bring back if the index knew every page.
UNBOUNDED = "ours with recall, nothing named, all pages weighed"
# A reading that was made for recall, asked without: its memory gave way to what does not come back.
OFF = "ours with recall, off when asked"
ROWS = (
    FULL, RECALL, OURS, RECALL_ALONE, HALF, SNAPKV, H2O, LONGER,
    RECALL_BY_MASS, RECALL_ALONE_BY_MASS, RECALL_UNTRAINED, UNTRAINED, ALIKE, RETAINED,
    SHUFFLED, RECALL_SHUFFLED, ZEROED, WINDOW,
)  # fmt: skip
# Between these lies the gap.
ENDS = (FULL, WINDOW)
# Those that ask how centroids are made up; the other kinds have neither another size nor weights.
OF_CENTROIDS = (HALF, ALIKE, RETAINED)
# What these rows say depends on the trained gates.
GATED = (RECALL, UNNAMED, UNBOUNDED, OFF, OURS, HALF, ALIKE, RETAINED, SHUFFLED, RECALL_BY_MASS)
# And these on those of recall.
RECALL_GATED = (RECALL, UNNAMED, UNBOUNDED, RECALL_ALONE, RECALL_SHUFFLED)
# Rows that something comes back to.
RECALLING = (*BY_MASS, *RECALL_GATED, RECALL_UNTRAINED)


def summary(results: Results) -> str:
    """Markdown: the tables, and where they were measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    check_finished(results, product(results.setup["documents"], results.setup["rows"]))
    documents = f"{counted(len(results.setup['documents']), 'document')}:"
    each = folded("Document by document", documents_table(results))
    return "\n\n".join([documents, table(results), each, described(results.setup)])


def check_finished(results: Results, pairs: Iterable[tuple[str, str]]) -> tuple[set[str], ...]:
    """See that every pair of document and row was measured, with one set of gates.

    Returns digests of the gates of the memory and of recall: of each one, or none.

    Raises:
        ResultsError: it was not.
    """
    entries = [(row, results.group(name).get(row)) for name, row in pairs]
    digests = [(row, entry.get("gates", "")) for row, entry in entries if entry]
    memory = {digest.partition("+")[0] for row, digest in digests if row in GATED}
    recall = {digest.partition("+")[2] for row, digest in digests if row in RECALL_GATED}
    if max(len(memory), len(recall)) > 1 or not all(entry for _, entry in entries):
        raise ResultsError(f"{results.path} is not finished: run its command again.")
    return memory, recall


# What files whose numbers stand together have in common, of what they were measured with.
MADE_WITH = ("base_model", "config", "recall", "context")


def check_of_one(folder: Path, measured: Iterable[tuple[Results, Iterable[tuple[str, str]]]]) -> None:
    """See that each results file of a folder has its pairs, and all are of one model, read in one way.

    Raises:
        ResultsError: they are not.
    """
    files = [(results, check_finished(results, pairs)) for results, pairs in measured]
    ways = {str([results.setup.get(key) for key in MADE_WITH]) for results, _ in files}
    digests = [set().union(*each) for each in zip(*(digests for _, digests in files))]
    if len(ways) > 1 or any(len(each) > 1 for each in digests):
        raise ResultsError(
            f"{folder} has results of several models, gates or ways to recall: measure all with one."
        )


def mean_nll(results: Results, row: str, stretch: slice) -> np.ndarray:
    """NLL in nats per token of each document, over a slice of its stretches."""
    entries = [results.entries[name][row] for name in results.setup["documents"]]
    nats = np.array([sum(entry["nats"][stretch]) for entry in entries])
    return nats / np.array([sum(entry["tokens"][stretch]) for entry in entries])


def closed(results: Results, row: str, stretch: slice) -> tuple[np.ndarray, np.ndarray]:
    """(gains over sinks + window, gaps to full attention) in nats per token, by document.

    A document's share is gain / gap, that of several their sums' ratio.
    """
    window = mean_nll(results, WINDOW, stretch)
    return window - mean_nll(results, row, stretch), window - mean_nll(results, FULL, stretch)


def table(results: Results) -> str:
    """Markdown: share closed by each row in each stretch, and what ours closes more, with intervals."""
    return markdown(share_lines(results, results.setup["rows"], OURS))


def share_lines(results: Results, rows: Iterable[str], leader: str) -> list[list[str]]:
    """Of some rows the NLL, the share closed in each stretch, and what the row `leader` closes more."""
    stretches = _stretches(results.setup["edges"])
    lines = [["gap closed", f"NLL at {list(stretches)[-1]}", *stretches, f"{leader} minus it"]]
    for row in rows:
        nll = mean_nll(results, row, slice(None)).mean()
        cells = [_share(row, *closed(results, row, stretch)) for stretch in stretches.values()]
        lines.append([row, f"{nll:.4f}", *cells, _lead(results, row, leader)])
    return lines


def documents_table(results: Results) -> str:
    """Markdown: share closed in each document over all positions, beside its gap in nats."""
    shown = [row for row in results.setup["rows"] if row not in (FULL, ZEROED, WINDOW)]
    shares = [np.divide(*closed(results, row, slice(None))) for row in shown]
    _, gaps = closed(results, FULL, slice(None))
    lines = [["document", "gap, nats", *shown]]
    for index, name in enumerate(results.setup["documents"]):
        title = Path(name).stem.replace("_", " ")
        lines.append([title, f"{gaps[index]:.3f}", *(f"{share[index]:.2f}" for share in shares)])
    return markdown(lines)


def _stretches(edges: list[int]) -> dict[str, slice]:
    """Each stretch and, last, all of them together, by their positions."""
    named = {f"{low}-{high - 1}": slice(at, at + 1) for at, (low, high) in enumerate(pairwise(edges))}
    return {**named, f"{edges[0]}-{edges[-1] - 1}": slice(None)}


def _lead(results: Results, row: str, leader: str) -> str:
    """What one row closes more than another, over all positions of the same documents."""
    if row == leader:
        return ""
    gains, gaps = closed(results, leader, slice(None))
    return ratio(gains - closed(results, row, slice(None))[0], gaps)


def _share(row: str, gains: np.ndarray, gaps: np.ndarray) -> str:
    return f"{gains.sum() / gaps.sum():.2f}" if row in (FULL, WINDOW) else ratio(gains, gaps)
