"""The page store of a document: begun before its first token is read, opened with its saved memory.

Where a store cannot be had, the memory alone still answers; so every refusal here is a `StoreError`
whose sentence says what the reader goes without, and why.
"""

from __future__ import annotations

from pathlib import Path

from ..wording import size
from .errors import QuotaExceeded, StoreDamaged, StoreError
from .folder import HEADER, remove_store
from .recall import summarize
from .shape import StoreShape
from .store import PageStore


def begin(folder: Path, shape: StoreShape, document: str, tokens: int, quota_bytes: int) -> PageStore:
    """An empty store for a document of so many tokens; what was in the folder goes.

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
