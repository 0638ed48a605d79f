"""What a summary run reports: readings, drafts, and at the end a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .settings import Settings
from .wording import count, counted, duration, page_ranges

if TYPE_CHECKING:
    from .document_memory import DocumentMemory
    from .stats import Stats


@dataclass(frozen=True)
class Reading:
    """After every segment: where the reading stands."""

    stats: Stats


@dataclass(frozen=True)
class Draft:
    """The whole text so far of a summary of pages 1 to `page`; replaces the one before."""

    text: str
    page: int
    final: bool


@dataclass(frozen=True)
class Receipt:
    """What a summary rests on: nothing of the document is left out without being named here.

    without_text: pages_without_text for people, in a collection by file.
    pages_recognised: those whose text was recognised in a picture.
    summary_pages: the pages that were read when the summary was written; 0 if there is none.
    max_tokens: of the summary at most. Receipts of earlier versions know neither that nor settings.
    """

    document: str
    pages: int
    pages_read: int
    pages_without_text: tuple[int, ...]
    tokens: int
    tokens_read: int
    seconds: float
    model: str
    strategy: str
    stopped: bool
    state_bytes: int
    peak_bytes: int
    summary_pages: int = 0
    without_text: str = ""
    pages_recognised: tuple[int, ...] = ()
    max_tokens: int | None = None
    settings: Settings | None = None

    def sentence(self) -> str:
        """The receipt as one or two sentences for people."""
        pages = counted(self.pages, "page")
        tokens = f"{count(self.tokens_read)} of {count(self.tokens)} tokens"
        if self.stopped:
            place = f"at page {self.pages_read}" if self.pages_read else "within page 1"
            covered = f"Stopped {place} of {self.pages} ({tokens})"
        elif self.pages_read < self.pages:
            covered = f"Read only pages 1 to {self.pages_read} of {self.pages} ({tokens})"
        else:
            covered = f"Read {'all ' if self.pages > 1 else ''}{pages} ({counted(self.tokens, 'token')})"
        text = f"{covered} in {duration(self.seconds)} with {self.model}."
        if self.pages_without_text:
            text += f" Pages without text: {self.without_text or page_ranges(self.pages_without_text)}."
        if self.pages_recognised:
            text += f" Text recognised in pictures: {counted(len(self.pages_recognised), 'page')}."
        return text


@dataclass(frozen=True)
class Finished:
    """The end of a run. `memory` is what was read, for the chat; None if nothing was."""

    summary: str
    receipt: Receipt
    memory: DocumentMemory | None


RunEvent = Reading | Draft | Finished
