"""What a summary run reports: readings, drafts, and at the end a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import DocumentMemory, Stats



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
    """What a summary rests on: nothing of the document is left out without being named here."""

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

    def sentence(self) -> str:
        """The receipt as one or two sentences for people."""
        if self.pages_read == self.pages and not self.stopped:
            start = f"Read all {self.pages} pages ({self.tokens:,} tokens)"
        elif self.stopped:
            start = f"Stopped at page {self.pages_read} of {self.pages} ({self.tokens_read:,} of {self.tokens:,} tokens)"
        else:
            start = (
                f"Read only pages 1 to {self.pages_read} of {self.pages} "
                f"({self.tokens_read:,} of {self.tokens:,} tokens)"
            )
        minutes, seconds = divmod(round(self.seconds), 60)
        took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        text = f"{start} in {took} with {self.model}."
        if self.pages_without_text:
            numbers = ", ".join(map(str, self.pages_without_text))
            text += f" Pages without text, not read: {numbers}."
        return text


@dataclass(frozen=True)
class Finished:
    """The end of a run. `memory` is what was read, for the chat; None if nothing was."""

    summary: str
    receipt: Receipt
    memory: DocumentMemory | None


RunEvent = Reading | Draft | Finished
