from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import fakes
import pytest
from browsing import FOCUSED, STORY, Visit, served

from mlx_edgeinf.library import Library
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.server import POLICY


@pytest.fixture
def real_address(tmp_path) -> Iterator[str]:
    """The page, served with the starter model."""
    from mlx_edgeinf.engine import Engine

    library = Library(tmp_path / "library")
    with served(Room(Preparation(lambda note: Engine(on_progress=note)), library)) as address:
        yield address
    library.close()


def walk(visit: Visit, pdf: Path, screenshot: Path) -> None:
    """Upload, read to the end, ask: what the page is for."""
    visit.read(pdf)
    receipt = visit.finish(minutes=10)
    assert "4 of 4" in receipt and "Pages without text: 2" in receipt
    assert len(visit.page.inner_text("#summary-text")) > 20
    assert visit.page.locator(".memory svg[role=img]").count() == 1
    assert visit.ask("How many jars were there?", minutes=5)
    visit.page.screenshot(path=screenshot, full_page=True)
    assert screenshot.stat().st_size > 20_000
    assert visit.hosts() == {"127.0.0.1"}
    assert visit.errors == []


def test_a_document_is_read_summarised_and_asked_about(chromium, page_address, pdf, tmp_path):
    with Visit(chromium, page_address) as visit:
        walk(visit, pdf, tmp_path / "finished.png")


@pytest.mark.real_model
def test_the_starter_model_reads_summarises_and_answers(chromium, real_address, pdf, tmp_path):
    with Visit(chromium, real_address) as visit:
        walk(visit, pdf, tmp_path / "finished.png")


def test_stop_ends_a_reading_and_what_was_read_can_be_asked_about(chromium, page_address, fake, tmp_path):
    fake.segment_seconds = 0.3
    long = fakes.small_pdf(tmp_path / "long.pdf", STORY * 25)
    with Visit(chromium, page_address) as visit:
        visit.read(long)
        visit.page.wait_for_selector(".where strong")
        assert not visit.page.is_enabled("#asking textarea")
        visit.page.click("#stop")
        assert "Stopped at page" in visit.finish()
        assert "of 100 pages" not in visit.ask("What was it about?")


def test_closing_the_tab_ends_the_reading(chromium, page_address, fake, tmp_path):
    fake.segment_seconds = 0.3
    with Visit(chromium, page_address) as visit:
        visit.read(fakes.small_pdf(tmp_path / "long.pdf", STORY * 25))
        visit.page.wait_for_selector(".where strong")
    assert fake.cancels[-1].wait(15)


def test_a_bad_file_is_named_in_the_page_and_the_summary_stays(chromium, page_address, pdf, tmp_path):
    bad = tmp_path / "letter.pdf"
    bad.write_bytes(b"Dear all, this is not a PDF.")
    with Visit(chromium, page_address) as visit:
        visit.read(pdf)
        visit.finish()
        # The field is empty again, or there would be nowhere to put a file.
        visit.read(bad)
        assert "letter.pdf" in visit.page.inner_text(".problem")
        assert visit.page.inner_text(".summary h2") == "honey.pdf"
        assert visit.page.is_enabled("#asking textarea")


def test_the_summary_can_be_copied(chromium, page_address, pdf):
    with Visit(chromium, page_address) as visit:
        visit.read(pdf)
        visit.finish()
        visit.page.click("[data-copy]")
        visit.page.wait_for_selector("[data-copy]:has-text('Copied')")
        copied = visit.page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("The book, up to page 4,")
        with visit.page.expect_download() as saved:
            visit.page.click("[data-save]")
        assert saved.value.suggested_filename == "honey.pdf.md"
        assert "- Pages read: 4 of 4" in saved.value.path().read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_everything_without_scrolling_sideways(chromium, page_address, pdf, scheme):
    with Visit(chromium, page_address, width=400, scheme=scheme) as visit:
        visit.read(pdf)
        visit.finish()
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 400
        assert visit.page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


@pytest.mark.parametrize("width, beside", [(1440, True), (1280, False)])
def test_in_a_wide_window_the_chat_stands_beside_the_summary(chromium, page_address, pdf, width, beside):
    with Visit(chromium, page_address, width) as visit:
        visit.read(pdf)
        visit.finish()
        summary, chat = (visit.page.locator(part).bounding_box() for part in (".summary", ".chat"))
        assert (chat["x"] > summary["x"] + summary["width"]) == beside
        assert (chat["y"] > summary["y"] + summary["height"]) == (not beside)


def test_everything_can_be_reached_with_the_keyboard(chromium, page_address, pdf):
    with Visit(chromium, page_address) as visit:
        visit.read(pdf)
        visit.finish()
        visit.page.evaluate("document.activeElement.blur()")
        reached = set()
        for _ in range(26):
            visit.page.keyboard.press("Tab")
            reached.add(visit.page.evaluate(FOCUSED))
        wanted = {"Copy summary", "Save as Markdown", "Rename", "Export", "Delete", "Your question", "Ask"}
        assert wanted | {"Search the library", "Summarise again", "Paste text instead", "one-shot"} <= reached
        assert any("honey.pdf" in each for each in reached)


def test_a_picture_from_elsewhere_is_refused_by_the_browser(chromium, page_address):
    with Visit(chromium, page_address) as visit:
        blocked = visit.page.evaluate(
            """() => new Promise((resolve) => {
                document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
                document.body.appendChild(new Image()).src = "https://elsewhere.invalid/secret.png";
            })"""
        )
        assert blocked == "https://elsewhere.invalid/secret.png"


def test_every_response_carries_the_policy(page_address):
    for path in ("", "config", "nothing-here"):
        assert headers(page_address + path)["Content-Security-Policy"] == POLICY
    assert "http:" not in POLICY and "*" not in POLICY


def test_the_page_answers_to_this_machine_only(page_address):
    assert urlsplit(page_address).hostname == "127.0.0.1"
    request = urllib.request.Request(page_address, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


def headers(url: str) -> Message:
    try:
        with urllib.request.urlopen(url) as response:
            return response.headers
    except urllib.error.HTTPError as error:
        return error.headers
