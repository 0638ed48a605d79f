"""Lines become clean text: characters, furniture, hyphens, paragraphs, and plain text files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import handmade_pdf as handmade
import pytest

from mlx_edgeinf.documents import read_document
from mlx_edgeinf.documents.characters import readable
from mlx_edgeinf.documents.clean import clean_pages
from mlx_edgeinf.documents.line import Line

PROSE = (
    "It was a bright day in April, and the whole of the town had come down to the harbour, "
    "where a ship with three masts lay at the quay. Nobody knew whence it had come. The old "
    "women said that it had been there in their youth, and that it brought no luck to those "
    "who looked at it for long; but the children had climbed the cranes to see it better. "
)


def typeset(text: str, left: float = 72, top: float = 700, size: float = 10) -> list[Line]:
    """Lines of type on a page: characters half as wide as high, a fifth of space between."""
    width = size / 2
    rows = [
        (top - 1.2 * size * row, line, len(line) - len(line.lstrip()))
        for row, line in enumerate(text.split("\n"))
    ]
    return [
        Line(text.strip(), left + start * width, y, left + len(text) * width, y + size)
        for y, text, start in rows
        if text
    ]


def page(text: str, **place: float) -> str:
    return clean_pages([typeset(text, **place)])[0]


def wrapped(text: str, width: int = 60, first: str = "") -> str:
    return textwrap.fill(text.strip(), width, initial_indent=first)


@pytest.mark.parametrize(
    ("printed", "meant"),
    [
        ("the \ufb01rst \ufb02oor o\ufb03ce", "the first floor office"),
        ("two\u00a0\u2009 words\t here ", "two words here"),
        ("\uf0b7 an item", "• an item"),
        ("a\x07 glyph\ufffe\ue123 without\u200b meaning", "a glyph without meaning"),
        ("na\u00a8\u0131ve and f\u00a8ur", "naïve and für"),
        ("\ufee3\ufeae\ufea3\ufe92\ufe8e", "مرحبا"),
        ("\u2f00\u2f8f", "一行"),
        ("let \U0001d465 be 10\u00b2 or \u00bd", "let x be 10² or ½"),
        ("1.2 Wege . . . . . . . . . . 17", "1.2 Wege ... 17"),
        ("Index..............111", "Index... 111"),
        ("\u275a\u2758\u2759\u275a\u2758\u2759 \u275a\u2758\u2759", ""),
        ("* * *", "* * *"),
    ],
)
def test_characters_mean_what_a_reader_sees(printed, meant):
    assert readable(printed) == meant


def test_a_paragraph_becomes_one_line():
    text = wrapped(PROSE) + "\n" + wrapped(PROSE, first="  ")
    assert page(text).split("\n") == [PROSE.strip()] * 2


def test_a_gap_parts_paragraphs_that_are_not_indented():
    assert page(wrapped(PROSE) + "\n\n" + wrapped(PROSE)).split("\n") == [PROSE.strip()] * 2


def test_a_text_written_from_right_to_left_is_joined_too():
    words = "היה יום אביב בהיר וכל העיר ירדה אל הנמל ושם עמדה אנייה ליד הרציף " * 4
    lines = [line._replace(left=572 - line.right, right=500) for line in typeset(wrapped(words))]
    assert clean_pages([lines]) == [words.strip()]


@pytest.mark.parametrize(
    "text",
    [
        "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,",
        "• one thing\n• another thing\n1. a first point\n2. a second point\n(a) and a third",
        "for k in range(10):\n    total += k\n    print(total)\nreturn total",
        "Founders of the city 85\nRecorders of deeds 95\nTransformers of all 100",
    ],
)
def test_lines_that_ended_on_purpose_stay_lines(text):
    expected = [line.strip() for line in text.split("\n")]
    assert page(text).split("\n") == expected
    assert page(wrapped(PROSE) + "\n\n" + text).split("\n") == [PROSE.strip(), *expected]


def test_the_lines_of_a_list_item_hang_together():
    item = textwrap.fill("• " + PROSE.strip(), 60, subsequent_indent="  ")
    assert page(item + "\n" + item).split("\n") == ["• " + PROSE.strip()] * 2


def test_a_heading_stays_apart_from_its_text():
    lines = typeset("Of the Harbour", size=14) + typeset(wrapped(PROSE), top=680)
    assert clean_pages([lines]) == ["Of the Harbour\n" + PROSE.strip()]


def test_a_sentence_runs_on_into_the_next_column():
    lines = wrapped(PROSE, 36).split("\n")
    left, right = typeset("\n".join(lines[:5])), typeset("\n".join(lines[5:]), left=300)
    assert clean_pages([left + right]) == [PROSE.strip()]


def test_exponents_and_split_cells_go_back_to_their_line():
    number, exponent = Line("in R", 72, 500, 92, 510), Line("2", 92, 504, 96, 510)
    cell = Line("yes", 150, 500, 165, 510)
    assert clean_pages([[number, exponent, cell]]) == ["in R2 yes"]


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("the Wright bro\x02", "thers flew", "the Wright brothers flew"),
        ("an ill\x02", "fated ship, ill-fated", "an ill-fated ship, ill-fated"),
        ("the ASVS\x02", "Anforderungen", "the ASVS-Anforderungen"),
        ("we use Java\x02", "Script, yes JavaScript", "we use JavaScript, yes JavaScript"),
        ("NIST 800-", "63b", "NIST 800-63b"),
        ("this is wrong\u2014", "even so", "this is wrong\u2014even so"),
        ("a soft hy\u00ad", "phen", "a soft hyphen"),
    ],
)
def test_words_broken_at_the_end_of_a_line_are_whole(first, second, joined):
    assert page(f"{wrapped(PROSE)}\n{'x' * 40} {first}\n{second}").endswith(joined)


def test_two_known_words_keep_their_hyphen():
    known = "A language is independent. This language, that language. Be independent, independent!"
    text = f"{known}\nAnd so our very own approach is quite entirely language\x02\nindependent."
    assert page(text).endswith("language-independent.")


def test_chinese_lines_are_joined_without_a_space():
    text = "这是一个应用程序安全验证标准的说明文字需要换行显示出来的" * 3
    lines = [Line(text[n : n + 28], 72, 500 - n, 352, 510 - n) for n in range(0, len(text), 28)]
    assert clean_pages([lines]) == [text]


def test_a_word_broken_by_the_end_of_a_page_ends_on_that_page():
    first, second = wrapped(PROSE) + "\nand it was al\x02", "lowed\n\n" + wrapped(PROSE)
    pages = clean_pages([typeset(first), typeset(second)])
    assert pages == [PROSE + "and it was allowed", PROSE.strip()]


def test_a_page_in_a_fonts_own_codes_counts_as_without_text():
    assert clean_pages([typeset("7KLV\x03LV\x03QRW\x03D\x03WH[W")]) == [""]


def book(foot: Callable[[int], str], pages: int = 20) -> list[list[Line]]:
    """Pages numbered from 1, each with a text of its own and with `foot(number)` below it."""
    words = PROSE.split()
    texts = [wrapped(" ".join(words[n:] + words[:n])) for n in range(pages)]
    return [typeset(text) + typeset(foot(n), top=60) for n, text in enumerate(texts, 1)]


def feet(pages: Sequence[str], marks: str) -> list[str]:
    return [text.rpartition("\n")[2] for text in pages if marks in text]


@pytest.mark.parametrize(
    ("foot", "marks"),
    [
        (lambda n: f"{n + 14} #", "#"),
        (lambda n: f"Page # {n} of 412", "#"),
        (lambda n: f"{n} # BOOK" if n % 2 else f"# PART {n // 9} {n}", "#"),
        (lambda n: "# BOOK" if n % 2 else f"# PART {n // 11}", "#"),
        (lambda n: f"# {'i' * n}" if n < 4 else f"# {n - 3}", "#"),
        (lambda n: f"# {(n - 1) % 10 + 1}", "#"),
    ],
)
def test_running_heads_and_page_numbers_are_dropped(foot, marks):
    pages = book(foot)
    assert sum(marks in line.text for page in pages for line in page) == len(pages)
    assert feet(clean_pages(pages), marks) == []


@pytest.mark.parametrize(
    "foot",
    [
        lambda n: "# is rare" if n in (3, 12) else "another line " + "x" * n,
        lambda n: f"# of {n * n} rows are {n * 31 % 17} wide",
    ],
)
def test_text_that_only_looks_like_furniture_stays(foot):
    pages = book(foot)
    assert feet(clean_pages(pages), "#") == [foot(n) for n in range(1, 21) if "#" in foot(n)]


def test_text_below_the_page_number_that_begins_with_it_stays():
    years = ["I was born by the sea.", "My father went away.", "3 ships came back.", "He did not."]
    pages = [typeset(f"{n}\n{text}\nIt was {'so ' * n}.") for n, text in enumerate(years, 1)]
    assert [text.split("\n")[0] for text in clean_pages(pages)] == years


def test_a_heading_at_the_top_of_many_pages_stays():
    pages = [typeset("Objective", top=740, size=16) + sheet for sheet in book(str)]
    assert all(text.startswith("Objective\n") for text in clean_pages(pages))


def test_text_written_sideways_is_joined(tmp_path):
    lines = wrapped(PROSE).split("\n")
    path = tmp_path / "sideways.pdf"
    path.write_bytes(handmade.drawn(handmade.text_at(lines, "0 1 -1 0 300 100")))
    assert read_document(path).text == PROSE.strip()


def test_printers_marks_off_the_page_are_left_out(tmp_path):
    mark = handmade.text_at(["4th pass"], "1 0 0 1 5 5")
    content = handmade.text_at(["The text of the page."]) + mark
    path = tmp_path / "proof.pdf"
    path.write_bytes(handmade.drawn(content, page_entries="/CropBox[50 50 560 740]"))
    assert read_document(path).text == "The text of the page."


def text_file(tmp_path, data: bytes | str, name: str = "notes.txt"):
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_document(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_texts_are_decoded(tmp_path, encoding):
    document = text_file(tmp_path, "Grüße – from “Zoë”\r\n".encode(encoding))
    assert document.text == "Grüße – from “Zoë”"


def test_hard_wrapped_text_is_unwrapped(tmp_path):
    text = "\n\n".join([wrapped(PROSE, 72)] * 5)
    assert text_file(tmp_path, text).text.split("\n") == [PROSE.strip()] * 5


def test_text_with_a_paragraph_on_each_line_keeps_its_lines(tmp_path):
    lines = [(PROSE * 3)[: 40 + 37 * n % 700] for n in range(60)]
    document = text_file(tmp_path, "\n".join(lines))
    assert document.text.split("\n") == [line.strip() for line in lines]


def test_form_feeds_are_pages(tmp_path):
    document = text_file(tmp_path, "The first page.\fThe second.\f\fThe fourth and last page.")
    texts = [page.text for page in document.pages]
    assert texts == ["The first page.", "The second.", "", "The fourth and last page."]


def test_long_texts_are_cut_between_paragraphs_and_nothing_is_lost(tmp_path):
    lines = [f"{n}: {PROSE}".strip() for n in range(200)]
    seen = []
    path = tmp_path / "long.txt"
    path.write_text("\n".join(lines))
    document = read_document(path, on_page=lambda done, total: seen.append((done, total)))
    assert document.text.split("\n") == lines
    assert all(2000 < len(page.text) <= 3000 for page in document.pages[:-1])
    assert seen == [(n, len(document.pages)) for n in range(1, len(document.pages) + 1)]


def test_a_text_in_one_endless_line_is_cut_between_sentences(tmp_path):
    document = text_file(tmp_path, PROSE * 100)
    assert " ".join(page.text for page in document.pages) == (PROSE * 100).strip()
    assert all(page.text.endswith((".", "come.")) for page in document.pages)


def test_markdown_is_left_as_it_stands(tmp_path):
    source = "# Title\n\n```\nif x:\n    y()\n```\n\n- one\n- two\n\n| a | b |\n|---|---|"
    assert text_file(tmp_path, source, "notes.md").text == source


def test_markdown_headings_begin_a_page_where_one_is_due(tmp_path):
    sections = [f"## Part {n}\n\n" + PROSE * 6 for n in range(8)]
    document = text_file(tmp_path, "\n\n".join(sections), "notes.md")
    tops = [page.text.split("\n")[0] for page in document.pages]
    assert tops == [f"## Part {n}" for n in range(8)]


def test_a_text_about_pdfs_is_not_a_pdf(tmp_path):
    assert text_file(tmp_path, "A PDF begins with %PDF-1.7.").text == "A PDF begins with %PDF-1.7."
