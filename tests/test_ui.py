from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import fakes
import pytest

from mlx_edgeinf import chat, wording
from mlx_edgeinf.documents import Document, DocumentError, Page, PasswordRequired
from mlx_edgeinf.events import Draft, Finished
from mlx_edgeinf.ui import chart, handlers
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.prose import prose
from mlx_edgeinf.ui.session import Session, Stage
from mlx_edgeinf.ui.view import View, render

PASSWORD = "open sesame"
PAGES = 12


def book(name: str = "book.pdf", pages: int = PAGES, blank: tuple[int, ...] = ()) -> Document:
    texts = ["" if number in blank else f"Chapter {number} of the story." for number in range(1, pages + 1)]
    return Document(name, "0" * 64, tuple(Page(number, text) for number, text in enumerate(texts, 1)))


def read_document(path: Path, password: str | None, on_page) -> Document:
    """Opens any path as a book of that name; some names are trouble."""
    if path.name == "damaged.pdf":
        raise DocumentError("damaged.pdf is damaged: save it again.")
    if path.name == "locked.pdf" and password != PASSWORD:
        raise PasswordRequired("locked.pdf is protected: enter its password.")
    for number in range(1, PAGES + 1):
        on_page(number, PAGES)
    return book(path.name)


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(handlers, "read_document", read_document)
    monkeypatch.setattr(handlers, "summarize", fakes.summarize)
    monkeypatch.setattr(chat, "ask", fakes.ask)


@pytest.fixture
def engine():
    return fakes.FakeEngine()


@pytest.fixture
def ready(engine):
    return Preparation(lambda note: engine)


@pytest.fixture
def session():
    return Session()


def read(ready: Preparation, session: Session, upload: str = "/uploads/book.pdf", password: str = ""):
    return handlers.read(ready, session, upload, password, "rolling")


def finish(views) -> View:
    *_, last = views
    return last


def shown(update: dict) -> bool:
    return update["visible"]


def until(views, condition) -> View:
    return next(view for view in views if condition(view))


def failing(summarize_error: Exception):
    def summarize(*arguments, **options):
        raise summarize_error
        yield

    return summarize


# Reading


def test_reading_shows_every_page_then_the_summary_and_its_receipt(ready, session):
    views = list(read(ready, session))
    progress = " ".join(view.progress for view in views)
    assert all(f"<strong>{page}</strong> of {PAGES} pages" in progress for page in range(1, PAGES + 1))
    assert "Summary of the whole document" in views[-1].summary
    assert "up to page 12" in views[-1].summary
    assert session.finished.receipt.sentence() in views[-1].summary
    assert "Copy summary" in views[-1].summary


def test_drafts_are_shown_with_the_page_they_reach_while_reading_goes_on(ready, session):
    view = until(read(ready, session), lambda view: "<strong>6</strong>" in view.progress)
    assert "Draft after page 4" in view.summary
    assert "Copy summary" not in view.summary


def test_stop_shows_while_reading_and_read_before_and_after(ready, session):
    views = list(read(ready, session))
    assert all(shown(view.stop) and not shown(view.read) for view in views[:-1])
    assert shown(views[-1].read) and not shown(views[-1].stop)


def test_stop_ends_within_a_segment_and_keeps_what_was_read(ready, session):
    views = read(ready, session)
    until(views, lambda view: "<strong>6</strong>" in view.progress)
    stopping = handlers.stop(session)
    assert "Stopping" in stopping.progress and not stopping.stop["interactive"]
    last = finish(views)
    assert session.finished.receipt.stopped and session.finished.receipt.pages_read == 6
    assert "Summary of pages 1–4, stopped at page 6" in last.summary
    assert "what was kept of pages 1–6" in last.chat
    assert last.question["interactive"]


def test_a_draft_that_stop_cut_short_is_not_taken_for_the_summary():
    session = Session(document=book(), history=[fakes.stats(9, PAGES)])
    session.begin(Stage.READING)
    for page, text in ((4, "A whole draft."), (8, "A draft cut")):
        session.take(Draft(text, page, final=False))
    *_, finished = fakes.summarize(fakes.FakeEngine(), book(), "rolling", session.cancel)
    receipt = replace(finished.receipt, pages_read=9, stopped=True)
    session.take(Finished("A whole draft.", receipt, None))
    session.rest()
    summary = render(session).summary
    assert "Summary of pages 1–4, stopped at page 9" in summary
    assert "A whole draft." in summary and "cut" not in summary


def test_stopped_before_the_first_draft_there_is_no_summary_to_copy(ready, session):
    views = read(ready, session)
    until(views, lambda view: "<strong>2</strong>" in view.progress)
    handlers.stop(session)
    last = finish(views)
    assert "No summary, stopped at page 2" in last.summary and "Copy summary" not in last.summary
    assert last.question["interactive"]


def test_stop_before_the_model_is_ready_gives_up(session):
    gate = threading.Event()
    views = read(Preparation(lambda note: gate.wait(10)), session)
    until(views, lambda view: "Preparing the model" in view.progress)
    handlers.stop(session)
    finish(views)
    gate.set()
    assert session.document is None and not session.busy


def test_stop_while_a_document_is_opened_keeps_the_one_before(monkeypatch, ready, session):
    finish(read(ready, session))
    going, ended = threading.Event(), threading.Event()

    def slow(path, password, on_page):
        assert going.wait(10)
        try:
            on_page(1, 1000)
        finally:
            ended.set()

    monkeypatch.setattr(handlers, "read_document", slow)
    views = read(ready, session, "/uploads/slow.pdf")
    assert "Opening slow.pdf" in next(views).progress
    handlers.stop(session)
    assert "book.pdf" in finish(views).summary
    going.set()
    assert ended.wait(10)


def test_a_closed_tab_ends_the_reading(ready, engine, session):
    views = read(ready, session)
    until(views, lambda view: "<strong>3</strong>" in view.progress)
    views.close()
    assert engine.cancels[-1].is_set() and not session.busy


def test_a_forgotten_page_keeps_nothing(ready, engine, session):
    finish(read(ready, session))
    session.close()
    assert session.document is None and session.finished is None and not session.turns


def test_the_same_document_is_not_opened_twice(monkeypatch, ready, session):
    finish(read(ready, session))
    monkeypatch.setattr(handlers, "read_document", None)
    assert "Summary of the whole document" in finish(read(ready, session)).summary


def test_pages_without_text_are_listed(monkeypatch, ready, session):
    scan = book(blank=(3, 7, 8))
    monkeypatch.setattr(handlers, "read_document", lambda path, password, on_page: scan)
    view = until(read(ready, session), lambda view: "<strong>1</strong>" in view.progress)
    assert "3 of 12 pages have no text (3, 7–8)" in view.summary


def test_the_title_of_the_tab_follows_the_reading(ready, session):
    views = list(read(ready, session))
    titles = [title for view in views for title in re.findall(r'data-title="(.*?)"', view.progress)]
    assert titles[0] == "8 % · book.pdf" and titles[-1] == "100 % · book.pdf"
    assert "data-busy" not in views[-1].progress


# What goes wrong


def test_reading_nothing_asks_for_a_file(ready, session):
    view = finish(handlers.read(ready, session, None, "", "rolling"))
    assert handlers.NO_FILE in view.notice and shown(view.read)


def test_a_damaged_file_is_named_and_the_summary_before_stays(ready, session):
    finish(read(ready, session))
    memory = session.finished.memory
    view = finish(read(ready, session, "/uploads/damaged.pdf"))
    assert "damaged.pdf is damaged" in view.notice and 'role="alert"' in view.notice
    assert "book.pdf" in view.summary and session.finished.memory is memory
    assert view.question["interactive"]


def test_a_document_without_any_text_does_not_replace_the_one_before(monkeypatch, ready, session):
    finish(read(ready, session))
    error = DocumentError("scan.pdf has no text on any page.")
    monkeypatch.setattr(handlers, "summarize", failing(error))
    view = finish(read(ready, session, "/uploads/scan.pdf"))
    assert "scan.pdf has no text" in view.notice
    assert "book.pdf" in view.summary and view.question["interactive"]


def test_the_error_goes_when_another_file_is_chosen(ready, session):
    finish(read(ready, session, "/uploads/damaged.pdf"))
    assert handlers.choose(session).notice == ""


def test_a_password_is_asked_for_and_then_reading_goes_on(ready, session):
    asked = finish(read(ready, session, "/uploads/locked.pdf"))
    assert shown(asked.password) and "locked.pdf is protected" in asked.notice
    wrong = finish(read(ready, session, "/uploads/locked.pdf", "guess"))
    assert shown(wrong.password)
    right = finish(read(ready, session, "/uploads/locked.pdf", PASSWORD))
    assert "Summary of the whole document" in right.summary
    assert not shown(right.password) and right.password["value"] == ""


def test_a_model_that_cannot_be_made_ready_says_why_and_is_tried_again(session, engine):
    attempts = []

    def load(note):
        attempts.append(note)
        if len(attempts) == 1:
            raise OSError("the network is down")
        return engine

    preparation = Preparation(load)
    *_, line = handlers.show_model(preparation)
    assert "the network is down" in line
    assert "Summary of the whole document" in finish(read(preparation, session)).summary
    *_, line = handlers.show_model(preparation)
    assert "A small fake model is ready" in line


def test_a_model_that_never_gets_ready_is_told_in_the_page(session):
    def load(note):
        raise OSError("the network is down")

    assert "the network is down" in finish(read(Preparation(load), session)).notice


def test_preparing_is_told_in_percent():
    told, going = threading.Event(), threading.Event()

    def load(note):
        note("Downloading the starter model", 0.4)
        told.set()
        assert going.wait(5)
        return fakes.FakeEngine()

    lines = handlers.show_model(Preparation(load))
    assert told.wait(5)
    assert any("Downloading the starter model: 40 %" in next(lines) for _ in range(2))
    going.set()
    assert "ready" in finish(lines)


def test_an_unforeseen_fault_leaves_the_page_usable(monkeypatch, ready, session):
    finish(read(ready, session))
    monkeypatch.setattr(handlers, "summarize", failing(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError):
        finish(read(ready, session, "/uploads/other.pdf"))
    view = handlers.broken(session)
    assert handlers.BROKEN in view.notice and shown(view.read)
    assert "book.pdf" in view.summary


# Asking


def test_there_is_nothing_to_ask_until_something_was_read(ready, session):
    view = finish(handlers.ask(ready, session, "What is it about?"))
    assert not view.question["interactive"] and not session.turns
    assert "Once something was read" in view.chat


def test_there_is_nothing_to_ask_while_a_document_is_read(ready, session):
    finish(read(ready, session))
    view = until(read(ready, session, "/uploads/next.pdf"), lambda view: "Reading next.pdf" in view.progress)
    assert not view.question["interactive"] and not view.ask["interactive"]


def test_an_answer_grows_and_the_question_field_is_emptied(ready, session):
    finish(read(ready, session))
    views = list(handlers.ask(ready, session, "Who is it about?"))
    assert views[0].question["value"] == ""
    assert all("value" not in view.question for view in views[1:])
    lengths = [len(view.chat) for view in views]
    assert lengths == sorted(lengths) and lengths[-1] > lengths[0] + 20
    assert "after 0 others, of 12 pages" in views[-1].chat


def test_earlier_questions_go_along(ready, session):
    finish(read(ready, session))
    finish(handlers.ask(ready, session, "First?"))
    assert "after 1 others" in finish(handlers.ask(ready, session, "Second?")).chat


def test_an_answer_can_be_stopped_and_what_was_said_stays(ready, session):
    finish(read(ready, session))
    views = handlers.ask(ready, session, "Who is it about?")
    running = until(views, lambda view: "You asked" in view.chat)
    assert shown(running.stop_answer) and not shown(running.ask)
    handlers.stop(session)
    last = finish(views)
    assert "You asked" in last.chat and "pages read" not in last.chat
    assert shown(last.ask) and not shown(last.stop_answer)


def test_another_document_starts_another_chat(ready, session):
    finish(read(ready, session))
    finish(handlers.ask(ready, session, "Who is it about?"))
    assert "Who is it about?" not in finish(read(ready, session, "/uploads/next.pdf")).chat


# What is written by others


def test_prose_keeps_the_shape_of_a_text():
    html = prose("# Title\n\n**Bold** words\n\n- one\n- two")
    assert all(tag in html for tag in ("<h1>", "<strong>", "<li>one</li>"))


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://elsewhere.example/?q=secret)",
        "![x][r]\n\n[r]: https://elsewhere.example/",
        "[click](https://elsewhere.example/)",
        "<https://elsewhere.example/>",
        '<img src="https://elsewhere.example/x.png">',
        '<p style="background:url(https://elsewhere.example)">hi</p>',
        "<script>fetch('https://elsewhere.example')</script>",
        "[x](javascript:alert(1))",
    ],
)
def test_prose_cannot_reach_out(text):
    assert not re.search(r"<(?!/?(p|br)\b)", prose(text))


def test_names_and_pages_of_a_document_are_escaped(monkeypatch, ready, session):
    bad = "<img src=x>.pdf"
    hostile = Document(bad, "0" * 64, tuple(Page(n, "<b>bold</b> & more text here") for n in (1, 2)))
    monkeypatch.setattr(handlers, "read_document", lambda *_: hostile)
    html = " ".join(part for view in read(ready, session) for part in view if isinstance(part, str))
    assert "&lt;img" in html and "&lt;b&gt;bold" in html
    assert "<img" not in html and "<b>" not in html


# The chart


def history(pages: int = 40):
    return [fakes.stats(page, pages) for page in range(1, pages + 1)]


def lines(svg: ET.Element) -> dict[str, list[tuple[float, float]]]:
    return {
        group.get("class"): [
            tuple(map(float, point.split(","))) for point in group.find("polyline").get("points").split()
        ]
        for group in svg.iter("g")
    }


def figure(stats) -> ET.Element:
    return ET.fromstring(chart.memory_chart(stats))


def test_the_measured_line_is_flat_where_the_full_cache_rises():
    drawn = lines(figure(history()))
    full_state = 1 + fakes.STATE_BYTES // (fakes.KV_BYTES_PER_TOKEN * fakes.TOKENS_PER_PAGE)
    heights = {y for _, y in drawn["measured"][full_state:]}
    assert len(heights) == 1
    rising = [y for _, y in drawn["full"]]
    assert rising == sorted(rising, reverse=True) and rising[-1] < rising[0] - 50
    assert drawn["full"][0] == drawn["measured"][0]


def test_what_is_ahead_reaches_the_end_of_the_document():
    drawn = lines(figure(history(40)[:10]))
    assert drawn["ahead"][0] == drawn["full"][-1]
    assert drawn["ahead"][1][0] == chart.RIGHT
    assert drawn["ahead"][1] == lines(figure(history(40)))["full"][-1]


def test_every_point_lies_in_the_picture():
    for points in lines(figure(history())).values():
        for x, y in points:
            assert chart.LEFT <= x <= chart.RIGHT and chart.TOP <= y <= chart.BOTTOM


def test_a_single_measurement_can_be_seen():
    dots = {group.get("class"): group.find("circle") for group in figure(history(1)).iter("g")}
    assert float(dots["measured"].get("cx")) == chart.RIGHT
    assert float(dots["measured"].get("cy")) > chart.TOP


def test_the_chart_can_be_read_without_seeing_it():
    svg = figure(history(40)[:10]).find("svg")
    named = {svg.find(tag).get("id") for tag in ("title", "desc")}
    assert svg.get("role") == "img" and set(svg.get("aria-labelledby").split()) == named
    assert svg.find("desc").text.startswith("After page 10 of 40, 218 MB are in use")
    assert "script" not in chart.memory_chart(history())


@pytest.mark.parametrize("top", [1, 37, 999, 48e6, 5.0e8, 1.01e9, 3.7e12])
def test_ticks_are_few_and_reach_the_top(top):
    ticks = chart.tick_values(top)
    assert ticks[0] == 0 and 3 <= len(ticks) <= chart.MOST_STEPS + 1
    assert ticks[-1] >= top > ticks[-2]


@pytest.mark.parametrize("length", [1, 2, 149, 150, 151, 5000])
def test_a_long_reading_is_thinned_but_keeps_its_ends(length):
    whole = list(range(length))
    few = chart.thinned(whole)
    assert few[0] == 0 and few[-1] == length - 1
    assert len(few) == len(set(few)) <= chart.MOST_POINTS + 1


# Words for numbers


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (wording.size(0), "0 bytes"),
        (wording.size(3_800_000_000), "3.8 GB"),
        (wording.size(214_400_000), "214 MB"),
        (wording.size(999_600), "1 MB"),
        (wording.duration(59.6), "1 min 0 s"),
        (wording.duration(723), "12 min 3 s"),
        (wording.duration(3840), "1 h 4 min"),
        (wording.time_left(20), "less than a minute left"),
        (wording.time_left(850), "about 14 min left"),
        (wording.time_left(3599), "about 1 h 0 min left"),
        (wording.counted(1, "page"), "1 page"),
        (wording.counted(1352, "page"), "1,352 pages"),
        (wording.page_ranges((3, 17, 18, 19)), "3, 17–19"),
        (wording.read_pages(352, 352), "the whole document"),
        (wording.read_pages(120, 352), "pages 1–120"),
        (wording.read_pages(0, 352), "the beginning of the first page"),
    ],
)
def test_numbers_are_said_as_people_say_them(words, expected):
    assert words == expected


# The house


def test_the_page_opens_before_mlx_is_imported():
    code = "import sys, mlx_edgeinf.ui.page, mlx_edgeinf.ui.server; print('mlx.core' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_gradio_is_told_to_report_nothing():
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


@pytest.mark.parametrize("scheme", [":root", ".dark"])
def test_words_stand_out_from_what_they_are_on(scheme):
    colours = palette(scheme)
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent", "warm") for ground in ("paper", "sheet")]
    for ink, ground in [*pairs, ("on-accent", "accent"), ("on-accent", "accent-strong")]:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def palette(scheme: str) -> dict[str, str]:
    style = files("mlx_edgeinf.ui").joinpath("style", "palette.css").read_text("utf-8")
    block = style.split(scheme + " {")[1].split("}")[0]
    return dict(re.findall(r"--([\w-]+): (#\w{6});", block))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))
