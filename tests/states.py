"""Every state of the page, one after another in a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fakes
from pages import PASSWORD

from mlx_edgeinf.library import Library
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room

FILES = ("book.pdf", "damaged.pdf", "locked.pdf")


class SlowRoom:
    """A room whose model is ready, and whose readings go on, once they are let."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.ready = fakes.FakeEngine(), threading.Event()
        self.library = Library(folder / "library")
        self.room = Room(Preparation(self._load), self.library)
        self.files = {name: folder / name for name in FILES}
        for path in self.files.values():
            path.write_bytes(b"opened as `pages.read_document` says")

    def _load(self, note) -> fakes.FakeEngine:
        note("Fetching the starter model", 0.4)
        self.ready.wait(60)
        return self.engine


def states(visit, slow: SlowRoom) -> Iterator[str]:
    """Bring the page from one state into the next, and name it; needs `pages.any_path_is_a_book`."""
    page = visit.page
    page.wait_for_selector(".model.preparing:has-text('40 %')")
    yield "preparing"
    slow.ready.set()
    page.wait_for_selector(".model.ready")
    yield "empty"
    slow.engine.segment_seconds = 0.5
    visit.read(slow.files["book.pdf"])
    page.wait_for_selector(".summary .written p")
    yield "reading"
    page.click("#stop")
    visit.finish()
    slow.engine.segment_seconds = 0.0
    yield "stopped"
    page.click("#read:has-text('Read on')")
    page.wait_for_selector(".eyebrow:has-text('Summary of the whole document')")
    visit.ask("Who kept the honey?")
    yield "finished"
    page.click(".tools >> text=Rename")
    page.wait_for_selector("form.tools input")
    yield "renaming"
    page.click(".tools >> text=Cancel")
    page.click(".tools >> text=Delete")
    page.wait_for_selector(".danger")
    yield "deleting"
    page.click("text=Keep it")
    visit.read(slow.files["damaged.pdf"])
    page.wait_for_selector(".problem")
    yield "failed"
    page.click("#upload [aria-label='Clear']")
    visit.read(slow.files["locked.pdf"])
    page.wait_for_selector("#password input")
    yield "locked"
    page.fill("#password input", PASSWORD)
    page.click("#read")
    page.wait_for_selector("h2:has-text('locked.pdf')")
    visit.finish()
    if page.is_visible(".drawer"):
        page.click(".drawer")
    page.fill("#search input, #search textarea", "story sea")
    page.wait_for_selector(".excerpt")
    yield "found"
    page.keyboard.press("Escape")
