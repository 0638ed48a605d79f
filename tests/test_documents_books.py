"""EPUBs, Word documents and web pages become pages of clean text."""

from __future__ import annotations

import re

import handmade_books as handmade
import pytest
from handmade_books import paragraph, run

from mlx_edgeinf.documents import read_document

NOTE = f'<w:footnote w:id="2">{paragraph(run("Where it is from."))}</w:footnote>'


@pytest.fixture
def pages(file):
    """Writes a file, reads it and returns the text of each page."""

    def read(name: str, data: bytes | str) -> list[str]:
        written = file(name, data if isinstance(data, bytes) else data.encode())
        return [page.text for page in read_document(written).pages]

    return read


def test_chapters_are_pages_in_the_order_of_the_spine(file):
    spine = {"text/2.xhtml": "", "text/3.xhtml": 'linear="no"', "text/1.xhtml": ""}
    chapters = ["<h1>Two</h1><p>The end.</p>", "<h1>One</h1><p>The beginning.</p>", "<p>A note.</p>"]
    path = file("book.epub", handmade.epub(*chapters, **{"OEBPS/book.opf": handmade.package(spine)}))
    seen = []
    document = read_document(path, on_page=lambda done, total: seen.append((done, total)))
    assert [page.text for page in document.pages] == [
        "# One\n\nThe beginning.",
        "# Two\n\nThe end.",
        "A note.",
    ]
    assert [page.number for page in document.pages] == [1, 2, 3]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_long_chapter_is_cut_into_pages_and_nothing_is_lost(pages):
    sentences = [f"This is sentence number {n} of a chapter." for n in range(600)]
    text = pages("book.epub", handmade.epub("".join(f"<p>{each}</p>" for each in sentences), "<p>End.</p>"))
    assert 8 < len(text) < 12 and max(map(len, text)) <= 3000
    assert "\n\n".join(text).split("\n\n") == [*sentences, "End."]


def test_links_of_a_book_are_followed_within_it(pages):
    spine = dict.fromkeys(["a%20b.xhtml", "../top.xhtml#start", "./text/../text/c.xhtml"], "")
    texts = {"OEBPS/a b.xhtml": "first", "top.xhtml": "second", "OEBPS/text/c.xhtml": "third"}
    members = {name: handmade.CHAPTER.format(text) for name, text in texts.items()}
    book = handmade.epub(**members, **{"OEBPS/book.opf": handmade.package(spine)})
    assert pages("book.epub", book) == ["first", "second", "third"]


def test_a_chapter_that_cannot_be_read_is_an_empty_page(file, children):
    good = "<p>A chapter that can be read as it is.</p>"
    book = handmade.epub(good, good, good, **{"OEBPS/text/1.xhtml": ""})
    damaged = handmade.lying(book, "OEBPS/text/2.xhtml", 20)
    document = read_document(file("book.epub", damaged))
    assert document.pages_without_text == (1, 2)
    assert document.pages[2].text == "A chapter that can be read as it is."
    assert len(children) == 1


def test_covers_and_pictures_of_a_book_are_no_pages(pages):
    book = handmade.epub("<img src='cover.jpg' alt='no'/>", "<p>Text.</p>", "<svg><text>no</text></svg>")
    assert pages("book.epub", book) == ["Text."]


def test_fonts_that_are_scrambled_do_not_lock_a_book(pages):
    fonts = handmade.encryption("http://www.idpf.org/2008/embedding")
    book = handmade.epub("<p>Text.</p>", **{"META-INF/encryption.xml": fonts})
    assert pages("book.epub", book) == ["Text."]


def test_a_word_document_is_read_as_it_is_written(pages):
    link = '<w:hyperlink r:id="x"><w:r><w:t>a link</w:t></w:r></w:hyperlink>'
    changed = f"<w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:ins>{run('new')}</w:ins>"
    cells = "".join(f"<w:tc>{paragraph(run(text))}</w:tc>" for text in ("Year", "Sum"))
    raised = run("2", '<w:b/><w:vertAlign w:val="superscript"/>')
    note = '<w:r><w:footnoteReference w:id="2"/></w:r>'
    document = handmade.docx(
        paragraph(run("Report"), "Se"),
        paragraph(run("Findings"), "S1"),
        paragraph(run("Of 10", "<w:b/>") + raised + run(" things, ") + link + run(" is ") + changed + note),
        paragraph(run("one") + "<w:r><w:br/></w:r>" + run("two")),
        paragraph(run("fruit"), item=(1, 0)),
        paragraph(run("apples"), item=(1, 1)),
        paragraph(run("first"), item=(2, 0)),
        f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl>",
        footnotes=NOTE,
    )
    assert pages("report.docx", document) == [
        "# Report\n\n# Findings\n\nOf 10² things, a link is new[1]\n\none\ntwo\n\n- fruit\n  - apples\n\n"
        "1. first\n\n| Year | Sum |\n| --- | --- |\n| Year | Sum |\n\n1. Where it is from."
    ]


def test_pictures_of_a_word_document_are_not_looked_for(pages):
    main = "http://schemas.openxmlformats.org/drawingml/2006"
    blip = f'<a:blip xmlns:a="{main}/main" r:embed="gone"/>'
    frame = f'<p:pic xmlns:p="{main}/picture"><p:blipFill>{blip}</p:blipFill></p:pic>'
    for space, name in (("main", "graphicData"), ("main", "graphic"), ("wordprocessingDrawing", "inline")):
        frame = f'<x:{name} xmlns:x="{main}/{space}">{frame}</x:{name}>'
    picture = f"<w:r><w:drawing>{frame}</w:drawing></w:r>"
    document = handmade.docx(paragraph(run("before ") + picture + run("after")))
    assert pages("report.docx", document) == ["before after"]


@pytest.mark.parametrize("frame", ["{}", "<m:oMathPara>{}</m:oMathPara>"])
def test_formulas_of_a_word_document_are_spelt_out(pages, frame):
    letters = "".join(f"<m:r><w:rPr/><m:t>{each}</m:t></m:r>" for each in ("a", "=", "b"))
    formula = frame.format(f"<m:oMath>{letters}</m:oMath>")
    space = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    document = f'<w:sdt xmlns:m="{space}"><w:sdtContent>{paragraph(run("so ") + formula + run(" holds"))}'
    document += "</w:sdtContent></w:sdt>"
    assert pages("report.docx", handmade.docx(document)) == ["so a=b holds"]


def test_a_long_word_document_is_cut_into_pages(pages):
    text = pages("report.docx", handmade.docx(*(paragraph(run(f"Line {n}. " * 20)) for n in range(100))))
    assert len(text) > 5
    assert [int(n) for n in dict.fromkeys(re.findall(r"Line (\d+)\.", " ".join(text)))] == [*range(100)]


def test_web_pages_are_read(pages):
    html = "<!DOCTYPE html><title>no</title><h1>News</h1><p>It <a href='https://example.org'>rains</a>."
    assert pages("news.html", html) == pages("page.htm", html) == pages("x.xhtml", html)
    assert pages("news.html", html) == ["# News\n\nIt rains."]


def test_what_cannot_be_seen_is_gone_from_a_web_page(pages):
    html = "<p>of\ufb01ce hy\u00adphen zero\u200bwidth</p><pre>\u200bif x:\n    y = 1</pre>"
    assert pages("page.html", html) == ["office hyphen zerowidth\n\n```\nif x:\n    y = 1\n```"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("download.bin", handmade.epub("<p>Words.</p>")),
        ("book.docx", handmade.epub("<p>Words.</p>")),
        ("report.epub", handmade.docx(paragraph(run("Words.")))),
        ("notes.txt", b"<!-- saved -->\n<!DOCTYPE html><p>Words."),
        ("page.pdf", "\ufeff<html><p>Words.".encode()),
        ("old.doc", b"<html xmlns:w='urn:x'><p>Words."),
        ("page", "<?xml version='1.0'?><html><p>Words.</p></html>".encode("utf-16")),
    ],
)
def test_a_file_is_known_by_its_content(pages, name, data):
    assert pages(name, data) == ["Words."]


def test_a_row_of_comments_does_not_hold_up_the_search_for_the_kind(file):
    path = file("notes.md", b"<!---->" * 140 + b"<b>")
    assert read_document(path).text.startswith("<!---->")


@pytest.mark.parametrize("name", ["readme.md", "notes.txt"])
def test_a_text_about_html_is_not_html(pages, name):
    assert pages(name, "Write <html> first.") == ["Write <html> first."]
