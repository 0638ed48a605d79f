"""Links from sentences to pages, and the page that one leads to."""

from __future__ import annotations

import re

import fakes
import handmade_pdf as handmade
import pytest
from pages import do, finish

from mlx_edgeinf.chat import Turn
from mlx_edgeinf.documents import Document, Origin, Page
from mlx_edgeinf.ui import handlers
from mlx_edgeinf.ui.links import Links
from mlx_edgeinf.ui.prose import prose
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.session import Session, Stage
from mlx_edgeinf.ui.view import View, render

HOSTILE = "Anna <img src=x onerror=alert(1)> kept forty jars of honey for the fair & </mark></dialog> more."
STORY = [HOSTILE, "The roof of her house had to be mended by the end of the summer.", "Bees flew about."]


def document(*texts: str) -> Document:
    return Document("story.txt", "0" * 64, tuple(Page(number, text) for number, text in enumerate(texts, 1)))


def read(room: Room, session: Session, path) -> View:
    return finish(handlers.read(room, session, [str(path)], "", "", "one-shot"))


@pytest.fixture
def summary(monkeypatch):
    """What the reader without a model writes: of two sentences one is in the story."""
    written = "Anna kept forty jars of honey for the fair. It is a **triumph**."
    monkeypatch.setattr(fakes, "SUMMARY", written)


@pytest.fixture
def story(file):
    return file("story.txt", "\f".join(STORY).encode())


def notes(html: str) -> list[str]:
    return re.findall(r'aria-label="(Page [^"]*|No supporting[^"]*)"', html)


# -- links ---------------------------------------------------------------------------


def test_each_sentence_has_its_pages_or_says_that_there_is_none():
    links = Links(document(*STORY))
    text = "# Anna's honey\n\nAnna kept forty jars of honey.\nNo page says *this*.\n\n- The roof was mended."
    html = links.linked(text)
    assert notes(html) == ["Page 1", "No supporting page found", "Page 2"]
    assert "<h1>Anna's honey</h1>" in html and "<em>this</em>" in html
    assert html.index("jars of honey.") < html.index("Page 1") < html.index("No page says")


def test_a_text_is_the_same_under_its_links():
    text = "# A title\n\nOne. Two *three. Four* five `six. x` seven\\\neight. **Nine.**\n\n1. Ten. Eleven"
    plain = Links(document("")).linked(text)
    assert re.sub("<span.*?</span>", "", plain) == prose(text)
    assert plain.count("No supporting") == 2 * 7


def test_a_sentence_is_looked_up_once_and_its_links_keep_their_numbers():
    links = Links(document(*STORY))
    first = links.linked("The roof of her house had to be mended. Anna kept forty jars of honey.")
    assert links.linked("The roof of her house had to be mended. Anna kept forty jars of honey.") == first
    assert [passage.page for passage in links.passages] == [1, 0]


def test_a_page_of_a_collection_is_named_with_its_file():
    page = Page(1, STORY[1], Origin('<b>"x".pdf', 7))
    html = Links(Document("two", "0" * 64, (page,))).linked("The roof of her house had to be mended.")
    assert 'aria-label="Page 7 of &lt;b&gt;&quot;x&quot;.pdf"' in html and "<b>" not in html


def test_only_what_is_finished_has_links(room, session, story, summary):
    views = handlers.read(room, session, [str(story)], "", "", "one-shot")
    *drafts, last = views
    assert notes(last.summary) == ["Page 1", "No supporting page found"]
    assert not any(notes(view.summary) for view in drafts if "What this covers" not in view.summary)
    session.stage, session.turns = Stage.ANSWERING, [Turn("Why?", "The roof of her house had to be mended.")]
    assert notes(render(session).chat) == []
    session.stage = Stage.IDLE
    assert notes(render(session).chat) == ["Page 2"]


def test_pages_that_were_looked_up_for_an_answer_stand_under_it(room, session, story, summary):
    read(room, session, story)
    view = finish(handlers.ask(room, session, "Why?"))
    assert notes(view.chat.split("Looked up by exact recall")[1]) == ["Page 3"]
    links = len(session.links.passages)
    for opened in (session, later := Session()):
        view = do(room, opened, do="open", id=str(session.entry.id))
        assert notes(view.chat.split("Looked up by exact recall")[1]) == ["Page 3"]
    assert "Bees flew about." in do(room, later, do="page", link=str(len(later.links.passages) - 1)).leaf
    assert len(session.links.passages) <= links, "as often as it is shown, it is one link"


def test_the_file_to_take_along_names_the_pages(room, session, story, summary):
    view = read(room, session, story)
    assert "Anna kept forty jars of honey for the fair. (p. 1) It is a **triumph**.\n" in view.summary


def test_a_document_opened_again_has_its_links(room, session, story, summary):
    read(room, session, story)
    later = Session()
    view = do(room, later, do="open", id=str(session.entry.id))
    assert notes(view.summary) == ["Page 1", "No supporting page found"]


# -- the page ------------------------------------------------------------------------


def test_a_text_is_shown_with_the_passage_marked_and_nothing_of_it_is_html(room, session, story, summary):
    read(room, session, story)
    view = do(room, session, do="page", link="0")
    assert view.leaf.count("<mark>") == view.leaf.count("</mark>") == view.leaf.count("</dialog>") == 1
    assert "<mark>Anna &lt;img src=x onerror=alert(1)&gt; kept forty" in view.leaf and "<img" not in view.leaf
    assert do(room, session, do="leave").leaf == ""


def test_a_pdf_is_shown_as_it_is_printed(room, session, file, summary):
    lines = ["Anna kept forty jars of honey for the fair, so that", "the roof of her house could be mended."]
    view = read(room, session, file("story.pdf", handmade.pdf(lines)))
    assert notes(view.summary)[0] == "Page 1"
    view = do(room, session, do="page", link="0")
    assert 'src="data:image/jpeg;base64,/9j/' in view.leaf and view.leaf.count('<span class="mark"') >= 2
    assert "story.pdf" in view.leaf and "<figcaption>Anna kept" in view.leaf


def test_a_page_that_cannot_be_drawn_is_shown_as_text_with_the_reason(room, session, file, summary):
    read(room, session, file("story.pdf", handmade.pdf(["Anna kept forty jars of honey for the fair."])))
    room.library.original(session.entry.id).write_bytes(b"%PDF-1.4 no more")
    view = do(room, session, do="page", link="0")
    assert 'role="alert">story.pdf is damaged' in view.leaf and "<mark>Anna kept forty" in view.leaf
    room.library.original(session.entry.id).write_bytes(
        handmade.encrypted("sesame", "Anna kept forty jars of honey for the fair.")
    )
    assert "the password is not kept" in do(room, session, do="page", link="0").leaf
    room.library.original(session.entry.id).unlink()
    assert "is gone" in do(room, session, do="page", link="0").leaf


@pytest.mark.parametrize("link", ["7", "-1", "x", "", "²"])
def test_a_link_that_is_not_there_shows_nothing(room, session, story, summary, link):
    read(room, session, story)
    assert do(room, session, do="page", link=link).leaf == ""
    assert do(room, Session(), do="page", link=link).leaf == ""


def test_another_document_takes_the_page_away(room, session, story, file, summary):
    read(room, session, story)
    assert do(room, session, do="page", link="0").leaf
    assert read(room, session, file("other.txt", b"Quite another story of the sea.")).leaf == ""
