"""The library in a browser: what was read is there again, after the tab and after the server."""

from __future__ import annotations

import gc
import time
import weakref

import fakes
import pytest
from browsing import STORY, Visit, served

from mlx_edgeinf.library import Library
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room


@pytest.fixture
def again(room, fake):
    """The program started anew over the same library."""
    libraries = []

    def start() -> Room:
        libraries.append(Library(room.library.folder))
        return Room(Preparation(lambda note: fake), libraries[-1])

    yield start
    for library in libraries:
        library.close()


def open_document(visit: Visit, name: str) -> None:
    visit.page.click(f"#library button:has-text('{name}')")
    visit.page.wait_for_selector(f"h2:has-text('{name}')")


def test_a_walk_through_the_library(chromium, room, again, fake, tmp_path):
    long = fakes.small_pdf(tmp_path / "long.pdf", STORY * 25)
    fake.segment_seconds = 0.3
    with served(room) as address, Visit(chromium, address) as visit:
        visit.read(long)
        visit.page.wait_for_selector(".where strong")
        visit.page.click("#stop")
        visit.finish()
        assert visit.errors == []
    fake.segment_seconds = 0.0
    with served(again()) as address, Visit(chromium, address) as visit:
        visit.page.wait_for_selector("text=read to page")
        open_document(visit, "long.pdf")
        visit.page.click("#read:has-text('Read on from page')")
        visit.page.wait_for_selector(".eyebrow:has-text('Summary of the whole document')")
        assert "of 100 pages" in visit.ask("What was it about?")
        visit.page.fill("#search input, #search textarea", "grey coat")
        visit.page.wait_for_selector(".excerpt:has-text('An old woman in a grey coat')")
        visit.page.fill("#search input, #search textarea", "")
        visit.page.wait_for_selector(".shelf[aria-label=Documents]")
        visit.page.click(".tools >> text=Export")
        visit.page.wait_for_selector("#export")
        with visit.page.expect_download() as exported:
            visit.page.click("#export")
        parcel = tmp_path / exported.value.suggested_filename
        exported.value.save_as(parcel)
        visit.page.click(".tools >> text=Delete")
        visit.page.click(".danger")
        visit.page.wait_for_selector(".invitation")
        assert visit.page.locator(".shelf").count() == 0
        visit.page.set_input_files("#upload input[type=file]", parcel)
        visit.page.wait_for_selector(".answer:has-text('of 100 pages')")
        visit.page.wait_for_selector("#asking textarea:enabled")
        assert visit.hosts() == {"127.0.0.1"} and visit.errors == []


def test_closing_the_tab_frees_the_memory_it_held(chromium, room, fake, pdf):
    opened = []
    restore = fake.open
    fake.open = lambda document, _: opened.append(weakref.ref(memory := restore(document))) or memory
    with served(room) as address:
        with Visit(chromium, address) as visit:
            visit.read(pdf)
            visit.finish()
            assert opened[0]() is not None
        deadline = time.monotonic() + 30
        while opened[0]() is not None and time.monotonic() < deadline:
            time.sleep(0.2)
            gc.collect()
        assert opened[0]() is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_narrow_window_the_library_is_a_drawer(chromium, room, pdf, scheme):
    with served(room) as address, Visit(chromium, address, width=400, scheme=scheme) as visit:
        visit.read(pdf)
        visit.finish()
        assert not visit.page.is_visible("#library")
        visit.page.click(".drawer")
        visit.page.wait_for_selector("#library", state="visible")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
        visit.page.keyboard.press("Escape")
        visit.page.wait_for_selector("#library", state="hidden")
        visit.page.click(".drawer")
        visit.page.click("#library button:has-text('honey.pdf')")
        visit.page.wait_for_selector("#library", state="hidden")
