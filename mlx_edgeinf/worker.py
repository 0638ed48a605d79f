"""The thread that owns everything MLX."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread

import mlx.core as mx

from .document_memory import EngineClosed


class MLXThread(Executor):
    """An executor of one thread that gives MLX's streams back before it ends.

    A ThreadPoolExecutor's thread ends with its streams alive, and then the
    process now and then aborts on its way out ("terminate called without an
    active exception").
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue = SimpleQueue()
        self._closed = False
        self._closing = Lock()
        self._thread = Thread(target=self._work, name="mlx", daemon=True)
        self._thread.start()
        atexit.register(self.shutdown)

    def submit(self, work: Callable, /, *args, **kwargs) -> Future:
        """Queue a call; jobs run one after another in the order they came.

        Raises:
            EngineClosed: the thread was shut down.
        """
        future: Future = Future()
        # A job that came behind the end would never be done, and its caller wait for ever.
        with self._closing:
            if self._closed:
                raise EngineClosed("The model was changed meanwhile: open the document again.")
            self._jobs.put((future, lambda: work(*args, **kwargs)))
        return future

    def leave(self, work: Callable[[], object]) -> None:
        """Queue a call that nobody waits for; once the thread was shut down, it is left undone."""
        with suppress(EngineClosed):
            self.submit(work)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish the jobs that are queued, then end."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
                atexit.unregister(self.shutdown)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while job := self._jobs.get():
            future, call = job
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
                future.set_exception(error)
            # Until the next job comes, these would keep a memory alive that nobody else wants.
            del job, future, call
        mx.clear_streams()
