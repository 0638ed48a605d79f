"""The child process that takes one stranger's file apart, so that a hostile file costs this process only.

This folder is run by path, as `python workers` with a socket as standard input: importing the
package would load what the rest of the program needs. Speaks JSON lines. It is asked once, with
`reader` (a module of this folder), `memory` (bytes) and what the reader's `answers` takes, and
answers `{"parts": n}`, then `{"part": ...}` for each part of the file, null where it cannot be
read; or, at any time, `{"error": code}`. Whatever else a reader raises ends the process, which
says to the parent that the file is damaged.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module

from refusal import Refusal

WATCH_SECONDS = 0.2


def main() -> None:
    """Answer the one request that comes through standard input."""
    with socket.socket(fileno=0) as channel, channel.makefile("rw", encoding="ascii") as stream:
        request = json.loads(stream.readline())
        limit_memory(request.pop("memory"))
        answers = import_module(request.pop("reader")).answers
        try:
            for answer in answers(**request):
                stream.write(json.dumps(answer) + "\n")
                stream.flush()
        except Refusal as refusal:
            stream.write(json.dumps({"error": refusal.code}) + "\n")


def limit_memory(limit: int) -> None:
    """Bound this process: by the kernel where it obeys, by a watching thread everywhere."""
    # macOS refuses a limit below what it has already mapped.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    threading.Thread(target=watch, args=(limit, os.getppid()), daemon=True).start()


def watch(limit: int, parent: int) -> None:
    """End this process when it has grown beyond `limit` bytes or its parent is gone."""
    while os.getppid() == parent and memory_held() < limit:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def memory_held() -> int:
    """The memory this process holds, in bytes; at its peak where only that is told."""
    if sys.platform == "linux":
        # Not rusage: its peak survives fork and exec, so a parent with a large model would
        # make every child look too large from its start.
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
