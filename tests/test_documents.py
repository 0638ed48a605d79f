"""Files become documents, and bad files one clear sentence."""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import handmade_pdf as handmade
import pytest

from mlx_edgeinf.documents import (
    Document,
    DocumentError,
    PasswordRequired,
    child,
    plain,
    read,
    read_document,
)

DATA = os.environ.get("MLX_EDGEINF_DATA", Path(__file__).parents[2] / "shared" / "data")
SAMPLES = Path(DATA) / "pdf"
PAGES = {
    "GeoTopo-komprimiert": 117,
    "OWASP_Application_Security_Verification_Standard_4.0.1-fa": 94,
    "OWASP_Application_Security_Verification_Standard_4.0.3-en": 71,
    "OWASP_Application_Security_Verification_Standard_4.0.3-zh-cn": 75,
    "PDFBOX-3148-2-fuzzed": 1,
    "Pages-tree-refs": 2,
    "ThuluthFeatures": 1,
    "asvs-webapp-release-2009-de": 51,
    "blank": 1,
    "cardinal": 4,
    "freeculture": 352,
    "habibi": 1,
    "multicolumn": 3,
    "multipage": 6,
    "pdkids": 55,
    "poppler-90-0-fuzzed": 16,
    "rotated_skew": 1,
    "secHandler": 1,
    "tracemonkey": 14,
    "truetype_font_nomapping": 1,
}
WITHOUT_TEXT = {"PDFBOX-3148-2-fuzzed", "ThuluthFeatures", "blank", "cardinal", "rotated_skew"}
WITHOUT_TEXT |= {"secHandler", "truetype_font_nomapping"}
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
def sample():
    if not SAMPLES.is_dir():
        pytest.skip("the sample PDFs are absent: MLX_EDGEINF_DATA names the folder that holds pdf/")
    return lambda name: SAMPLES / f"{name}.pdf"


@cache
def read_once(path: Path) -> Document:
    return read_document(path)


@pytest.fixture
def worker(file, monkeypatch):
    """Put a child process in place that misbehaves before it answers for a page."""

    def install(misbehave: str) -> None:
        script = file("worker.py", WORKER.replace("MISBEHAVE", misbehave).encode())
        monkeypatch.setattr(child, "WORKERS", script)

    return install


def refused(path: Path, password: str | None = None) -> str:
    with pytest.raises(DocumentError) as caught:
        read_document(path, password)
    message = str(caught.value)
    assert path.name in message and message.count(". ") == 0 and message.endswith(".")
    return message


def test_a_pdf_keeps_its_pages_in_order(file):
    words = "one two three four five six seven eight nine ten eleven twelve".split()
    path = file("book.pdf", handmade.pdf(*([f"The text of page {word}."] for word in words)))
    seen = []
    document = read_document(path, on_page=lambda done, total: seen.append((done, total)))
    assert document.name == "book.pdf"
    assert document.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [page.number for page in document.pages] == list(range(1, 13))
    assert [page.text for page in document.pages] == [f"The text of page {word}." for word in words]
    assert document.text.count("\n") == 11 and document.pages_without_text == ()
    assert seen == [(n, 12) for n in range(1, 13)]


def test_a_pdf_is_known_by_its_content(file):
    data = b"\n" * 500 + handmade.pdf(["A page whose file has a strange name."])
    assert read_document(file("download.bin", data)).text == "A page whose file has a strange name."


def test_pages_without_text_are_listed_and_not_refused(file):
    data = handmade.pdf([], ["Only this page has a text layer."], ["7"])
    document = read_document(file("scan.pdf", data))
    assert document.pages_without_text == (1, 3)
    assert read_document(file("blank.pdf", handmade.pdf([]))).pages_without_text == (1,)


def test_a_page_that_is_missing_leaves_the_others(file):
    pages = ["This is the first of three."], ["This one is torn out."], ["This is the last."]
    document = read_document(file("torn.pdf", handmade.pdf(*pages, missing=[2])))
    texts = [page.text for page in document.pages]
    assert texts == ["This is the first of three.", "", "This is the last."]


def test_an_encrypted_pdf_asks_for_its_password(file):
    path = file("secret.pdf", handmade.encrypted("sesame", "This was a secret until now."))
    with pytest.raises(PasswordRequired, match="secret.pdf is protected"):
        read_document(path)
    with pytest.raises(PasswordRequired, match="not the password of secret.pdf"):
        read_document(path, "open")
    assert read_document(path, "sesame").text == "This was a secret until now."


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.pdf", b"", "is empty"),
        ("empty.txt", b"", "is empty"),
        ("letter.pdf", b"Dear all, this is no PDF.", "is not a PDF"),
        ("header.pdf", b"%PDF-1.4\n", "is damaged"),
        ("cut.pdf", handmade.pdf(["words"])[:60], "is damaged"),
        ("cycle.pdf", handmade.cyclic(), "No page of"),
        ("torn.pdf", handmade.pdf(["words"], ["words"], missing=[1, 2]), "No page of"),
        ("letter.docx", b"PK\x03\x04", "is so badly damaged"),
        ("README", b"words", "print it to PDF"),
        ("junk.txt", bytes(range(256)) * 9, "is not text"),
        ("zeros.md", bytes(900), "is not text"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(file, name, data, says):
    assert says in refused(file(name, data))


def test_what_is_no_file_is_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "gone.pdf")
    assert "is a folder" in refused(tmp_path)


def test_files_that_are_too_large_are_refused_at_once(tmp_path, monkeypatch):
    for name, limit in (("huge.pdf", read.MOST_BYTES), ("long.txt", plain.MOST_BYTES)):
        with (tmp_path / name).open("wb") as hollow:
            hollow.truncate(limit + 1)
        start = time.monotonic()
        assert "cut it into several files" in refused(tmp_path / name)
        assert time.monotonic() - start < 2


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


def test_an_exception_from_on_page_ends_the_child(file, monkeypatch):
    children = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_document(file("book.pdf", handmade.pdf(*[["words"]] * 9)), on_page=stop)
    assert [child.returncode is not None for child in children] == [True]


def test_the_child_process_does_not_load_the_program():
    code = f"import runpy, sys; runpy.run_path({str(child.WORKERS)!r}); print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-P", "-c", code], text=True).split())
    assert "pypdfium2" in loaded and not {"mlx", "mlx_edgeinf"} & loaded


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


@pytest.mark.parametrize("name", PAGES)
def test_sample_pdfs_are_read_whole(sample, name):
    document = read_once(sample(name))
    assert len(document.pages) == PAGES[name]
    every = tuple(range(1, PAGES[name] + 1))
    assert (document.pages_without_text == every) == (name in WITHOUT_TEXT)


@pytest.mark.parametrize("name", ["bug1020226", "invalid", "issue9105_other"])
def test_broken_sample_pdfs_are_refused(sample, name):
    assert "is damaged" in refused(sample(name))


def test_the_protected_sample_opens_with_its_password(sample):
    path = sample("libreoffice-writer-password")
    assert "is protected" in refused(path)
    assert read_document(path, "openpassword").text.startswith("Lorem ipsum")


def test_a_mathematics_book_matches_its_true_text(sample):
    path = sample("GeoTopo-komprimiert")
    truth = path.with_suffix(".groundtruth.txt").read_text("utf-8")
    ours, theirs = (Counter(re.findall(r"\w+", text)) for text in (read_once(path).text, truth))
    assert 2 * (ours & theirs).total() / (ours.total() + theirs.total()) > 0.955


def test_a_whole_book_reads_without_its_furniture(sample):
    document = read_once(sample("freeculture"))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]|free-culture\.org/get-it", document.text)
    body = "\n".join(page.text for page in document.pages[17:320])
    assert not re.search(r"^(?:\d+ FREE CULTURE|“P\w+” \d+|\d+)$", body, re.MULTILINE)
    assert document.pages[16].text.endswith("Am I allowed")
    assert document.pages[17].text.startswith("to enter into an exclusive license with Delta")
