"""Books, Word documents and web pages that are broken, locked or made to do harm."""

from __future__ import annotations

import socket
import time
from zipfile import ZIP_BZIP2, ZipFile

import handmade_books as handmade
import pytest
from handmade_books import paragraph, run
from refusals import refused

from mlx_edgeinf.documents import books, child, parts, read_document

OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(2000)
LAUGHS = "<!DOCTYPE lolz [<!ENTITY a 'ha'>{}]>".format(
    "".join(f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi"))
)
AES = handmade.encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc")
BOOK = handmade.epub("<p>Words.</p>")
WORD = handmade.docx(paragraph(run("Words.")))
CHAPTER = "OEBPS/text/1.xhtml"
PICTURES = handmade.package({"a.svg": ""}, "image/svg+xml")


def laughing(xml: str) -> str:
    """The same XML with a billion laughs in its first text."""
    declaration, _, rest = xml.partition("?>")
    head, _, tail = (rest or declaration).partition(">")
    return f"{LAUGHS}{head}>&i;{tail}"


def main(text: str) -> str:
    return f"<w:document {handmade.SPACES}><w:body>{text}</w:body></w:document>"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("cut.docx", WORD[:-40], "so badly damaged"),
        ("cut.epub", BOOK[:200], "so badly damaged"),
        ("empty.docx", handmade.zipped({}), "neither a Word document nor an EPUB"),
        ("letter.docx", b"Dear all,", "is not a Word document"),
        ("novel.epub", b"Call me Ishmael.", "is not an EPUB"),
        ("sheet.xlsx", handmade.zipped({"xl/workbook.xml": "<x/>"}), "neither a Word document"),
        ("books.zip", handmade.zipped({"book.epub": BOOK}), "unpack it and choose one of its files"),
        ("letter.rtf", rb"{\rtf1 words}", "is of a kind that cannot be read"),
        ("letter.doc", OLE, "old format of Office"),
        ("secret.docx", OLE + "EncryptedPackage".encode("utf-16-le"), "protected by a password"),
        ("secret2.docx", handmade.protected(WORD, "word/document.xml"), "protected by a password"),
        ("secret.epub", handmade.protected(BOOK, "META-INF/container.xml"), "protected by a password"),
        ("shop.epub", handmade.epub("<p>x</p>", **{"META-INF/encryption.xml": AES}), "(DRM)"),
        ("shop2.epub", handmade.epub("<p>x</p>", **{"META-INF/rights.xml": "<rights/>"}), "(DRM)"),
        ("none.epub", handmade.epub(), "lists no chapters"),
        ("svg.epub", handmade.epub("x", **{"OEBPS/book.opf": PICTURES}), "lists no chapters"),
        ("blank.epub", handmade.epub("<img src='x'/>", " "), "holds no text"),
        ("blank.docx", handmade.docx(), "holds no text"),
        ("blank.html", b"<html><img src=x>", "holds no text"),
        ("lost.epub", handmade.epub("x", **{"META-INF/container.xml": "<container/>"}), "so badly damaged"),
        ("torn.epub", handmade.epub("x", **{CHAPTER: ""}), "No page of"),
        ("noise.epub", handmade.epub("x", **{CHAPTER: bytes(range(256)) * 9}), "No page of"),
        ("noise.html", bytes(range(256)) * 9, "No page of"),
        ("deep.html", b"<div>" * 100_000 + b"words", "nested too deeply"),
        ("deep2.html", b"<p>words</p></x>" * 1000 + b"<svg>" + b"<g>" * 9000, "nested too deeply"),
        ("deep.docx", handmade.docx(*["<w:p>"] * 9000), "so badly damaged"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(file, name, data, says):
    start = time.monotonic()
    assert says in refused(file(name, data))
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("laughs.epub", handmade.epub("x", **{"META-INF/container.xml": laughing(handmade.CONTAINER)})),
        ("laughs2.epub", handmade.epub("x", **{"OEBPS/book.opf": laughing(handmade.package({}))})),
        ("laughs.docx", handmade.docx(**{"word/document.xml": laughing(main("x"))})),
        ("laughs2.docx", handmade.docx(**{"word/styles.xml": laughing(main("x"))})),
        ("laughs3.docx", handmade.docx(**{"word/styles.xml": laughing(main("x")).encode("utf-16")})),
    ],
)
def test_a_billion_laughs_are_not_laughed(file, name, data, monkeypatch):
    monkeypatch.setattr(child, "MEMORY", 300 << 20)
    assert "defines abbreviations of its own" in refused(file(name, data))


def test_other_files_are_never_read(file):
    secret = file("secret.xhtml", b"<p>A secret</p>")
    grammar = f'<!DOCTYPE html [<!ENTITY x SYSTEM "{secret}">]>'
    chapter = f"{grammar}<html><body><p>&x; words, and <object data='{secret}'/>more.</p></body></html>"
    text = read_document(file("book.epub", handmade.epub("x", **{CHAPTER: chapter}))).text
    assert "words, and more." in text and "secret" not in text
    word = f'<!DOCTYPE x [<!ENTITY x SYSTEM "{secret}">]>' + main(paragraph(run("&x;")))
    assert "abbreviations" in refused(file("word.docx", handmade.docx(**{"word/document.xml": word})))


@pytest.mark.parametrize("link", ["../../secret.xhtml", "{}", "file://{}", "..%2F..%2Fsecret.xhtml"])
def test_links_out_of_a_book_lead_nowhere(file, tmp_path, link):
    secret = file("secret.xhtml", b"<p>A secret</p>")
    package = handmade.package({link.format(secret): ""})
    assert "No page of" in refused(file("book.epub", handmade.epub("x", **{"OEBPS/book.opf": package})))


def test_names_that_lead_out_of_a_book_are_only_names(file, tmp_path):
    spine = handmade.package({"../../escaped.xhtml": ""})
    members = {"../escaped.xhtml": "<p>Words.</p>", "OEBPS/book.opf": spine}
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "book.epub").write_bytes(handmade.epub(**members))
    assert read_document(folder / "book.epub").text == "Words."
    assert [path.name for path in tmp_path.rglob("*.*")] == ["book.epub"]


def test_nothing_is_fetched(file):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "http://127.0.0.1:{}/x".format(server.getsockname()[1])
        html = f"<!DOCTYPE html SYSTEM '{address}'><base href='{address}'><img src='{address}'>words"
        html += f"<link rel=stylesheet href='{address}'><script src='{address}'></script>"
        package = f"<!DOCTYPE package SYSTEM '{address}'>{handmade.package({'text/1.xhtml': ''})[21:]}"
        outside = f'<Relationship Id="x" Type="urn:x" Target="{address}" TargetMode="External"/>'
        link = f'<w:hyperlink r:id="x">{run("words")}</w:hyperlink>'
        for name, data in (
            ("page.html", html.encode()),
            ("book.epub", handmade.epub(html, **{"OEBPS/book.opf": package})),
            ("letter.docx", handmade.docx(paragraph(link), links=outside)),
        ):
            assert read_document(file(name, data)).text == "words"
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_bomb_that_says_so_is_not_unpacked(file):
    for name in (CHAPTER, "META-INF/container.xml"):
        bomb = handmade.lying(BOOK, name, 1_000_000_000)
        assert "swells to more than can be read" in refused(file("bomb.epub", bomb))
    bomb = handmade.lying(WORD, "word/document.xml", 1_000_000_000)
    assert "swells to more than can be read" in refused(file("bomb.docx", bomb))


def test_many_parts_make_a_bomb_together(file):
    book = handmade.epub("a", "b", "c", "d")
    for number in range(1, 5):
        book = handmade.lying(book, f"OEBPS/text/{number}.xhtml", 100_000_000)
    assert "swells to more than can be read" in refused(file("bomb.epub", book))


def test_a_bomb_that_hides_its_size_is_unpacked_no_further_than_it_says(file, children, monkeypatch):
    monkeypatch.setattr(child, "MEMORY", 200 << 20)
    book = handmade.epub("bomb", "<p>A chapter.</p>", **{CHAPTER: bytes(200 << 20)})
    path = file("bomb.epub", handmade.lying(book, CHAPTER, 100))
    assert [page.text for page in read_document(path).pages] == ["", "A chapter."]
    assert len(children) == 1


def test_a_bomb_of_another_packing_is_not_unpacked(file, children, monkeypatch):
    monkeypatch.setattr(child, "MEMORY", 200 << 20)
    path = file("bomb.epub", handmade.epub("x", "<p>A chapter.</p>", **{CHAPTER: ""}))
    with ZipFile(path, "a", ZIP_BZIP2) as book:
        book.writestr(CHAPTER, bytes(200 << 20))
    path.write_bytes(handmade.lying(path.read_bytes(), CHAPTER, 50 << 20))
    assert [page.text for page in read_document(path).pages] == ["", "A chapter."]
    assert len(children) == 1


def test_an_archive_of_too_many_members_is_refused(file):
    many = handmade.zipped({"word/document.xml": ""} | {str(number): "" for number in range(20_000)})
    assert "swells" in refused(file("many.docx", many))


def test_a_book_of_too_many_chapters_is_refused(file, monkeypatch):
    monkeypatch.setattr(parts, "MOST_PARTS", 2)
    assert "has 3 pages" in refused(file("long.epub", handmade.epub("a", "b", "c")))


def test_a_web_page_that_is_too_long_is_refused_at_once(tmp_path):
    path = tmp_path / "long.html"
    with path.open("wb") as hollow:
        hollow.truncate(books.MOST_HTML + 1)
    assert "cut it into several files" in refused(path)


def test_a_file_that_takes_too_long_is_given_up(file, monkeypatch):
    monkeypatch.setattr(parts, "MOST_SECONDS", 0.0)
    assert "minutes to open" in refused(file("slow.epub", BOOK))


def test_a_file_of_too_much_text_is_given_up(file, monkeypatch):
    monkeypatch.setattr(parts, "MOST_CHARACTERS", 3)
    assert "more than the 3 characters" in refused(file("long.epub", BOOK))


def test_a_page_that_swells_hits_the_memory_limit_of_its_own_process(file, monkeypatch):
    monkeypatch.setattr(child, "MEMORY", 300 << 20)
    assert "No page of" in refused(file("swelling.html", b"<p>a" * 3_000_000))
