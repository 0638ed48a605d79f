"""Pages that are pictures, with a recogniser of our own in place of tesseract or Vision."""

from __future__ import annotations

import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import handmade_pdf as handmade
import pytest

from mlx_edgeinf.documents import Document, DocumentError, child, joined, read_document, scans

LINES = ["Call me Ishmael. Some years ago", "they went to sea."]
WORDS = ["A page with text enough to be none of the pages without."]
RECOGNISER = """
import os, subprocess, sys, time
seen = 0
def recognise(picture):
    global seen
    seen += 1
    MISBEHAVE
    return [(f"A picture of {picture.width} x {picture.height}", 0.1, 0.8, 0.9, 0.82)]
"""


@pytest.fixture
def recogniser(tmp_path, monkeypatch):
    """Put a recogniser in place, which may misbehave before it answers for a page."""

    def install(misbehave: str = "pass") -> None:
        (tmp_path / "one_of_ours.py").write_text(RECOGNISER.replace("MISBEHAVE", misbehave))

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(scans, "RECOGNISER", "one_of_ours")
    monkeypatch.setattr(scans, "obstacle", lambda: "")
    install()
    return install


def recognised(path: Path, **options) -> tuple[Document, list[tuple[int, int]]]:
    """The document, and what was told of the way there."""
    told: list[tuple[int, int]] = []
    return read_document(path, on_scan=lambda *at: told.append(at), **options), told


def test_only_pages_without_text_are_looked_at_and_they_say_so(file, recogniser):
    path = file("scan.pdf", handmade.pdf([], WORDS, [], WORDS))
    document, told = recognised(path)
    assert document.pages_recognised == (1, 3) and document.pages_without_text == ()
    assert document.pages[0].text.startswith("A picture of 2550 x 33") and told == [(0, 2), (1, 2), (2, 2)]
    before = read_document(path)
    assert before.pages_without_text == (1, 3) and before.pages[1] == document.pages[1]


def test_a_document_with_text_on_all_pages_needs_no_recogniser(file, monkeypatch):
    monkeypatch.setattr(scans, "obstacle", lambda: "There is none.")
    document, told = recognised(file("text.pdf", handmade.pdf(WORDS)))
    assert document.pages_recognised == () and told == []
    assert recognised(file("a.txt", b"A text."))[0].pages[0].text == "A text."


def test_a_page_in_which_nothing_is_found_stays_without_text(file, recogniser):
    recogniser("if seen == 2: return []")
    document, _ = recognised(file("scan.pdf", handmade.pdf([], [])))
    assert document.pages_recognised == (1,) and document.pages_without_text == (2,)


@pytest.mark.parametrize("misbehave", ["os.abort()", "raise ValueError", "return None"])
def test_a_page_on_which_the_recogniser_fails_is_left_out(file, recogniser, misbehave):
    recogniser(f"if seen == 1 and not os.path.exists('{file('failed', b'')}1'):\n"
               f"        open('{file('failed', b'')}1', 'w').close()\n        {misbehave}")  # fmt: skip
    document, told = recognised(file("scan.pdf", handmade.pdf([], [])))
    assert document.pages_without_text == (1,) and document.pages_recognised == (2,)
    assert told[-1] == (2, 2)


def test_where_it_breaks_off_again_and_again_the_pages_are_named_as_in_the_document(file, recogniser):
    recogniser("os.abort()")
    with pytest.raises(DocumentError, match="it broke off at pages 2, 3, 4, 5, 6: save it again"):
        recognised(file("scan.pdf", handmade.pdf(WORDS, *[[]] * 6)))


def test_a_page_that_takes_too_long_is_left_out_with_all_that_it_started(file, recogniser, monkeypatch):
    pid = file("pid", b"")
    recogniser("open('PID', 'w').write(str(subprocess.Popen(['sleep', '60']).pid)); time.sleep(60)"
               .replace("PID", str(pid)))  # fmt: skip
    monkeypatch.setattr(child, "PATIENCE", 8.0)
    document, _ = recognised(file("scan.pdf", handmade.pdf(WORDS, [])))
    assert document.pages_without_text == (2,) and not document.pages_recognised
    assert ended(int(pid.read_text()))


def ended(pid: int) -> bool:
    """Whether a process that was killed is gone, or waits for its heir to notice."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_page_as_large_as_a_house_is_drawn_small(file, recogniser):
    path = file("poster.pdf", handmade.drawn("", page_entries="").replace(b"612 792", b"14400 9000"))
    text = recognised(path)[0].pages[0].text
    width, height = map(int, text.removeprefix("A picture of ").split(" x "))
    assert 24e6 < width * height <= 25.1e6 and width / height == pytest.approx(1.6, rel=1e-3)


def test_an_exception_from_on_scan_ends_the_child(file, recogniser, children):
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_document(file("scan.pdf", handmade.pdf([], [], [])), on_scan=stop)
    assert [process.returncode is not None for process in children] == [True, True]


def test_a_collection_knows_which_pages_were_recognised(file, recogniser):
    scan, _ = recognised(file("scan.pdf", handmade.pdf([], WORDS)))
    both = joined([read_document(file("a.txt", b"A text of some length, so one of text.")), scan])
    assert both.pages_recognised == (2,)


@pytest.mark.parametrize("package, program, command", [
    ("no_such_package", "sh", "pip install 'mlx-edgeinf[ocr]'"),
    ("pytesseract", None, "apt install tesseract"),
])  # fmt: skip
def test_without_a_recogniser_its_command_is_said(file, monkeypatch, package, program, command):
    found = None if package == "no_such_package" else object()
    monkeypatch.setattr(scans, "PACKAGE", package)
    monkeypatch.setattr(scans, "find_spec", lambda name: found)
    monkeypatch.setattr(shutil, "which", lambda name: program)
    with pytest.raises(DocumentError, match="^Recognising text in pictures .OCR. needs") as refusal:
        recognised(file("scan.pdf", handmade.pdf([])))
    assert command in str(refusal.value)


def test_every_recogniser_is_there():
    assert {f"{name}.py" for name in ("tesseract", "vision")} <= set(os.listdir(child.WORKERS))
    assert (child.WORKERS / f"{scans.RECOGNISER}.py").exists()


TESSERACT = find_spec("pytesseract") is not None and shutil.which("tesseract") is not None


@pytest.mark.skipif(not TESSERACT, reason="needs pytesseract and the program tesseract")
def test_tesseract_reads_a_scan(tmp_path, monkeypatch):
    from PIL import Image, ImageDraw, ImageFont

    monkeypatch.setattr(scans, "RECOGNISER", "tesseract")
    picture = Image.new("L", (1700, 1100), 255)
    for row, line in enumerate(LINES):
        drawn = ImageDraw.Draw(picture)
        drawn.text((150, 200 + 60 * row), line, font=ImageFont.load_default(size=40), fill=0)
    picture.save(tmp_path / "scan.pdf", resolution=200)
    document, _ = recognised(tmp_path / "scan.pdf")
    assert " ".join(document.text.split()) == " ".join(LINES)
