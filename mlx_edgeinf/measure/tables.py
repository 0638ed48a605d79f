"""Markdown tables and the numbers in them."""

from __future__ import annotations

import numpy as np

from .gap import interval


def markdown(lines: list[list[str]]) -> str:
    """A Markdown table; the first line is its header."""
    header, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([header, "|---" * len(lines[0]) + "|", *rest])


def with_interval(values: np.ndarray) -> str:
    """The mean of one value for each document, with its 95 % bootstrap interval."""
    low, high = interval(values, np.ones_like(values))
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"
