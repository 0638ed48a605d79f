"""The folder of a page store: its files, its header and its lock."""

from __future__ import annotations

import fcntl
import json
import secrets
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import NotNow, StoreDamaged, StoreError, StoreInUse
from .sealed import read_sealed, write_sealed
from .shape import StoreShape

MAGIC, FORMAT = "mlx_edgeinf page store", 2
HEADER, PAGES, SUMMARIES, CHECKPOINT = "header", "pages", "summaries", "checkpoint"

# A window that opens a store, or lets go of it, holds the lock for a moment.
PATIENCE_SECONDS, LOOK_EVERY_SECONDS = 2.0, 0.05


@dataclass(frozen=True)
class Header:
    """What a store is: written once, when it is made.

    document: its maker's id. seed: the store's own number, in every checksum.
    """

    document: str
    shape: StoreShape
    seed: int

    @classmethod
    def new(cls, document: str, shape: StoreShape) -> Header:
        return cls(document, shape, secrets.randbits(64))

    def write(self, folder: Path) -> None:
        """Raises StoreError as `write_sealed`."""
        fields = {"magic": MAGIC, "format": FORMAT, **asdict(self)}
        write_sealed(folder / HEADER, json.dumps(fields, indent=2).encode())

    @classmethod
    def read(cls, folder: Path) -> Header:
        """Raises StoreDamaged: it is missing or damaged. StoreError: it is of another version."""
        path = folder / HEADER
        if not path.exists():
            raise StoreDamaged(f"{folder} holds no document's pages: delete the document and read it again.")
        fields = json.loads(read_sealed(path))
        if (fields["magic"], fields["format"]) != (MAGIC, FORMAT):
            raise StoreError(
                f"{folder} was written by another version: delete the document and read it again."
            )
        return cls(fields["document"], StoreShape(**fields["shape"]), fields["seed"])


def record_paths(folder: Path) -> list[Path]:
    """Of the pages and of their summaries."""
    return [folder / PAGES, folder / SUMMARIES]


def make_empty(folder: Path) -> None:
    """Make the folder and its record files, where they are missing.

    Raises:
        StoreError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in record_paths(folder):
            path.touch()
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written to ({error.strerror or error}): choose another folder."
        ) from error


def open_locked(folder: Path) -> list[BinaryIO]:
    """Open the record files, for one writer alone until they are closed.

    Raises:
        StoreDamaged: one is missing. NotNow: one cannot be opened. StoreInUse: someone has them open.
    """
    try:
        files = [path.open("r+b", buffering=0) for path in record_paths(folder)]
    except FileNotFoundError as error:
        raise StoreDamaged(
            f"{error.filename} is not there: delete the document and read it again."
        ) from error
    except OSError as error:
        raise NotNow(
            f"{error.filename} could not be opened ({error.strerror}): see that you may write there."
        ) from error
    lock(files[0], folder)
    return files


def remove_store(folder: Path) -> None:
    """Delete a store that is not open, damaged or not; other files in its folder stay.

    Raises:
        StoreInUse: someone has it open. StoreError: its files cannot be opened or deleted.
    """
    try:
        with ExitStack() as held:
            # Somebody may have deleted the largest file to make room; there is nothing to lock then.
            if (folder / PAGES).exists():
                lock(held.enter_context((folder / PAGES).open("rb", buffering=0)), folder)
            # Without its header it is no store any more, whatever else goes wrong.
            for name in (HEADER, CHECKPOINT, SUMMARIES, PAGES):
                (folder / name).unlink(missing_ok=True)
        remove_leftovers(folder)
    except StoreError:
        # An OSError too, and told already.
        raise
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be deleted ({error.strerror or error}): see that you may write there."
        ) from error
    with suppress(OSError):
        folder.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Delete what is left of files that were being replaced when their process was killed."""
    for name in (HEADER, CHECKPOINT):
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def lock(file: BinaryIO, folder: Path) -> None:
    """Lock a store against other writers, until the file is closed or the process ends, however it ends.

    Raises:
        StoreInUse: someone else has it open, and for longer than a moment.
        StoreError: this is no place for locks.
    """
    patient_until = time.monotonic() + PATIENCE_SECONDS
    while not _locked(file, folder):
        if time.monotonic() > patient_until:
            raise StoreInUse(
                f"{folder} is in use by another window or program: close the document there, and try again."
            )
        time.sleep(LOOK_EVERY_SECONDS)


def _locked(file: BinaryIO, folder: Path) -> bool:
    """Lock it, if nobody else has; whether it is locked now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be locked ({error.strerror}): choose a folder on a disk of this machine."
        ) from error
    return True


def unlock(file: BinaryIO) -> None:
    """Let others write to a store that stays open here."""
    fcntl.flock(file, fcntl.LOCK_UN)
