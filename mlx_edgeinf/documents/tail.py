"""Where a text comes from while it grows: the end of a file, or a pipe."""

from __future__ import annotations

import os
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import BinaryIO, NamedTuple

from .plain import check_length
from .read import inspected

LOOK_EVERY_SECONDS = 0.25
MOST_AT_ONCE = 1 << 20

REPLACED = "{} was replaced by another file: its text is read behind that of the one before."
SHORTENED = "{} was cut short: it is read again from its beginning, behind what had been read."
GONE = "{} is gone or cannot be opened: it is waited for, Ctrl-C ends that."


class Arrival(NamedTuple):
    """What has come. breaks: it begins another text. ended: nothing more will come."""

    data: bytes = b""
    notice: str = ""
    breaks: bool = False
    ended: bool = False


def opened(path: Path) -> Path:
    """A file that can be followed; nothing needs to have been written to it yet.

    Raises:
        DocumentError: it is not there, cannot be read, or is too long.
    """
    if not (path.is_file() and path.stat().st_size == 0):
        inspected(path)
        check_length(path.stat().st_size, path.name)
    return path


class Tail:
    """A file that others write to, from a place in it on."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path, self._file, self._gone = path, path.open("rb"), False
        self._file.seek(start)

    def next(self, seconds: float) -> Arrival:
        """What has come, as soon as something has; nothing after so many seconds."""
        deadline = time.monotonic() + seconds
        while not (arrival := self._look()) and time.monotonic() < deadline:
            time.sleep(min(LOOK_EVERY_SECONDS, seconds))
        return arrival or Arrival()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _look(self) -> Arrival | None:
        if data := self._file.read():
            return Arrival(data)
        try:
            arrival, self._gone = self._changed(), False
        except OSError:
            told, self._gone = self._gone, True
            return None if told else Arrival(notice=GONE.format(self._path.name))
        return arrival

    def _changed(self) -> Arrival | None:
        """What else may have happened to a file to which nothing was added."""
        now = self._path.stat()
        replaced = not os.path.samestat(now, os.fstat(self._file.fileno()))
        if not replaced and now.st_size >= self._file.tell():
            return None
        following = self._path.open("rb")
        self._file.close()
        self._file = following
        return Arrival(notice=(REPLACED if replaced else SHORTENED).format(self._path.name), breaks=True)


class Pipe:
    """A stream such as stdin, read in a thread of its own: reading it cannot be given a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._arrivals: SimpleQueue[bytes] = SimpleQueue()
        Thread(target=self._read, args=(stream,), daemon=True).start()

    def next(self, seconds: float) -> Arrival:
        """What has come, as soon as something has; nothing after so many seconds."""
        try:
            data = self._arrivals.get(timeout=seconds)
        except Empty:
            return Arrival()
        return Arrival(data, ended=not data)

    def close(self) -> None:
        """The thread ends with the stream, or with the program."""

    def _read(self, stream: BinaryIO) -> None:
        # Not through its buffer: a thread that waits in there holds a lock that Python needs to end.
        unbuffered = getattr(stream, "raw", stream)
        while data := unbuffered.read(MOST_AT_ONCE):
            self._arrivals.put(data)
        self._arrivals.put(b"")
