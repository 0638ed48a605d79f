"""A line of text and the rectangle it fills, in whatever unit its source measures."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """A line of text with its box; y grows upwards, as in PDF."""

    text: str
    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        """Height of the box, about the size of the type."""
        return self.top - self.bottom


def same_row(a: Line, b: Line) -> bool:
    """Whether two lines stand side by side: they share over half of the lower one's height."""
    shared = min(a.top, b.top) - max(a.bottom, b.bottom)
    return shared > 0.5 * min(a.height, b.height)
