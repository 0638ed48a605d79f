"""Questions about a document that was read: each forks the memory and never re-reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .document_memory import DocumentMemory
    from .engine import Engine


@dataclass(frozen=True)
class Turn:
    """A question and its answer. page: the last one that the memory knew of; None for all it had read."""

    question: str
    answer: str
    page: int | None = None


def known_by(history: Sequence[Turn], page: int | None) -> list[Turn]:
    """What may go along with a question asked as of a page: nothing that was said with more known."""
    return [turn for turn in history if page is None or (turn.page is not None and turn.page <= page)]


def ask(
    engine: Engine,
    memory: DocumentMemory,
    question: str,
    history: Sequence[Turn] = (),
    cancel: Event | None = None,
    max_tokens: int = 256,
) -> Iterator[str]:
    """Answer a question about the document, yielding the whole answer so far.

    The conversation follows the document in a fork of its memory, so the memory
    stays as it was read and conversations never see each other.
    """
    # What was stopped before its first word was not answered, and is not gone on about.
    texts = [text for turn in history if turn.answer for text in (turn.question, turn.answer)]
    for answer in engine.generate([*texts, question], memory, max_tokens, cancel):
        yield answer.strip()
