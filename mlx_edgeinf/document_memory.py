"""A document together with the memory of what was read of it. Stands alone, without MLX."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING

from .documents import Document, Page
from .insight import Insight

if TYPE_CHECKING:
    from .cache import EdgeCache
    from .pagestore import Pages


class EngineClosed(Exception):
    """The model that was to read or answer is no longer in memory; the message says what to do."""


class SaveFileError(ValueError):
    """A saved memory that cannot be used, or one that cannot be saved; the message says what to do."""


@dataclass
class DocumentMemory:
    """A document on its way into memory, or all of it there.

    tokens: the opening of the prompt and the document. page_ends: how many of
    them lie before the end of each page. position: tokens read so far.
    seconds: spent reading them. pages: on disk, for exact recall; None without. Of a branch, a fork of them.
    refused: why there are none though they were wanted, for people. not_now: they are sound, and may be
    had another time. growing: more pages of text may come, so that only whole segments are read: in the
    end the same ones as of a document that was there at once. insight: what the memory was seen to do.
    """

    document: Document
    tokens: list[int]
    page_ends: list[int]
    cache: list[EdgeCache]
    position: int = 0
    seconds: float = 0.0
    pages: Pages | None = None
    refused: str = ""
    not_now: bool = False
    growing: bool = False
    insight: Insight = field(default_factory=Insight)

    def add(self, pages: Sequence[Page], tokens: Sequence[list[int]]) -> None:
        """Put pages, each with its tokens, at the end."""
        self.document = replace(self.document, pages=(*self.document.pages, *pages))
        ends = accumulate(map(len, tokens), initial=len(self.tokens))
        # New lists, as branches share the old ones.
        self.page_ends = [*self.page_ends, *islice(ends, 1, None)]
        self.tokens = [*self.tokens, *chain.from_iterable(tokens)]

    def branch(self) -> DocumentMemory:
        """What is read into it later leaves this one as it is. It is not growing."""
        cache = deepcopy(self.cache)
        pages = cache[0].recall.pages if self.pages else None
        return replace(self, cache=cache, pages=pages, insight=deepcopy(self.insight), growing=False)

    @property
    def pages_read(self) -> int:
        """Pages read to their end."""
        return bisect_right(self.page_ends, self.position)

    @property
    def next_segment(self) -> int:
        """Tokens to be read next, up to the next fold, so that no segment is split; 0 for none."""
        segment, room = self.cache[0].layout.segment, self.cache[0].room()
        size, left = min(segment, room) if room > 0 else segment, len(self.tokens) - self.position
        return 0 if self.growing and left < size else min(size, left)

    @property
    def complete(self) -> bool:
        return self.position == len(self.tokens)

    @property
    def has_recall(self) -> bool:
        """Whether exact recall is on."""
        return self.pages is not None and self.pages.failure is None

    @property
    def without_recall(self) -> str:
        """Why there is no exact recall, or lately was none, though it was wanted; else empty."""
        if self.pages and self.pages.failure:
            return f"Answers come without exact recall from now on. {self.pages.failure}"
        if self.pages and self.pages.trouble:
            return f"The last answer came without exact recall, at least in part. {self.pages.trouble}"
        return self.refused

    @property
    def long(self) -> bool:
        """Too long for the base path: read into the fixed-size memory."""
        return self.cache[0].exact_limit < len(self.tokens)


def different(found: dict[str, str], wanted: dict[str, str]) -> str:
    """What of a saved memory's identity is not as wanted, for people; empty if all of it is."""
    return " and ".join(name for name, value in wanted.items() if found.get(name) != value)
