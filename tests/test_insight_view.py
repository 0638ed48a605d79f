"""The views of what a memory does, as HTML."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from fakes import FakeMemory
from pages import BOOK, PAGES, any_path_is_a_book, book, finish, opened, read, stopped, until  # noqa: F401

from mlx_edgeinf.documents import Origin, Page
from mlx_edgeinf.insight import Insight
from mlx_edgeinf.ui import insight as view

FOLDED = 400
HUNDRED = book(count=100)


def seen(*strengths: float, tokens: int = FOLDED) -> Insight:
    """Of pages of these strengths; nothing was measured on those that are nan."""
    pages = [[s * tokens, tokens] if s == s else [0, 0] for s in strengths]
    return Insight(np.array(pages, dtype=float), np.array([[0.1, 0.2, 0.3], [0.4, 0.8, 0.3]]))


def bars(found: Insight, pages=HUNDRED.pages) -> list[ET.Element]:
    figure = ET.fromstring(view.strength_chart(found, pages))
    return [rect for group in figure.iter("g") if group.get("class") == "bars" for rect in group]


def test_each_measured_page_has_a_bar_as_high_as_it_was_new():
    drawn = bars(seen(np.nan, 0.4, 0.8, 0.2, np.nan))
    assert [rect.find("title").text for rect in drawn] == [
        "Page 2: 40 % new", "Page 3: 80 % new", "Page 4: 20 % new"
    ]  # fmt: skip
    heights = [float(rect.get("height")) for rect in drawn]
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.01) and min(heights) > 10
    bottoms = {round(float(rect.get("y")) + float(rect.get("height"))) for rect in drawn}
    assert len(bottoms) == 1


def test_the_axis_ends_with_the_document_however_far_it_was_read():
    found = seen(0.5, 0.6)
    assert ">page 100</text>" in view.strength_chart(found, HUNDRED.pages)
    assert max(float(rect.get("x")) for rect in bars(found)) < view.LEFT + (view.RIGHT - view.LEFT) / 40


@pytest.mark.parametrize("pages", [3, 119, 120, 121, 500])
def test_a_long_document_has_no_more_bars_than_there_is_room_for(pages):
    document = book(count=pages)
    drawn = bars(seen(*([0.5] * pages)), document.pages)
    assert len(drawn) <= view.MOST_BARS
    assert drawn[-1].find("title").text.endswith(f"{pages}: 50 % new")
    ends = [float(rect.get("x")) + float(rect.get("width")) for rect in drawn]
    assert ends == sorted(ends) and ends[-1] <= view.RIGHT


def test_the_newest_pages_are_named_the_newest_first():
    found = seen(0.1, 0.9, 0.3, 0.95, 0.5, np.nan)
    assert view.most_new(found) == [3, 1, 4]
    assert "Most new to the memory: pages 4, 2 and 5." in view.strength_chart(found, HUNDRED.pages)
    assert "Most new to the memory: page 2." in view.strength_chart(seen(np.nan, 0.4), HUNDRED.pages)


def test_a_page_of_which_little_was_written_is_not_named():
    assert view.most_new(seen(0.9, 0.5, tokens=view.LEAST_TOKENS - 1)) == []
    assert "Too little was written" in view.strength_chart(seen(0.9, tokens=3), HUNDRED.pages)


def test_names_of_files_are_escaped():
    pages = [Page(n, "text", Origin("<img src=x>.pdf", n)) for n in (1, 2, 3)]
    html = view.strength_chart(seen(0.2, 0.9, 0.4), pages)
    assert "<img" not in html and "2 of &lt;img src=x&gt;.pdf" in html


def test_every_head_has_a_cell_as_full_as_its_gate_was_open():
    figure = ET.fromstring(view.gate_map(seen(0.5)))
    rows = [group for group in figure.iter("g") if group.get("class") == "cells"]
    opacities = [[float(cell.get("fill-opacity")) for cell in row.findall("rect")] for row in rows]
    assert opacities == [[0.1, 0.2, 0.3], [0.4, 0.8, 0.3]]
    assert rows[1].find("title").text == "Layer 2: 50 %, most in head 2 (80 %)"
    places = {(cell.get("x"), cell.get("y")) for row in rows for cell in row.findall("rect")}
    assert len(places) == 6


@pytest.mark.parametrize("draw", [lambda: view.strength_chart(seen(0.5, 0.7), HUNDRED.pages),
                                  lambda: view.gate_map(seen(0.5))], ids=["strength", "gates"])  # fmt: skip
def test_the_pictures_can_be_read_without_seeing_them(draw):
    svg = ET.fromstring(draw()).find("svg")
    named = {svg.find(tag).get("id") for tag in ("title", "desc")}
    assert svg.get("role") == "img" and set(svg.get("aria-labelledby").split()) == named
    assert "On average" in svg.find("desc").text and "%" in svg.find("desc").text


def test_what_was_read_before_anything_was_watched_has_no_bars():
    assert view.strength_chart(Insight(np.zeros((0, 2)), np.ones((1, 1))), HUNDRED.pages) == ""
    assert view.strength_chart(Insight(np.zeros((4, 2)), np.ones((1, 1))), HUNDRED.pages) == ""


# -- in the page ---------------------------------------------------------------------


@pytest.mark.usefixtures("any_path_is_a_book")
class TestPage:
    def test_it_is_there_once_something_was_read_and_not_before(self, room, session):
        views = read(room, session)
        assert next(views).insight == ""
        view = finish(views)
        assert '<details class="insight">' in view.insight and "Most new to the memory" in view.insight
        assert "<details" in opened(room)[1].insight

    def test_a_document_read_exactly_has_none(self, room, session, monkeypatch):
        monkeypatch.setattr(FakeMemory, "insight", Insight())
        assert finish(read(room, session)).insight == ""
