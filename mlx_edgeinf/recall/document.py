"""The page store of a document: begun before its first token is read, opened with its saved memory.

Where a store cannot be had, the memory alone still answers; so every refusal here is a `StoreError`
whose sentence says what the reader goes without, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..pagestore.errors import QuotaExceeded, StoreDamaged, StoreError
from ..pagestore.folder import HEADER, remove_store
from ..pagestore.shape import StoreShape
from ..pagestore.store import PageStore
from ..wording import size
from .recall import summarize


def begin(folder: Path, shape: StoreShape, document: str, tokens: int, quota_bytes: int) -> PageStore:
    """An empty store for a document of so many tokens, settled; what was in the folder goes.

    Args:
        document: an id that tells what is read, and by which model.
        quota_bytes: that it may take on disk.

    Raises:
        QuotaExceeded: it would take more in the end: told now, not after an hour of reading.
        StoreError: the folder cannot be written to, or another window writes there.
    """
    if (folder / HEADER).exists():
        remove_store(folder)
    store = PageStore.create(folder, shape, document, quota_bytes, summarize)
    needed = store.forecast(tokens)
    if needed > quota_bytes:
        store.remove()
        raise QuotaExceeded(
            f"Exact recall of this document would take {size(needed)} on disk and {size(quota_bytes)} are "
            "allowed, so it is read without: allow more to have it."
        )
    store.settle()
    return store


def reopen(folder: Path, document: str, tokens: int, quota_bytes: int) -> PageStore:
    """The store as it was when so many tokens had left the window, settled.

    Raises:
        StoreDamaged: it is missing, damaged, or of another document or model.
        StoreError: another window writes there, or it holds fewer tokens.
    """
    try:
        store = PageStore.resume(folder, quota_bytes, summarize)
        if store.document != document:
            store.close()
            raise StoreDamaged(f"{folder} holds the pages of another document or model.")
        store.truncate(tokens)
        store.settle()
    except StoreError as error:
        raise type(error)(
            f"Answers come without exact recall, as its pages cannot be used. {error}"
        ) from error
    return store


@contextmanager
def writing(pages: PageStore | None) -> Iterator[None]:
    """Inside, a settled store is written to, if there is one."""
    if pages is None or pages.failure:
        yield
        return
    with _ending_recall(pages):
        pages.go_on()
    try:
        yield
    finally:
        with _ending_recall(pages):
            pages.settle()


def keep(pages: PageStore | None) -> None:
    """See that a store holds on disk what was read so far, if there is one."""
    if pages and not pages.settled and not pages.failure:
        with _ending_recall(pages):
            pages.sync()


@contextmanager
def _ending_recall(pages: PageStore) -> Iterator[None]:
    """A store that fails ends the recall, and not the reading."""
    try:
        yield
    except StoreError as error:
        pages.failure = pages.failure or error
