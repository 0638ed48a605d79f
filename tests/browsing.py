"""A browser that visits the page, for tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from mlx_edgeinf.ui.page import build
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.server import serve

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


@contextmanager
def launched() -> Iterator[Browser | None]:
    """Chromium without a window; None if it is not installed."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def served(room: Room) -> Iterator[str]:
    """The address of the page, served in this process."""
    page = build(room)
    try:
        yield serve(page)
    finally:
        page.close()


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
