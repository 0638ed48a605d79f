"""HTML becomes blocks of clean text."""

from __future__ import annotations

from importlib import import_module

import pytest

from mlx_edgeinf.documents import child


@pytest.fixture(scope="module")
def workers():
    """Imports a module of the child process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(child.WORKERS)
        yield import_module


@pytest.fixture
def blocks(workers):
    return workers("markup").blocks


@pytest.fixture
def decoded(workers):
    return workers("charset").decoded


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>A   <b>bold</b>\n\t<i>word</i>&nbsp;&amp; <span>more</span></p>", "A bold word & more"),
        ("a<div>b<div>c</div>d</div>e", "a|b|c|d|e"),
        ("<p>one<p>two<li>three", "one|two|- three"),
        ("<p>Roses are red,<br/>violets are blue", "Roses are red,\nviolets are blue"),
        ("<h1>A <a href='#x'>title</a><br>in two</h1><h4>Small</h4>", "# A title in two|#### Small"),
        ("<h2> <img src='x'> </h2><p>text</p>", "text"),
        ("<blockquote><p>One.</p><p>Two.<br>Three.</p></blockquote>", "> One.|> Two.\n> Three."),
        ("<pre>def f(x):\n\n    return x\n</pre>", "```\ndef f(x):\n\n    return x\n```"),
        ("<dl><dt>Term<dd>What it means<dt>Other<dd>Its own</dl>", "Term\n: What it means|Other\n: Its own"),
        ("He said <q>no</q>.", "He said “no”."),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字", "漢字"),
    ],
)
def test_what_a_reader_sees_is_written(blocks, html, text):
    assert "|".join(blocks(html)) == text


@pytest.mark.parametrize(
    "html",
    [
        "<script>document.write('no')</script>",
        "<style>p { color: red }</style>",
        "<svg><title>no</title><text>no</text></svg>",
        "<img src='https://example.org/no.png' alt='no'>",
        "<noscript>no</noscript><template>no</template><iframe>no</iframe>",
        "<button>no</button><select><option>no</select><textarea>no</textarea>",
        "<p hidden>no</p><p style='color: red; DISPLAY : none'>no</p>",
        "<!-- no --><?php no ?>",
    ],
)
def test_what_a_reader_does_not_see_is_gone(blocks, html):
    assert blocks(f"<head><title>no</title></head><p>before</p>{html}<p>after</p>") == ["before", "after"]


def test_a_list_is_one_block_with_the_lists_in_it(blocks):
    html = """<p>Before</p><ul><li>One<ol start=3><li>deep<li value=7><p>deeper</p><p>more</p></ol>
    <li><a href="x">Two</a></ul><p>After</p><ul><li>New</ul>"""
    listed = "- One\n  3. deep\n  7. deeper\n     more\n- Two"
    assert blocks(html) == ["Before", listed, "After", "- New"]


def test_a_table_is_rows_of_cells_in_their_columns(blocks):
    html = """<table><caption>Sales</caption><tr><th>Year<th>Sum|net<th>Note
    <tr><td rowspan=2>1999<td><p>5</p><p>6</p><td>x<tr><td>7<td>y<tr><td colspan=2>none<td>z</table>"""
    rows = ["| Year | Sum\\|net | Note |", "| --- | --- | --- |"]
    rows += ["| 1999 | 5 6 | x |", "|  | 7 | y |", "| none |  | z |"]
    assert blocks(html) == ["Sales", "\n".join(rows)]


def test_a_table_of_endless_columns_ends(blocks):
    (table,) = blocks("<table><tr><td colspan=999999999 rowspan=999999999>a<td>b</table>")
    assert len(table) < 2000


@pytest.mark.parametrize("across", [0, -3])
def test_a_cell_takes_a_column_whatever_it_says(blocks, across):
    assert blocks(f"<table><tr><td colspan={across}>a<td>b</table>") == ["| a | b |\n| --- | --- |"]


def test_a_table_that_lays_out_a_page_is_read_as_the_page(blocks):
    html = "<table><tr><td><h2>News</h2><p>Rain.</p><td><table><tr><td>a<td>b</table></table>"
    assert blocks(html) == ["## News", "Rain.", "| a | b |\n| --- | --- |"]
    assert blocks("<table><tr><td><p>One.<p>Two.</table>") == ["One.", "Two."]


def test_raised_and_lowered_numbers_keep_their_meaning(blocks):
    html = "10<sup>2</sup> H<sub>2</sub>O 1<sup>st</sup> a<sup>n+1</sup>"
    assert blocks(html) == ["10² H₂O 1st aⁿ⁺¹"]


def test_notes_come_at_the_end_and_their_marks_stay(blocks):
    html = """<p>A claim<sup><a href="#n1">1</a></sup> and one<a epub:type="noteref" href="x#n2">2</a>.</p>
    <aside id="n1" epub:type="footnote"><p>1. Its source <a href="#r1">↩</a></p></aside>
    <p>The next paragraph.</p><h2>Title<a href="#t">¶</a></h2>
    <ol role="doc-endnotes"><li>Another <a href="#top">source</a></ol><p>Last.</p>"""
    text = ["A claim[1] and one[2].", "The next paragraph.", "## Title", "Last."]
    assert blocks(html) == [*text, "1. Its source", "1. Another source"]


def test_xhtml_is_read_though_its_elements_close_themselves(blocks):
    html = """<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml">
    <head><title/><script src="x"/><style/></head><body><a id="p1"/><p>Text<i/> here</p></body></html>"""
    assert blocks(html) == ["Text here"]


def test_entities_of_a_pages_own_mean_nothing(blocks, tmp_path):
    (tmp_path / "secret").write_text("a secret")
    html = f"""<!DOCTYPE html [<!ENTITY lol "haha"><!ENTITY x SYSTEM "{tmp_path / "secret"}">]>
    <html><body><p>&lol;&x; words</p></body></html>"""
    assert blocks(html) == ["&lol;&x; words"]


def test_a_hundred_thousand_paragraphs_are_read(blocks):
    assert len(blocks("<p>a" * 100_000)) == 100_000


def test_a_hundred_thousand_declarations_do_not_hold_up_the_reading(blocks):
    assert blocks("<!DOCTYPE [" * 100_000 + "<p>a") == ["a"]


def test_a_page_without_anything_has_no_blocks(blocks):
    assert blocks("") == blocks("<!-- nothing -->") == []


@pytest.mark.parametrize(
    ("code", "declared"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", ""),
        ("cp1252", ""),
        ("cp1252", '<meta charset="iso-8859-1">'),
        ("cp1252", '<meta charset="utf-8">'),
        ("cp1252", '<meta charset="klingon">'),
        ("cp1252", '<meta charset="zip">'),
        ("utf-8", '<meta charset="utf-16">'),
        ("cp1250", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1250">'),
        ("cp1250", '<?xml version="1.0" encoding="windows-1250"?>'),
    ],
)
def test_characters_are_read_however_they_are_coded(decoded, code, declared):
    text = f"<html>{declared} Größe – “5 €”"
    for whole in (text, text + "."):
        assert decoded(whole.encode(code)) == whole


def test_bytes_that_are_no_text_are_refused(decoded):
    with pytest.raises(UnicodeError):
        decoded(bytes(range(256)))
