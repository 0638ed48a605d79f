"""Kinds of options that several commands have."""

from __future__ import annotations


def positive(text: str) -> int:
    """A whole number from 1 on; ValueError for any other text, which argparse reports."""
    if int(text) < 1:
        raise ValueError
    return int(text)
