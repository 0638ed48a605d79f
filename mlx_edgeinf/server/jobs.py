"""Requests at work: a few take turns at the engine, some wait in the order they came, more are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Generic, TypeVar

from .errors import ApiError

AT_ONCE, WAITING = 4, 16
# A stream that is silent for longer says that it is alive, so that nobody gives it up.
SILENCE_SECONDS = 15.0
_END = object()

T = TypeVar("T")
Work = Callable[[Event], Iterator[T]]


class Job(Generic[T]):
    """One request's work, stepped through to its end in a thread of its own.

    cancel: once set, the work ends by itself within one segment or token.
    """

    def __init__(self, work: Work[T]):
        self.cancel = Event()
        self._work, self._items, self._loop = work, asyncio.Queue(), asyncio.get_running_loop()
        self._done: asyncio.Future[None] | None = None

    def start(self, threads: ThreadPoolExecutor, ended: Callable[[], None]) -> None:
        """Work as soon as a thread is free; `ended` is called in the event loop."""
        self._done = self._loop.run_in_executor(threads, self._run)
        self._done.add_done_callback(lambda done: (self._items.put_nowait(_END), ended()))

    async def items(self) -> AsyncIterator[T | None]:
        """What the work yields, and None after every silence; raises what it raises."""
        while True:
            try:
                item = await asyncio.wait_for(self._items.get(), SILENCE_SECONDS)
            except TimeoutError:
                item = None
            if item is _END:
                break
            yield item
        self._done.result()

    def _run(self) -> None:
        if not self.cancel.is_set():
            for item in self._work(self.cancel):
                self._loop.call_soon_threadsafe(self._items.put_nowait, item)


class Jobs:
    """The queue.

    Args:
        at_once: requests that take turns; each has a state of its own, so this bounds memory.
        waiting: requests that wait for one of them to end.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING):
        self._threads = ThreadPoolExecutor(at_once, "request")
        self._most = at_once + waiting
        self._inside: set[Job] = set()

    def begin(self, work: Work[T]) -> Job[T]:
        """Queue a request's work.

        Raises:
            ApiError: the queue is full.
        """
        # Whoever has gone away is worked for no more, and keeps nobody out.
        if sum(not job.cancel.is_set() for job in self._inside) >= self._most:
            raise ApiError(
                429, f"{self._most} requests are being answered or waiting already: try again in a while.",
                code="rate_limit_exceeded", retry_after="5",
            )  # fmt: skip
        job = Job(work)
        self._inside.add(job)
        job.start(self._threads, lambda: self._inside.discard(job))
        return job

    def stop(self) -> None:
        """Tell all work to end."""
        for job in self._inside:
            job.cancel.set()

    async def close(self) -> None:
        """End all work, and wait until it has."""
        self.stop()
        await asyncio.to_thread(self._threads.shutdown)
