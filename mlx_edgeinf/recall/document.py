"""The page store of a document: begun before its first token is read, opened with its saved memory.

Where a store cannot be had, the memory alone still answers; so every refusal here is a `StoreError`
whose sentence says what the reader goes without, and why.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..pagestore.errors import DiskFull, QuotaExceeded, StoreDamaged, StoreError
from ..pagestore.folder import HEADER, remove_store
from ..pagestore.pages import SPARE_BYTES, Pages
from ..pagestore.shape import StoreShape
from ..pagestore.store import PageStore
from ..wording import size
from .recall import summarize

# What a document's pages may take on disk if nobody says: the larger of the two. The first is enough of the
# starter model for 570,000 tokens, 1,300 pages of a book; a model of eight billion parameters takes six
# times as much for a token.
USUAL_BYTES, SHARE_OF_FREE = 8 * 10**9, 0.25


def begin(folder: Path, shape: StoreShape, document: str, tokens: int, quota_bytes: int | None) -> PageStore:
    """An empty store for a document of so many tokens; what was in the folder goes.

    It is locked until what was read first is written: it is of no reading yet, and would be swept away.

    Args:
        document: an id that tells what is read, and by which model.
        quota_bytes: that it may take on disk; None is 8 GB, or a quarter of what is free if that is more.

    Raises:
        QuotaExceeded, DiskFull: it would take more in the end: told now, not after an hour of reading.
        StoreError: the folder cannot be written to, or another window writes there.
    """
    if (folder / HEADER).exists():
        remove_store(folder)
    store = PageStore.create(folder, shape, document, quota_bytes or 0, summarize)
    try:
        if quota_bytes is None:
            store.quota_bytes = _usual(folder)
        _check_room(folder, store.forecast(tokens), store.quota_bytes)
    except StoreError:
        store.remove()
        raise
    return store


def _usual(folder: Path) -> int:
    """Bytes that a document's pages may take on this disk as it is now."""
    return max(USUAL_BYTES, int(SHARE_OF_FREE * shutil.disk_usage(folder).free))


def _check_room(folder: Path, needed: int, quota_bytes: int) -> None:
    """Raise unless the quota and the disk have room for all of a document's pages."""
    taken = f"Exact recall of this document would take {size(needed)} on disk"
    if needed + SPARE_BYTES > (free := shutil.disk_usage(folder).free):
        raise DiskFull(
            f"{taken}, {size(free)} are free and {size(SPARE_BYTES)} are left for other programs, so it is "
            "read without. To have it, free space, delete the document and read it again."
        )
    if needed > quota_bytes:
        raise QuotaExceeded(
            f"{taken} and {size(quota_bytes)} are allowed, so it is read without. To have it, start with "
            f"--recall-gb {math.ceil(needed / 1e9)}, delete the document and read it again."
        )


def reopen(folder: Path, document: str, tokens: int, whole: int, quota_bytes: int | None) -> PageStore:
    """The store as it was when so many tokens had left the window, settled.

    Args:
        whole: tokens of the document.
        document, quota_bytes: as in `begin`.

    Raises:
        StoreDamaged: it is missing, damaged, or of another document or model.
        NotNow: another window writes there, or it cannot be written to.
        StoreError: it holds fewer tokens, or is of another version.
    """
    try:
        store = PageStore.resume(folder, quota_bytes or 0, summarize)
        if store.document != document:
            store.close()
            raise StoreDamaged(f"{folder} holds the pages of another document or model.")
        if store.tokens != tokens:
            store.truncate(tokens)
        if quota_bytes is None:
            # It was begun where the whole document was allowed, whatever the disk was filled with since.
            store.quota_bytes = max(_usual(folder), store.forecast(whole))
        store.settle()
    except StoreError as error:
        raise type(error)(
            f"Answers come without exact recall, as its pages cannot be used. {error}"
        ) from error
    return store


@contextmanager
def writing(pages: Pages | None) -> Iterator[None]:
    """Inside a store is written to, if there is one, and settled in the end; a fork always is."""
    if not (pages and pages.lasting) or pages.failure:
        yield
        return
    with _ending_recall(pages):
        if pages.settled:
            pages.go_on()
    try:
        yield
    finally:
        with _ending_recall(pages):
            pages.settle()


def sync_pages(pages: Pages | None) -> None:
    """See that a store holds on disk what was read so far, if there is one; one that failed is let go of."""
    if pages and pages.lasting and not pages.settled:
        with _ending_recall(pages):
            pages.settle() if pages.failure else pages.sync()


@contextmanager
def _ending_recall(pages: PageStore) -> Iterator[None]:
    """A store that fails ends the recall, and not the reading."""
    try:
        yield
    except StoreError as error:
        pages.failure = error
