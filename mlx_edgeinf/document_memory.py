"""A document together with the memory of what was read of it. Stands alone, without MLX."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .documents import Document
from .insight import Insight

if TYPE_CHECKING:
    from .cache import EdgeCache


class SaveFileError(ValueError):
    """A saved memory that cannot be used, or one that cannot be saved; the message says what to do."""


@dataclass
class DocumentMemory:
    """A document on its way into memory, or all of it there.

    tokens: the opening of the prompt and the document. page_ends: how many of
    them lie before the end of each page. position: tokens read so far.
    seconds: spent reading them. insight: what the memory was seen to do.
    """

    document: Document
    tokens: list[int]
    page_ends: list[int]
    cache: list[EdgeCache]
    position: int = 0
    seconds: float = 0.0
    insight: Insight = field(default_factory=Insight)

    @property
    def pages_read(self) -> int:
        """Pages read to their end."""
        return bisect_right(self.page_ends, self.position)

    @property
    def complete(self) -> bool:
        return self.position == len(self.tokens)

    @property
    def long(self) -> bool:
        """Too long for the base path: read into the fixed-size memory."""
        return self.cache[0].capacity < len(self.tokens)


def different(found: dict[str, str], wanted: dict[str, str]) -> str:
    """What of a saved memory's identity is not as wanted, for people; empty if all of it is."""
    return " and ".join(name for name, value in wanted.items() if found.get(name) != value)
