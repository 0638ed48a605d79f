"""A file that crashes, hangs or swells costs a child process only."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import handmade_pdf as handmade
import pytest
from refusals import refused

from mlx_edgeinf.documents import child, read_document

WORKER = """
import json, os, socket, time
channel = socket.socket(fileno=0).makefile("rw")
first = json.loads(channel.readline())["first"]
def say(answer):
    channel.write(json.dumps(answer) + "\\n")
    channel.flush()
say({"parts": 3})
for number in range(first + 1, 4):
    MISBEHAVE
    say({"part": [[f"This is the text of page {number}.", 0, 0, 90, 10]]})
"""


@pytest.fixture
def worker(file, monkeypatch):
    """Put a child process in place that misbehaves before it answers for a page."""

    def install(misbehave: str) -> None:
        script = file("worker.py", WORKER.replace("MISBEHAVE", misbehave).encode())
        monkeypatch.setattr(child, "WORKERS", script)

    return install


def test_a_crash_costs_one_page(file, worker):
    worker("if number == 2: os.abort()")
    document = read_document(file("crash.pdf", handmade.pdf(["x"])))
    assert document.pages_without_text == (2,)
    assert [page.text[-2:] for page in document.pages] == ["1.", "", "3."]


def test_a_page_that_takes_too_long_is_left_out(file, worker, monkeypatch):
    monkeypatch.setattr(child, "PATIENCE", 1.5)
    worker("if number == 3: time.sleep(60)")
    start = time.monotonic()
    assert read_document(file("slow.pdf", handmade.pdf(["x"]))).pages_without_text == (3,)
    assert time.monotonic() - start < 15


def test_a_page_that_says_too_much_is_left_out(file, worker, monkeypatch):
    monkeypatch.setattr(child, "LONGEST_ANSWER", 1000)
    worker("if number == 1: say({'part': [['x' * 5000, 0, 0, 1, 1]]})")
    assert read_document(file("loud.pdf", handmade.pdf(["x"]))).pages_without_text == (1,)


def test_a_file_on_which_every_process_dies_is_given_up(file, worker):
    worker("os.abort()")
    assert "No page of" in refused(file("hostile.pdf", handmade.pdf(["x"])))


def test_a_file_that_cannot_even_be_opened_is_refused(file, monkeypatch):
    monkeypatch.setattr(child, "WORKERS", file("worker.py", b"import os; os.abort()"))
    assert "cannot be opened" in refused(file("deadly.pdf", handmade.pdf(["x"])))


def test_a_bomb_hits_the_memory_limit_of_its_own_process(file, monkeypatch):
    monkeypatch.setattr(child, "MEMORY", 300 << 20)
    assert "No page of" in refused(file("bomb.pdf", handmade.bomb()))


def test_a_large_parent_does_not_count_against_the_child(file, monkeypatch):
    monkeypatch.setattr(child, "MEMORY", 300 << 20)
    held = bytearray(500 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert read_document(file("small.pdf", handmade.pdf(["A page of text that is long enough."]))).pages


def test_an_exception_from_on_page_ends_the_child(file, children):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_document(file("book.pdf", handmade.pdf(*[["words"]] * 9)), on_page=stop)
    assert [child.returncode is not None for child in children] == [True]


def test_the_child_process_does_not_load_the_program():
    code = f"import sys; sys.path[:0] = [{str(child.WORKERS)!r}]; import pdf_lines, package, web; "
    printed = subprocess.check_output([sys.executable, "-P", "-c", code + "print(*sys.modules)"], text=True)
    loaded = set(printed.split())
    assert {"pypdfium2", "lxml", "mammoth"} < loaded and not {"mlx", "mlx_edgeinf"} & loaded


def test_the_child_ends_when_its_parent_is_gone_or_it_has_grown(monkeypatch):
    ended = []
    watch = runpy.run_path(str(child.WORKERS))["watch"]
    monkeypatch.setattr(os, "_exit", ended.append)
    watch(1 << 50, os.getppid() + 1)
    watch(1, os.getppid())
    assert ended == [1, 1]


def test_several_threads_read_at_once(file):
    lines = [f"This is document number {n}." for n in range(6)]
    paths = [file(f"{n}.pdf", handmade.pdf([line])) for n, line in enumerate(lines)]
    with ThreadPoolExecutor(len(paths)) as pool:
        assert [document.text for document in pool.map(read_document, paths)] == lines
