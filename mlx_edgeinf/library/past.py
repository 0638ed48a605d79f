"""Checkpoints: the memory of a reading as it was at a few of its pages, so that it can be asked spoiler-free.

A checkpoint costs no writing: each save of a reading makes a new file, and the one before, instead of
being deleted, is kept under a row of its own. There are never more than a few, spread over the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import TYPE_CHECKING

from ..document_memory import SaveFileError
from .rows import Checkpoint, LibraryError, Reading, rows

if TYPE_CHECKING:
    from ..document_memory import DocumentMemory
    from ..engine import Engine
    from .database import Database
    from .files import Files

# Of a reading. The starter model's take 71 MB each, whatever the document, and up to 47 MB more with the
# index of what exact recall keeps: nothing asks it, but without it they would have to be written anew.
MOST, MOST_BYTES = 8, 500_000_000


class Past:
    """The checkpoints of a library. opened: opens one of a reading, see `Library.open`."""

    def __init__(
        self, opened: Callable[[Engine, int, Checkpoint], DocumentMemory], db: Database, files: Files
    ):
        self._opened, self._db, self._files = opened, db, files

    def checkpoints(self, reading: int) -> list[Checkpoint]:
        """Those of a reading, by their pages."""
        with self._db.snapshot() as db:
            return of_reading(db, reading)

    def open(self, engine: Engine, checkpoint: Checkpoint) -> DocumentMemory:
        """The memory as it was then, to be asked.

        Raises:
            LibraryError: it is no longer kept, or was made with another model, gates or layout.
            SaveFileError: its file is damaged, and so it is no longer kept.
        """
        try:
            return self._opened(engine, checkpoint.reading, checkpoint)
        except SaveFileError as error:
            with self._files.changing():
                with self._db.transaction() as db:
                    db.execute("DELETE FROM checkpoints WHERE id = ?", (checkpoint.id,))
                self._files.remove(checkpoint.memory)
            raise SaveFileError(
                f"The memory as of page {checkpoint.page} is damaged and was removed: ask as of another "
                "page, or read the document again."
            ) from error


def keep(db: Connection, before: Reading | None, now: Reading) -> list[str]:
    """Make a checkpoint of what a reading was before it was saved anew; returns the files to delete.

    Only readings of the whole have any: of other texts, the pages are not the document's.
    """
    if before is None:
        return []
    known = of_reading(db, now.id)
    if not before.whole or not before.position or before.pages_read + 1 in [each.page for each in known]:
        return [before.memory]
    # The page it is at is read in part, and so is no longer unknown to it.
    new = Checkpoint(0, now.id, before.pages_read + 1, before.position, before.memory, before.memory_bytes)
    kept = thinned([*known, new], now.pages_read)
    dropped = [each for each in known if each not in kept]
    db.executemany("DELETE FROM checkpoints WHERE id = ?", [(each.id,) for each in dropped])
    if new not in kept:
        return [new.memory, *(each.memory for each in dropped)]
    db.execute(
        "INSERT INTO checkpoints (reading, page, position, memory, memory_bytes) VALUES (?, ?, ?, ?, ?)",
        (new.reading, new.page, new.position, new.memory, new.memory_bytes),
    )
    return [each.memory for each in dropped]


def thinned(checkpoints: Sequence[Checkpoint], end: int) -> list[Checkpoint]:
    """As many as may be kept, by their pages: those go first whose neighbours are closest together.

    end: the page that the reading itself has come to.
    """
    kept = sorted(checkpoints, key=lambda each: each.page)
    while len(kept) > MOST or sum(each.memory_bytes for each in kept) > MOST_BYTES:
        pages = [0, *(each.page for each in kept), end]
        gaps = [after - before for before, after in zip(pages, pages[2:])]
        del kept[gaps.index(min(gaps))]
    return kept


def of_reading(db: Connection, reading: int) -> list[Checkpoint]:
    """By their pages."""
    return _found(db, "reading = ? ORDER BY page", reading)


def of_document(db: Connection, document: int) -> list[Checkpoint]:
    """Of all its readings."""
    return _found(db, "reading IN (SELECT id FROM readings WHERE document = ?)", document)


def file_of(db: Connection, checkpoint: Checkpoint) -> str:
    """Its file.

    Raises:
        LibraryError: it is no longer kept: reading went on in another window.
    """
    if checkpoint not in of_reading(db, checkpoint.reading):
        raise LibraryError(
            f"The memory as of page {checkpoint.page} is no longer kept: open the document again to see "
            "which are."
        )
    return checkpoint.memory


def latest_by(checkpoints: Sequence[Checkpoint], page: int) -> Checkpoint | None:
    """The latest of these that knows nothing beyond a page."""
    return max((each for each in checkpoints if each.page <= page), key=lambda each: each.page, default=None)


def _found(db: Connection, where: str, id: int) -> list[Checkpoint]:
    return [Checkpoint(**row) for row in rows(db, f"SELECT * FROM checkpoints WHERE {where}", id)]
