"""Quotations: sentences of a text to be gone on with, asked for by their first words.

What people answer about a document tells what it is about. What a name or a number was is learnt here, and
any text will do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ..support import sentences

QUESTION = 'How does the sentence of the document go on that begins with "{}"?'
# Words of it that are told, and of the whole.
TOLD, LEAST, MOST = 6, 12, 60


def quotations(text: str, wanted: int, rng: random.Random) -> Sequence[tuple[str, str]]:
    """Up to `wanted` questions with their answers, of sentences anywhere in a text."""
    found = list(_quoted(text))
    return rng.sample(found, min(wanted, len(found)))


def _quoted(text: str) -> Iterator[tuple[str, str]]:
    """Of all its sentences but the first and the last, which may be cut."""
    for start, end in list(sentences(text))[1:-1]:
        words = text[start:end].split()
        if LEAST <= len(words) <= MOST:
            yield QUESTION.format(" ".join(words[:TOLD])), " ".join(words[TOLD:])
