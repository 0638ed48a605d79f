from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref

import pytest

from mlx_edgeinf.document_memory import EngineClosed
from mlx_edgeinf.worker import MLXThread

PROCESS = """
import mlx_edgeinf
import mlx.core as mx
from mlx_edgeinf.worker import MLXThread

threads = [MLXThread() for _ in range(3)]
for thread in threads:
    total = thread.submit(lambda: (mx.ones((64, 64)) @ mx.ones((64, 64))).sum().item()).result()
    assert total == 64 ** 3, total
"""


@pytest.fixture
def thread():
    thread = MLXThread()
    yield thread
    thread.shutdown()


def test_jobs_run_in_order_on_one_thread(thread):
    order = []
    futures = [thread.submit(lambda n=n: order.append(n) or threading.get_ident()) for n in range(50)]
    assert len({future.result() for future in futures} | {threading.get_ident()}) == 2
    assert order == list(range(50))


def test_arguments_reach_the_job(thread):
    assert thread.submit(int, "101", base=2).result() == 5


@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyboardInterrupt])
def test_what_a_job_raises_is_raised_to_the_one_who_asks_and_work_goes_on(thread, error):
    def failing():
        raise error("broken")

    assert isinstance(thread.submit(failing).exception(), error)
    assert thread.submit(lambda: 7).result() == 7


def test_shutdown_finishes_what_is_queued():
    thread, go, done = MLXThread(), threading.Event(), []
    thread.submit(go.wait)
    for number in range(5):
        thread.submit(done.append, number)
    thread.shutdown(wait=False)
    go.set()
    thread.shutdown()
    assert done == list(range(5)) and not thread._thread.is_alive()


def test_a_thread_that_was_shut_down_takes_no_jobs(thread):
    thread.shutdown()
    with pytest.raises(EngineClosed, match="changed meanwhile"):
        thread.submit(int)
    thread.leave(int)


def test_no_job_is_lost_to_a_shutdown_at_the_same_time(thread, monkeypatch):
    """It would stand behind the end, and its caller would wait for ever."""
    jobs, closing = thread._jobs, threading.Thread(target=thread.shutdown)

    class Hesitant:
        get = jobs.get

        def put(self, job) -> None:
            if job:
                closing.start()
                closing.join(timeout=0.1)
            jobs.put(job)

    monkeypatch.setattr(thread, "_jobs", Hesitant())
    assert thread.submit(int).result(timeout=5) == 0
    closing.join()


def test_a_finished_job_is_let_go_of_before_the_next_one_comes(thread):
    class Memory: ...

    memory = Memory()
    held = weakref.ref(memory)
    thread.submit(lambda memory=memory: memory).result()
    del memory
    patience = time.monotonic() + 10
    while held() and time.monotonic() < patience:
        time.sleep(0.01)
    assert held() is None


@pytest.mark.parametrize("_", range(3))
def test_a_process_that_used_the_thread_ends_well(_):
    ended = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_thread_that_was_shut_down_is_not_remembered(monkeypatch):
    forgotten = []
    monkeypatch.setattr("mlx_edgeinf.worker.atexit.unregister", forgotten.append)
    thread = MLXThread()
    thread.shutdown()
    thread.shutdown()
    assert forgotten == [thread.shutdown]
