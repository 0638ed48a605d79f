"""The share of the gap between forgetting and full attention that is closed.

Entries come from `evaluate`: by document and row, sums of NLL (nats) and counts
of tokens in each stretch of positions between two edges.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from .results import Results

FULL, WINDOW, LONGER = "full attention", "sinks + window", "window longer by the same bytes"
OURS, SHUFFLED, ZEROED, UNTRAINED = "ours", "memory shuffled", "memory zeroed", "untrained gate"
ROWS = (FULL, OURS, UNTRAINED, LONGER, SHUFFLED, ZEROED, WINDOW)

RESAMPLES, SEED = 2000, 0


def mean_nll(results: Results, row: str, stretch: slice) -> np.ndarray:
    """NLL in nats per token of each document, over a slice of its stretches."""
    entries = [results.entries[name][row] for name in results.setup["documents"]]
    nats = np.array([sum(entry["nats"][stretch]) for entry in entries])
    return nats / np.array([sum(entry["tokens"][stretch]) for entry in entries])


def finished(results: Results) -> bool:
    """Whether every row has read every document."""
    return all(results.has(name, row) for name in results.setup["documents"] for row in ROWS)


def closed(results: Results, row: str, stretch: slice) -> tuple[np.ndarray, np.ndarray]:
    """(gains over sinks + window, gaps to full attention) in nats per token, by document.

    A document's share is gain / gap, that of several their sums' ratio.
    """
    window = mean_nll(results, WINDOW, stretch)
    return window - mean_nll(results, row, stretch), window - mean_nll(results, FULL, stretch)


def interval(gains: np.ndarray, gaps: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval over documents of sum(gains) / sum(gaps)."""
    picks = np.random.default_rng(SEED).integers(len(gaps), size=(RESAMPLES, len(gaps)))
    low, high = np.percentile(gains[picks].sum(axis=1) / gaps[picks].sum(axis=1), [2.5, 97.5])
    return low, high


def table(results: Results) -> str:
    """Markdown: share closed by each row in each stretch, with its interval."""
    stretches = _stretches(results.setup["edges"])
    lines = [
        f"| gap closed | NLL at {list(stretches)[-1]} | " + " | ".join(stretches) + " |",
        "|---|---" + "|---" * len(stretches) + "|",
    ]
    for row in ROWS:
        nll = mean_nll(results, row, slice(None)).mean()
        cells = [_share(row, *closed(results, row, stretch)) for stretch in stretches.values()]
        lines.append(f"| {row} | {nll:.4f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def documents_table(results: Results) -> str:
    """Markdown: share closed in each document over all positions, beside its gap in nats."""
    shown = [row for row in ROWS if row not in (FULL, WINDOW)]
    shares = [np.divide(*closed(results, row, slice(None))) for row in shown]
    _, gaps = closed(results, FULL, slice(None))
    lines = ["| document | gap, nats | " + " | ".join(shown) + " |", "|---|---" + "|---" * len(shown) + "|"]
    for index, name in enumerate(results.setup["documents"]):
        cells = [f"{share[index]:.2f}" for share in shares]
        title = Path(name).stem.replace("_", " ")
        lines.append(f"| {title} | {gaps[index]:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _stretches(edges: list[int]) -> dict[str, slice]:
    """Each stretch and, last, all of them together, by their positions."""
    named = {f"{low}-{high - 1}": slice(at, at + 1) for at, (low, high) in enumerate(pairwise(edges))}
    return {**named, f"{edges[0]}-{edges[-1] - 1}": slice(None)}


def _share(row: str, gains: np.ndarray, gaps: np.ndarray) -> str:
    share = f"{gains.sum() / gaps.sum():.2f}"
    if row in (FULL, WINDOW):
        return share
    low, high = interval(gains, gaps)
    return f"{share} ({low:.2f} to {high:.2f})"
