"""The database file: opening it, transactions, and what its errors mean for people."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock

from . import schema
from .rows import LibraryError

WAIT_SECONDS = 10.0

BUSY = "The library is busy in another window of this program: try again in a moment."
GONE = "This document is no longer in the library: it was deleted meanwhile."
FULL = "The disk is full, so the library could not save: free space on the disk of {folder} and try again."
READ_ONLY = "The library in {folder} cannot be written: check that you may write there."
BROKEN_DISK = "The library in {folder} could not be read or written: check its disk, then try again."
DAMAGED = (
    "The library's database, library.sqlite in {folder}, is damaged: put it back from a backup, or move the "
    "folder away to begin a new library."
)
REASONS = {
    sqlite3.SQLITE_BUSY: BUSY, sqlite3.SQLITE_LOCKED: BUSY, sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: GONE,
    sqlite3.SQLITE_FULL: FULL, sqlite3.SQLITE_IOERR: BROKEN_DISK,
    sqlite3.SQLITE_READONLY: READ_ONLY, sqlite3.SQLITE_CANTOPEN: READ_ONLY, sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_CORRUPT: DAMAGED, sqlite3.SQLITE_NOTADB: DAMAGED,
}  # fmt: skip


class Database:
    """One connection, which any thread may use, one transaction at a time.

    Args:
        path: the database file; created if missing.
        may_create: whether a file without tables is a new library, not one that lost them.

    Raises:
        LibraryError: see `schema.prepare`; or the file is damaged, or cannot be written.
    """

    def __init__(self, path: Path, may_create: bool):
        self._folder, self._turn = str(path.parent), Lock()
        if not (may_create or path.exists()):
            raise schema.lost(self._folder)
        with self._sentences():
            self._connection = sqlite3.connect(
                path, WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            # For its owner alone; SQLite gives its log the same rights. What fails here is told below.
            with suppress(OSError):
                path.chmod(0o600)
            try:
                schema.prepare(self._connection, self._folder, may_create)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file; the last one to do so leaves no write-ahead log behind."""
        with self._turn:
            self._connection.close()

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """All of what is done inside, or, after any error, none of it.

        Raises:
            LibraryError: the disk is full, another window holds the database, it is damaged, ...
        """
        with self._turn, self._sentences():
            self._connection.execute(f"BEGIN {kind}")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors, such as a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that only reads."""
        return self.transaction("DEFERRED")

    def empty_log(self) -> None:
        """Empty the write-ahead log, where deleted text may still stand.

        Another window that is reading at this moment puts it off, until the next deletion or close.
        """
        with self._turn, self._sentences():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """SQLite's errors as sentences for people; those that are our own mistakes as they are."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            # The kinds of constraints differ, other errors are told by the first byte.
            reason = REASONS.get(code) or REASONS.get(code & 0xFF)
            if reason is None:
                raise
            raise LibraryError(reason.format(folder=self._folder)) from error
