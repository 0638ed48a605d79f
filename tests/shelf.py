"""What the tests of the library put into it, and take out of it."""

from __future__ import annotations

from dataclasses import replace

from tiny import book

from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.events import Receipt
from mlx_edgeinf.library import Library

BOOK = replace(book(4), name="Moby Dick.pdf")
OTHER = Document("Notes.md", "1" * 64, (Page(1, "The harpooneer Queequeg, asleep."), Page(2, "")))


def receipt(**changes) -> Receipt:
    fields = dict(
        document="Moby Dick.pdf", pages=4, pages_read=4, pages_without_text=(2, 3), tokens=256,
        tokens_read=256, seconds=1.5, model="model", strategy="one-shot", stopped=False, state_bytes=1,
        peak_bytes=2,
    )  # fmt: skip
    return Receipt(**fields | changes)


def read(engine, document=BOOK, tokens: int = 10_000):
    """A memory of at least so many tokens of a document."""
    memory = engine.open(document)
    for stats in engine.ingest(memory):
        if stats.tokens >= tokens:
            break
    return memory


def files(library: Library) -> set[str]:
    return {path.name for path in (library.folder / "files").iterdir()}
