"""The folders of pages for exact recall: one for each document and model, beside the library's files.

They are found by name alone, so no row is needed before the first token is read; whoever reads holds
the lock of its folder, so it is never swept away under them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..pagestore.errors import StoreError, StoreInUse
from ..pagestore.folder import remove_store
from .queries import identity_key
from .rows import LibraryError

if TYPE_CHECKING:
    from ..engine import Engine


class PageFolders:
    """All of a library. identity: of an engine, as text."""

    def __init__(self, folder: Path):
        self._folder = folder

    def of(self, document: int, identity: str) -> Path:
        """Of the reading of a document by an engine, whether it is there or not."""
        return self._folder / _name(document, identity)

    def wanted(self, engine: Engine, document: int) -> Path | None:
        """Of a reading by this engine; None if it wants none."""
        return self.of(document, identity_key(engine.identity)) if engine.recall_bytes != 0 else None

    def remove(self, document: int) -> None:
        """Delete all pages of a document; a window that still asks keeps what it has open.

        Raises:
            LibraryError: some cannot be deleted.
        """
        for folder in self._of_document(document):
            try:
                remove_store(folder)
            except StoreInUse:
                pass
            except StoreError as error:
                raise LibraryError(str(error)) from error

    def drop(self, document: int, identity: str) -> None:
        """Delete the pages of one reading; those that cannot be now are swept away later."""
        _remove(self.of(document, identity))

    def sweep(self, readings: Iterable[tuple[int, str]]) -> None:
        """Delete what belongs to none of these readings (document, identity), where that can be done now."""
        known = {_name(*reading) for reading in readings}
        for folder in self._every():
            if folder.name not in known:
                _remove(folder)

    def nbytes(self, document: int) -> int:
        """Bytes that the pages of a document take, those of a reading under way among them."""
        return sum(map(_nbytes, self._of_document(document)))

    def _of_document(self, document: int) -> list[Path]:
        return [folder for folder in self._every() if folder.name.startswith(f"{document}-")]

    def _every(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []


def _name(document: int, identity: str) -> str:
    return f"{document}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _remove(folder: Path) -> None:
    with suppress(StoreError):
        remove_store(folder)


def _nbytes(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):  # deleted meanwhile
        for file in folder.iterdir():
            with suppress(FileNotFoundError):  # replaced meanwhile
                total += file.stat().st_size
    return total
