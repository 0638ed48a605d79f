"""Pages of a PDF as pictures, with passages marked."""

from __future__ import annotations

import base64
import io

import handmade_pdf as handmade
import pytest
from PIL import Image

from mlx_edgeinf.documents import DocumentError, PasswordRequired, child, picture
from mlx_edgeinf.documents.picture import Picture, is_pdf, page_picture

LINES = ["The harbour froze over in Janu-", "ary. Ships lay \\223fast\\224 in the ice."]


def drawn(path, *passages: str, page: int = 1) -> Picture:
    return page_picture(path, path.name, page, passages)


def ink(found: Picture) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(found.jpeg))).convert("L")


def dark(image: Image.Image, mark) -> bool:
    width, height = image.size
    box = (int(mark.left * width), int(mark.top * height), int(mark.right * width), int(mark.bottom * height))
    return image.crop(box).getextrema()[0] < 100


@pytest.mark.parametrize("turned", ["", "/Rotate 90", "/Rotate 180", "/CropBox[50 300 500 792]"])
def test_marks_lie_on_the_passage_wherever_the_page_is_turned(file, turned):
    path = file("ice.pdf", handmade.pdf(["Another page."], LINES, page_entries=turned))
    found = drawn(path, "The harbour froze over in January.", "Ships lay “fast” in the ice.", page=2)
    image = ink(found)
    assert image.size == (found.width, found.height)
    assert 1400 < max(image.size) <= 1701
    assert found.marks and all(dark(image, mark) for mark in found.marks)
    assert all(0 <= edge <= 1 for mark in found.marks for edge in mark)


def test_a_passage_that_is_not_on_the_page_has_no_mark(file):
    path = file("ice.pdf", handmade.pdf(LINES))
    assert drawn(path, "The submarine sank.", "...").marks == ()


def test_a_huge_page_makes_no_huge_picture(file):
    entries = "/MediaBox[0 0 90000 60000]"
    found = drawn(file("huge.pdf", handmade.pdf(LINES, page_entries=entries)))
    assert max(found.width, found.height) <= 1701


def test_a_page_that_is_not_there_or_is_broken_ends_in_a_sentence(file):
    path = file("ice.pdf", handmade.pdf(LINES, LINES, missing=[2]))
    with pytest.raises(DocumentError, match=r"Page 2 of ice.pdf cannot be drawn"):
        drawn(path, page=2)


def test_a_picture_that_takes_too_long_is_given_up_and_its_process_ended(file, children, monkeypatch):
    script = file("worker.py", b"import time; time.sleep(60)")
    monkeypatch.setattr(child, "WORKERS", script)
    monkeypatch.setattr(picture, "PATIENCE", 0.5)
    with pytest.raises(DocumentError, match="cannot be drawn"):
        drawn(file("slow.pdf", handmade.pdf(LINES)))
    assert [each.returncode is not None for each in children] == [True]


def test_an_encrypted_file_asks_for_its_password(file):
    with pytest.raises(PasswordRequired):
        drawn(file("locked.pdf", handmade.encrypted("sesame", "The harbour froze.")))


def test_pdfs_are_known_by_what_they_begin_with(file):
    assert is_pdf(file("copy", handmade.pdf(LINES)))
    assert not is_pdf(file("story.txt", b"%PDF is not how this begins? It is: but it is a text."[1:]))
