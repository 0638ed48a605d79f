"""Questions about a document that was read: each forks the memory and never re-reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from .pieces import so_far

if TYPE_CHECKING:
    from .document_memory import DocumentMemory
    from .engine import Engine


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    page: the last one that the memory knew of; None for all it had read. consulted: the pages that exact
    recall went back to for the answer, by number, the most looked up first.
    """

    question: str
    answer: str
    page: int | None = None
    consulted: tuple[int, ...] = ()


def known_by(history: Sequence[Turn], page: int | None) -> list[Turn]:
    """What may go along with a question asked as of a page: nothing that was said with more known."""
    return [turn for turn in history if page is None or (turn.page is not None and turn.page <= page)]


def ask(
    engine: Engine,
    memory: DocumentMemory,
    question: str,
    history: Sequence[Turn] = (),
    page: int | None = None,
    cancel: Event | None = None,
    max_tokens: int = 256,
) -> Iterator[Turn]:
    """Answer a question about the document, yielding the turn with the whole answer so far.

    The conversation follows the document in a fork of its memory, so the memory
    stays as it was read and conversations never see each other.

    Args:
        history: what was said before; it goes along as far as it was said with no more known.
        page: the last one that the memory knows of; None for all it has read.
    """
    # What was stopped before its first word was not answered, and is not gone on about.
    said = [turn for turn in known_by(history, page) if turn.answer]
    texts = [text for turn in said for text in (turn.question, turn.answer)]
    for piece in so_far(engine.answer([*texts, question], memory, max_tokens, cancel)):
        consulted = tuple(memory.document.pages[index].number for index in piece.consulted)
        yield Turn(question, piece.text.strip(), page, consulted)
