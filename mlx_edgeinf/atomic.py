"""Files that are whole or not there: written beside their place, put on disk, then moved into it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class SaveError(OSError):
    """A file that could not be written; the message says which, why, and what to do."""


def replace_text(path: Path, text: str) -> None:
    """Write a text file, replaced atomically.

    Raises:
        SaveError: as `replacing`.
    """
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` once it is whole and on disk; else it is removed.

    Raises:
        SaveError: the disk is full, or it cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            sync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise SaveError(
            f"{path} could not be written ({error.strerror or error}): free space there, or choose another "
            "folder, and run again. What was there before is unchanged."
        ) from error
    finally:
        # Gone after a success; and what failed first is what to tell.
        with suppress(OSError):
            temporary.unlink()


def sync(descriptor: int) -> None:
    """Return once a file is on disk: on a Mac fsync alone may leave it in the cache of the drive."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    except (AttributeError, OSError):
        # Another system, or a file system that does not know it.
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Put on disk which names a folder holds: without, a new name may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
