"""PDFs become pages of text."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import handmade_pdf as handmade
import pytest
from refusals import refused

from mlx_edgeinf.documents import Document, PasswordRequired, read_document

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


@pytest.fixture
def sample():
    if not SAMPLES.is_dir():
        pytest.skip("the sample PDFs are absent: MLX_EDGEINF_DATA names the folder that holds pdf/")
    return lambda name: SAMPLES / f"{name}.pdf"


@cache
def read_once(path: Path) -> Document:
    return read_document(path)


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
