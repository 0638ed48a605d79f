"""Quotations: sentences of a text to be gone on with, asked for by their first words.

What people answer about a document tells what it is about; what a name or a number was is learnt here, and any
text will do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from ..support import sentences
from .formats import Exercise, paged

QUESTION = 'How does the sentence of the document go on that begins with "{}"?'
# Words of it that are told, and of the whole.
TOLD, LEAST, MOST = 6, 12, 60


def quotations(passage: str, letters: int, wanted: int, rng: random.Random) -> Exercise | None:
    """A passage as a document with up to `wanted` quotations; None if it has no sentence to quote.

    letters: of the passage, the first ones that sentences are taken from.
    """
    pages = paged(passage)
    found = list(_quoted("\n".join(pages)[:letters]))
    chosen = rng.sample(found, min(wanted, len(found)))
    return Exercise(pages, tuple(chosen)) if chosen else None


def _quoted(text: str) -> Iterator[tuple[str, str]]:
    """Questions and answers; the first and the last sentence may be cut."""
    for start, end in list(sentences(text))[1:-1]:
        words = text[start:end].split()
        if LEAST <= len(words) <= MOST:
            yield QUESTION.format(" ".join(words[:TOLD])), " ".join(words[TOLD:])
