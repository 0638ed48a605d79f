"""One piece of work in a thread of its own, watched from a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

LOOK_EVERY_SECONDS = 0.2

Result = TypeVar("Result")
Note = tuple[Any, ...]


class Background(Generic[Result]):
    """Runs `work(note)` at once in a thread; `note(*values)` says how far it is."""

    def __init__(self, work: Callable[[Callable[..., None]], Result]) -> None:
        self._latest: Note | None = None
        threads = ThreadPoolExecutor(1)
        self._future: Future[Result] = threads.submit(work, self._note)
        threads.shutdown(wait=False)

    def notes(self) -> Iterator[Note | None]:
        """Yield the latest note, None before the first, a few times a second until the end."""
        while not self.done:
            yield self._latest
            wait([self._future], timeout=LOOK_EVERY_SECONDS)

    @property
    def latest(self) -> Note | None:
        """The latest note; None before the first."""
        return self._latest

    @property
    def done(self) -> bool:
        """Whether the work has ended, well or not."""
        return self._future.done()

    @property
    def error(self) -> BaseException | None:
        """What the work raised. Waits for its end."""
        return self._future.exception()

    @property
    def result(self) -> Result:
        """What the work returned; raises what it raised. Waits for its end."""
        return self._future.result()

    def _note(self, *values: Any) -> None:
        self._latest = values
