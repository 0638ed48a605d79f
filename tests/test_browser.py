from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import fakes
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from mlx_edgeinf.library import Library
from mlx_edgeinf.ui.page import build
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.server import POLICY, serve

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-quic", "--no-first-run"]
MINUTE = 60_000
FOCUSED = """() => {
    const { innerText, placeholder, value } = document.activeElement;
    return innerText || placeholder || value;
}"""

STORY = [
    "Anna kept forty jars of honey for the fair, for the roof of her house had to be mended.",
    "",
    "An old woman in a grey coat asked where the bees were kept, and then bought twelve jars.",
    "By evening every jar was sold, and in the week that followed the roof was mended.",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("Chromium is not installed: the page is not tried in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def address(room) -> Iterator[str]:
    """The page, served with a reader that has no model."""
    with served(room) as address:
        yield address


@pytest.fixture
def real_address(tmp_path) -> Iterator[str]:
    """The page, served with the starter model."""
    from mlx_edgeinf.engine import Engine

    library = Library(tmp_path / "library")
    with served(Room(Preparation(lambda note: Engine(on_progress=note)), library)) as address:
        yield address
    library.close()


@contextmanager
def served(room: Room) -> Iterator[str]:
    page = build(room)
    try:
        yield serve(page)
    finally:
        page.close()


@pytest.fixture
def pdf(tmp_path) -> Path:
    return fakes.small_pdf(tmp_path / "honey.pdf", STORY)


class Visit:
    """A tab that opened the page, and what it was seen to do."""

    def __init__(self, browser: Browser, address: str, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.goto(address)

    def __enter__(self) -> Self:
        self.page.wait_for_selector(".model.ready", timeout=10 * MINUTE)
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def read(self, pdf: Path) -> None:
        """Choose a file and press Read."""
        self.page.set_input_files("#upload input[type=file]", pdf)
        self.page.wait_for_selector("#upload .filename")
        self.page.click("#read")

    def finish(self, minutes: int = 1) -> str:
        """Wait for the receipt and return it."""
        self.page.wait_for_selector(".receipt", timeout=minutes * MINUTE)
        return self.page.inner_text(".receipt")

    def ask(self, question: str, minutes: int = 1) -> str:
        """Ask, wait for the end of the answer and return it."""
        self.page.fill("#asking textarea", question)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(f".question:has-text('{question}')")
        self.page.wait_for_selector("[role=log][aria-busy=false]", timeout=minutes * MINUTE)
        return self.page.inner_text("li:last-child > .answer")

    def hosts(self) -> set[str | None]:
        """Every machine that was asked for anything."""
        return {urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))}


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


def test_a_document_is_read_summarised_and_asked_about(chromium, address, pdf, tmp_path):
    with Visit(chromium, address) as visit:
        walk(visit, pdf, tmp_path / "finished.png")


@pytest.mark.real_model
def test_the_starter_model_reads_summarises_and_answers(chromium, real_address, pdf, tmp_path):
    with Visit(chromium, real_address) as visit:
        walk(visit, pdf, tmp_path / "finished.png")


def test_stop_ends_a_reading_and_what_was_read_can_be_asked_about(chromium, address, fake, tmp_path):
    fake.segment_seconds = 0.3
    long = fakes.small_pdf(tmp_path / "long.pdf", STORY * 25)
    with Visit(chromium, address) as visit:
        visit.read(long)
        visit.page.wait_for_selector(".where strong")
        assert not visit.page.is_enabled("#asking textarea")
        visit.page.click("#stop")
        assert "Stopped at page" in visit.finish()
        assert "of 100 pages" not in visit.ask("What was it about?")


def test_closing_the_tab_ends_the_reading(chromium, address, fake, tmp_path):
    fake.segment_seconds = 0.3
    with Visit(chromium, address) as visit:
        visit.read(fakes.small_pdf(tmp_path / "long.pdf", STORY * 25))
        visit.page.wait_for_selector(".where strong")
    assert fake.cancels[-1].wait(15)


def test_a_bad_file_is_named_in_the_page_and_the_summary_stays(chromium, address, pdf, tmp_path):
    bad = tmp_path / "letter.pdf"
    bad.write_bytes(b"Dear all, this is not a PDF.")
    with Visit(chromium, address) as visit:
        visit.read(pdf)
        visit.finish()
        # The field is empty again, or there would be nowhere to put a file.
        visit.read(bad)
        assert "letter.pdf" in visit.page.inner_text(".problem")
        assert visit.page.inner_text(".summary h2") == "honey.pdf"
        assert visit.page.is_enabled("#asking textarea")


def test_the_summary_can_be_copied(chromium, address, pdf):
    with Visit(chromium, address) as visit:
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
def test_a_narrow_window_shows_everything_without_scrolling_sideways(chromium, address, pdf, scheme):
    with Visit(chromium, address, width=400, scheme=scheme) as visit:
        visit.read(pdf)
        visit.finish()
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 400
        assert visit.page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


def test_everything_can_be_reached_with_the_keyboard(chromium, address, pdf):
    with Visit(chromium, address) as visit:
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


def test_a_picture_from_elsewhere_is_refused_by_the_browser(chromium, address):
    with Visit(chromium, address) as visit:
        blocked = visit.page.evaluate(
            """() => new Promise((resolve) => {
                document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
                document.body.appendChild(new Image()).src = "https://elsewhere.invalid/secret.png";
            })"""
        )
        assert blocked == "https://elsewhere.invalid/secret.png"


def test_every_response_carries_the_policy(address):
    for path in ("", "config", "nothing-here"):
        assert headers(address + path)["Content-Security-Policy"] == POLICY
    assert "http:" not in POLICY and "*" not in POLICY


def test_the_page_answers_to_this_machine_only(address):
    assert urlsplit(address).hostname == "127.0.0.1"
    request = urllib.request.Request(address, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


def headers(url: str) -> Message:
    try:
        with urllib.request.urlopen(url) as response:
            return response.headers
    except urllib.error.HTTPError as error:
        return error.headers
