"""An HTML file: one part, its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charset import decoded
from markup import blocks


def answers(path: str, first: int) -> Iterator[dict[str, Any]]:
    """Yield the number of parts, then the blocks of the one there is."""
    yield {"parts": 1}
    if not first:
        yield {"part": blocks(decoded(Path(path).read_bytes()))}
