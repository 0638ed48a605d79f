"""An answer as it grows, piece by piece. Without MLX, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .wording import whole_sentences


@dataclass(frozen=True)
class Piece:
    """A piece of an answer; of a long prompt, nothing for each segment that was read of it.

    prompt_tokens: everything before the answer, the document included. tokens: of the answer so far.
    finish_reason: of the last piece, "stop" or "length". consulted: with it, pages of the document that
    exact recall went back to, counted from 0, the most looked up first.
    """

    text: str
    prompt_tokens: int
    tokens: int = 0
    finish_reason: str | None = None
    consulted: tuple[int, ...] = ()


def so_far(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Each piece with the whole answer up to it; one that was cut short ends with its last whole sentence."""
    answer = ""
    for piece in pieces:
        answer += piece.text
        text = whole_sentences(answer) if piece.finish_reason == "length" else answer
        yield replace(piece, text=text)
