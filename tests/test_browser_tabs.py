"""Eight tabs of one browser at once, each with a document of its own."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import fakes
import pytest
from browsing import MINUTE, Visit, served
from pages import any_path_is_a_book  # noqa: F401
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from mlx_edgeinf.documents import Document
from mlx_edgeinf.stats import Stats
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")

TABS, HALF = 8, 6
ISLANDS = ("Amrum", "Baltrum", "Juist", "Langeness", "Pellworm", "Spiekeroog", "Sylt", "Texel")
NAMES = [f"{island}.pdf" for island in ISLANDS]


@dataclass
class NamingEngine(fakes.FakeEngine):
    """Names the document in all it writes, and reads no further than its half until it is let."""

    let: threading.Event = field(default_factory=threading.Event)
    opened: list[weakref.ref] = field(default_factory=list)

    def open(self, document: Document, *options: object) -> fakes.FakeMemory:
        memory = super().open(document)
        self.opened.append(weakref.ref(memory))
        return memory

    def ingest(self, memory: fakes.FakeMemory, cancel: threading.Event) -> Iterator[Stats]:
        for stats in super().ingest(memory, cancel):
            yield stats
            if stats.pages == HALF:
                self.let.wait(300)

    def generate(
        self, texts: Sequence[str], memory: fakes.FakeMemory, max_tokens: int, cancel: threading.Event
    ) -> Iterator[str]:
        name = memory.document.name
        yield name
        yield f"{name} says so, up to page {memory.pages_read}."

    def alive(self) -> int:
        gc.collect()
        return sum(memory() is not None for memory in self.opened)


def named(text: str) -> list[str]:
    """The documents that are named in a text."""
    return [name for name in NAMES if name in text]


def test_eight_tabs_read_at_once_and_each_keeps_to_its_own_document(chromium, room, tmp_path):
    engine = NamingEngine()
    with served(Room(Preparation(lambda note: engine), room.library)) as address:
        context = chromium.new_context()
        context.set_default_timeout(5 * MINUTE)
        tabs: dict[str, Page] = {}
        for name in NAMES:
            (tmp_path / name).write_bytes(name.encode())
            tabs[name] = context.new_page()
            tabs[name].goto(address)
            tabs[name].wait_for_selector(".model.ready")
        for name, tab in tabs.items():
            tab.set_input_files("#upload input[type=file]", tmp_path / name)
            tab.wait_for_selector("#upload .filename")
            tab.click("#read")
        # None of them waits for another one to be finished.
        for name, tab in tabs.items():
            reached_half(name, tab)
        assert engine.alive() == TABS
        engine.let.set()
        for name, tab in tabs.items():
            tab.wait_for_selector(".receipt")
            assert named(tab.inner_text(".summary")) == [name]
        for tab in tabs.values():
            tab.fill("#asking textarea", "What is it about?")
            tab.keyboard.press("Enter")
        for name, tab in tabs.items():
            tab.wait_for_selector(".answer:has-text('says so')")
            tab.wait_for_selector("[role=log][aria-busy=false]")
            assert named(tab.inner_text(".chat")) == [name]
        tabs.popitem()[1].close()
        assert until_alive(engine, TABS - 1) == TABS - 1
        context.close()
        assert until_alive(engine, 0) == 0


def test_a_page_keeps_one_stream_so_that_no_press_is_lost_between_two(chromium, page_address, pdf):
    with Visit(chromium, page_address) as visit:
        visit.read(pdf)
        visit.finish()
        visit.ask("How many jars were there?")
        assert sum("/queue/data?" in url for url in visit.requests) == 1
        assert visit.errors == []


def reached_half(name: str, tab: Page) -> None:
    """Wait until a tab shows that half of its document is read; else say what it shows."""
    try:
        tab.wait_for_selector(f".where strong:text-is('{HALF}')")
    except PlaywrightTimeout:
        pytest.fail(f"{name} is not read to its half; the tab shows:\n{tab.inner_text('body')}")


def until_alive(engine: NamingEngine, wanted: int) -> int:
    """How many memories there are, once it is as many as wanted or two minutes later."""
    deadline = time.monotonic() + 120
    while engine.alive() != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    return engine.alive()
