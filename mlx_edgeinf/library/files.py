"""The files beside the database: memories and originals, and the locks of what is under way.

A file is written whole under a name of its own before a row names it, and
deleted after no row names it any more. So whatever is killed whenever, the rows
never name a file that is not there; files that no row names are swept away.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from ..atomic import replacing
from ..documents import Document
from .database import BUSY
from .rows import LibraryError

WAIT_SECONDS = 30.0
# Who saves holds the lock while others' segments are read, and there may be several of them.
SAVING_SECONDS = 600.0


class Files:
    """The library's folder.

    Raises:
        LibraryError: it cannot be made or written to.
    """

    def __init__(self, folder: Path):
        self.folder, self._files, self._locks = folder, folder / "files", folder / "locks"
        try:
            for each in (folder, self._files, self._locks):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One that was there before may be open to others.
            folder.chmod(0o700)
        except OSError as error:
            raise LibraryError(
                f"The library cannot be kept in {folder} ({error.strerror}): check that you may write there, "
                "or choose another folder."
            ) from error

    def path(self, name: str) -> Path:
        return self._files / name

    def any(self) -> bool:
        """Whether there are files, so that there must have been rows."""
        return any(self._files.iterdir())

    # -- changes ------------------------------------------------------------------

    @contextmanager
    def changing(self, saving: bool = False) -> Iterator[None]:
        """Alone among all windows: what is written here is not swept away before a row names it.

        Raises:
            LibraryError: others took longer than half a minute, or than ten where a reading is to be saved.
        """
        with self._locked("files", SAVING_SECONDS if saving else WAIT_SECONDS, BUSY):
            yield

    @contextmanager
    def reading(self, document: int, name: str) -> Iterator[None]:
        """Alone among all windows in reading this document or deleting it.

        Raises:
            LibraryError: it is being read at this moment.
        """
        refusal = f"{name} is being read at this moment, here or in another window: wait, or stop that first."
        with self._locked(str(document), 0, refusal):
            yield

    @contextmanager
    def placing(self, suffix: str) -> Iterator[Path]:
        """A path for a new file, which is removed again if anything fails inside.

        After Ctrl-C it is left to `sweep`: the row that names it may just have been committed.
        """
        path = self._files / f"{uuid4().hex}{suffix}"
        try:
            yield path
        except Exception:
            path.unlink(missing_ok=True)
            raise

    @contextmanager
    def copied(self, source: Path, document: Document) -> Iterator[Path]:
        """A copy of the file that a document was read from, as `placing` has it.

        Raises:
            LibraryError: it cannot be read, or it is not the file that was read.
            SaveError: the copy cannot be written.
        """
        with self.placing(suffix_of(document.name)) as path:
            with replacing(path) as copy:
                copy.writelines(pieces(source, source.name, "choose it again"))
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != document.sha256:
                    raise LibraryError(f"{source.name} has changed since it was read: read it again.")
            yield path

    def placed(self, path: Path) -> int:
        """The bytes of a file that is whole, and from now on for its owner alone."""
        path.chmod(0o600)
        return path.stat().st_size

    def remove(self, *names: str) -> None:
        """Delete files that no row names any more.

        Raises:
            LibraryError: one cannot be deleted.
        """
        for path in map(self._files.joinpath, names):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise LibraryError(
                    f"{path} could not be deleted ({error.strerror or error}): see that you may write there, "
                    "then start again, which deletes it."
                ) from error

    def sweep(self, named: set[str]) -> None:
        """Delete what no row names: what a killed process was about to write or to delete."""
        self.remove(*(path.name for path in self._files.iterdir() if path.name not in named))

    @contextmanager
    def _locked(self, name: str, seconds: float, refusal: str) -> Iterator[None]:
        # A new one each time, for any thread: generators take their steps on whichever is free.
        path = self._locks / f"{name}.lock"
        lock = FileLock(path, timeout=seconds, mode=0o600, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise LibraryError(refusal) from error
        except OSError as error:
            raise LibraryError(
                f"The library in {self.folder} cannot be written ({error.strerror}): check that you may "
                "write there."
            ) from error
        try:
            yield
        finally:
            lock.release()


def pieces(source: Path, name: str, remedy: str) -> Iterator[bytes]:
    """What is in a file; that it cannot be read is no fault of where it is copied to.

    Raises:
        LibraryError: it cannot be read; in the message it has this name, and the remedy ends it.
    """
    try:
        with source.open("rb") as original:
            while piece := original.read(1 << 20):
                yield piece
    except OSError as error:
        raise LibraryError(f"{name} cannot be read ({error.strerror or error}): {remedy}.") from error


def suffix_of(name: str) -> str:
    """The ending of a file's name, if it is one of letters and digits."""
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
