"""Markdown tables and the numbers in them."""

from __future__ import annotations

import numpy as np

RESAMPLES, SEED = 2000, 0


def markdown(lines: list[list[str]]) -> str:
    """A Markdown table; the first line is its header."""
    header, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([header, "|---" * len(lines[0]) + "|", *rest])


def folded(title: str, table: str) -> str:
    """Markdown: a table of details, under a title that opens it."""
    return f"<details><summary>{title}</summary>\n\n{table}\n\n</details>"


def interval(gains: np.ndarray, gaps: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval over documents of sum(gains) / sum(gaps)."""
    picks = np.random.default_rng(SEED).integers(len(gaps), size=(RESAMPLES, len(gaps)))
    low, high = np.percentile(gains[picks].sum(axis=1) / gaps[picks].sum(axis=1), [2.5, 97.5])
    return low, high


def ratio(gains: np.ndarray, gaps: np.ndarray, digits: int = 2) -> str:
    """sum(gains) / sum(gaps) over documents, with its interval."""
    low, high = interval(gains, gaps)
    return f"{gains.sum() / gaps.sum():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def with_interval(values: np.ndarray, digits: int = 3) -> str:
    """The mean of one value for each document, or question, with its 95 % bootstrap interval."""
    return ratio(values, np.ones_like(values), digits)


def apart(first: np.ndarray, second: np.ndarray, digits: int = 3) -> str:
    """How much greater the mean of one group is than that of another, with its 95 % bootstrap interval."""
    draw = np.random.default_rng(SEED).choice
    means = [draw(group, (RESAMPLES, len(group))).mean(axis=1) for group in (first, second)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return f"{first.mean() - second.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
