"""Files become documents by their kind, and what is none one clear sentence."""

from __future__ import annotations

import hashlib
import time

import handmade_pdf as handmade
import pytest
from refusals import refused

from mlx_edgeinf.documents import (
    Document,
    DocumentError,
    Origin,
    joined,
    pasted_document,
    plain,
    read,
    read_document,
)


def test_a_pdf_is_known_by_its_content(file):
    data = b"\n" * 500 + handmade.pdf(["A page whose file has a strange name."])
    assert read_document(file("download.bin", data)).text == "A page whose file has a strange name."


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


def test_a_pasted_text_is_a_document_named_by_its_first_words():
    text = "\n\n# The minutes of  the meeting on Monday, held in the great hall of the house\nWords.\ud800"
    document = pasted_document(text)
    assert document.name == "The minutes of the meeting on Monday, held in"
    assert document.text.endswith("hall of the house\nWords.")
    assert document.sha256 != pasted_document(text + "!").sha256


def test_a_pasted_text_is_cut_into_pages_and_unwrapped():
    lines = [
        "These are lines that an editor has broken at a width",
        "of its own, as mail programs do with text.",
    ]
    document = pasted_document("\n\n".join(["\n".join(lines)] * 90))
    assert [page.number for page in document.pages] == [1, 2, 3]
    assert document.text.split("\n") == [" ".join(lines)] * 90


@pytest.mark.parametrize("text", ["漢" * 200, "*** ***\n\n---"])
def test_a_pasted_text_without_first_words_has_a_name(text):
    assert pasted_document(text).name == "Pasted text"


def test_what_is_no_text_cannot_be_pasted(monkeypatch):
    with pytest.raises(DocumentError, match="no text in what was pasted"):
        pasted_document(" \n\t")
    monkeypatch.setattr(plain, "MOST_BYTES", 3)
    with pytest.raises(DocumentError, match="What was pasted is longer"):
        pasted_document("four")


def document(name: str, *texts: str) -> Document:
    return Document(name, hashlib.sha256(name.encode()).hexdigest(), read.numbered(texts))


def test_pages_of_a_collection_know_their_file_and_their_place_in_it():
    both = joined([document("a.pdf", "one", ""), document("b.pdf", "a text that is long enough")])
    assert both.name == "a.pdf and 1 more"
    assert [page.number for page in both.pages] == [1, 2, 3]
    assert [page.place for page in both.pages] == ["1 of a.pdf", "2 of a.pdf", "1 of b.pdf"]
    assert both.pages[2].origin == Origin("b.pdf", 1) and both.pages_without_text == (1, 2)
    assert both.text == "one\na text that is long enough"
    assert document("a.pdf", "one").pages[0].place == "1"


def test_files_of_one_name_are_told_apart():
    names = ["a.pdf", "a.pdf (2)", "a.pdf", "a.pdf"]
    files = [page.origin.file for page in joined([document(name, "text") for name in names]).pages]
    assert files == ["a.pdf", "a.pdf (2)", "a.pdf (3)", "a.pdf (4)"]


def test_a_collection_is_another_with_other_files_or_in_another_order():
    a, b = document("a.pdf", "text"), document("b.pdf", "text")
    assert joined([a]) is a
    assert len({joined(each).sha256 for each in ([a], [b], [a, b], [b, a])}) == 4
    with pytest.raises(ValueError):
        joined([])
