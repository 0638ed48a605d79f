"""Has a file read part by part, page or chapter, by child processes, and replaces one that dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .child import Child, ChildDied
from .document import DocumentError

MOST_PARTS = 20_000
MOST_CHARACTERS = 50_000_000
MOST_SECONDS = 900.0
MOST_PROCESSES = 5
"""A child process that dies is replaced, to go on with the next part, this often."""

REPAIR = "save it again from another program, for instance by printing to PDF, and try the copy"

Progress = Callable[[int, int], None]
Refused = Callable[[Any], DocumentError]
"""Makes the error of the code with which a reader refuses a file."""


def read_parts(
    reader: str, path: Path, on_part: Progress, refused: Refused, limit: float | None = None, **request: Any
) -> list[Any]:
    """Return what `reader` says of each part of a file, None for one that cannot be read.

    `on_part` is called with the parts done and their number; what it raises ends the reading.
    limit: seconds for all parts; None is the usual quarter of an hour. Of `pages` in the request
    the parts are these pages; otherwise they are all there are.
    Raises what `refused` makes of a refusal, and `DocumentError` where they are more than a
    document may have, or the reader dies again and again.
    """
    parts: list[Any] = []
    limit = limit or MOST_SECONDS
    characters, deadline = 0, time.monotonic() + limit
    for _ in range(MOST_PROCESSES):
        with Child(reader, path=str(path), first=len(parts), **request) as child:
            total = number_of_parts(child, path.name, refused)
            for part in next_parts(child, total - len(parts), refused):
                parts.append(part)
                characters += length(part)
                check_size(characters, path.name)
                check_time(deadline, limit, path.name)
                on_part(len(parts), total)
        if len(parts) == total:
            return parts
    numbers = request.get("pages") or range(1, len(parts) + 1)
    failed = ", ".join(str(number) for number, part in zip(numbers, parts) if part is None)
    raise DocumentError(f"{path.name} cannot be read, it broke off at pages {failed}: {REPAIR}.")


def number_of_parts(child: Child, name: str, refused: Refused) -> int:
    """Wait for the file to be opened and return the number of its parts."""
    try:
        total = answered(child, refused)["parts"]
    except ChildDied as death:
        raise DocumentError(f"{name} is so badly damaged that it cannot be opened: {REPAIR}.") from death
    if not 0 < total <= MOST_PARTS:
        raise DocumentError(
            f"{name} has {total:,} pages and 1 to {MOST_PARTS:,} can be read: "
            "choose another file or a part of this one."
        )
    return total


def next_parts(child: Child, count: int, refused: Refused) -> Iterator[Any]:
    """Yield up to `count` parts; None for a bad part, the last if the child dies."""
    for _ in range(count):
        try:
            yield answered(child, refused)["part"]
        except ChildDied:
            yield None
            return


def answered(child: Child, refused: Refused) -> dict[str, Any]:
    """Return the child's next answer, or raise the error that it stands for."""
    answer = child.answer()
    if "error" in answer:
        raise refused(answer["error"])
    return answer


def length(part: Any) -> int:
    """The characters of a part: of its strings, in whatever lists they stand."""
    if isinstance(part, list):
        return sum(map(length, part))
    return len(part) if isinstance(part, str) else 0


def check_size(characters: int, name: str) -> None:
    """Refuse a document that would fill our own memory."""
    if characters > MOST_CHARACTERS:
        raise DocumentError(
            f"{name} has more than the {MOST_CHARACTERS:,} characters that can be read at once: "
            "choose a part of it."
        )


def check_time(deadline: float, limit: float, name: str) -> None:
    """Refuse a document of which every part is slow to take apart."""
    if time.monotonic() > deadline:
        raise DocumentError(
            f"{name} takes more than {limit / 60:.0f} minutes to open: choose a part of it."
        )


def readable(parts: list[Any], name: str) -> list[Any]:
    """The parts of a document, if any of them could be read."""
    if all(part is None for part in parts):
        raise DocumentError(f"No page of {name} can be read: {REPAIR}.")
    return parts
