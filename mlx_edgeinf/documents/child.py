"""Starts the child process that takes a file apart, listens to it, and kills it.

Documents come from strangers, and PDFium is not thread-safe, so a file that crashes, hangs or
swells may cost a child process only. The child is a fresh interpreter: a fork is unsafe
beside the threads of a server, and `multiprocessing` would import the program again. What it
says is JSON, checked for time and length, and never a pickle.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

WORKERS = Path(__file__).with_name("workers")
PATIENCE = 120.0
"""Seconds the child may take to open the file, and for each part of it."""
MEMORY = 2 << 30
LONGEST_ANSWER = 64 << 20
"""Bytes the child may hold, and bytes it may send for one part."""


class ChildDied(Exception):
    """The child process crashed, or was killed for taking too long or saying too much."""


class Child:
    """One child process at work on one file; a context manager that always ends the child."""

    def __init__(self, reader: str, **request: Any) -> None:
        """Start a reader, a module of the folder `workers`, with what it is to be asked."""
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(PATIENCE)
        self.stream = self.channel.makefile("rb")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(WORKERS)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        # Only now that somebody reads it: it may be longer than what the channel holds.
        request |= {"reader": reader, "memory": MEMORY}
        with suppress(OSError):  # of a child that has died, which its answer tells
            self.channel.sendall(json.dumps(request).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        """Return the child's next answer; raises `ChildDied` if none comes in time."""
        try:
            line = self.stream.readline(LONGEST_ANSWER)
        except OSError as error:
            raise ChildDied from error
        if not line.endswith(b"\n"):
            raise ChildDied
        return json.loads(line)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # With all that it has started; on macOS a group whose leader has ended cannot be told so.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.stream.close()
        self.channel.close()
