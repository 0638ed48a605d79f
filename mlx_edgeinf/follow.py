"""A text that grows, read as it comes: a summary of all of it, written anew from time to time.

Its pages go into memory as they fill, in whole segments, so that in the end the memory is the one of
the same text read at once. What is not in it yet, the last lines, is read into a branch of it for
each summary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from .documents import Arrival, Document, DocumentError, LiveText, known_bytes, name_of, opened
from .events import Draft, Finished, Reading, Receipt
from .library import Library, LibraryError
from .library.reader import Pace, kept_memory, require_pages
from .summarize import QUESTION, REVISION

if TYPE_CHECKING:
    from .document_memory import DocumentMemory
    from .engine import Engine

LOOK_EVERY_SECONDS = 0.5
EVERY_TOKENS, PAUSE_SECONDS = 2000, 30.0


class Source(Protocol):
    """Where a text comes from; see `documents.tail`."""

    def next(self, seconds: float) -> Arrival: ...


@dataclass(frozen=True)
class Rule:
    """When a summary is written anew, and how.

    every: so many new tokens have been read; or nothing has come for `pause` seconds, and something
    is new. revised: each revises the one before; otherwise the memory is asked afresh.
    max_tokens: of a summary at most.
    """

    every: int = EVERY_TOKENS
    pause: float = PAUSE_SECONDS
    revised: bool = False
    max_tokens: int = 256


@dataclass(frozen=True)
class Notice:
    """Something happened to the text that its reader should know; one sentence."""

    text: str


@dataclass(frozen=True)
class Update:
    """A summary of all that has come; of the last one the memory can be asked, and is in the library."""

    summary: str
    receipt: Receipt
    final: bool


FollowEvent = Reading | Draft | Notice | Update


class Following:
    """One text on its way.

    Args:
        text: what was read of it before, empty the first time; its `sha256` is what it is known by.
            One without a name gets that of its first words.
        source: what comes behind that.
        cancel: once set, the text ends here.

    Raises:
        LibraryError: what was read before was deleted.
    """

    def __init__(
        self, engine: Engine, library: Library, text: Document, source: Source, rule: Rule, cancel: Event
    ):
        self._engine, self._library, self._source = engine, library, source
        self._rule, self._cancel = rule, cancel
        self._live = LiveText(text.name or "What comes through the pipe", text.pages)
        self._entry = library.find(text.sha256)
        known, self._problem = kept_memory(library, engine, self._entry.id) if self._entry else (None, "")
        self._memory = known or engine.open(text, growing=True)
        self._memory.growing = True
        self._before = text.pages
        self._draft, self._summarised = "", (text.pages, len(self._memory.tokens))
        self._last_arrival = time.monotonic()
        self._held = False
        self._pace = Pace(self._save)

    def run(self) -> Iterator[FollowEvent]:
        """Read what comes until it ends or `cancel` is set; the last event is the final `Update`.

        Raises:
            DocumentError: what comes is no text, or nothing has come.
            LibraryError: it is being read in another window, was read on there meanwhile, or was deleted.
            SaveError: the disk is full; what was saved before is unchanged.
        """
        with ExitStack() as held:
            if self._problem:
                yield Notice(self._problem)
            ended = False
            while not (ended or self._cancel.is_set()):
                arrival = self._source.next(LOOK_EVERY_SECONDS)
                ended = arrival.ended
                if arrival.notice:
                    yield Notice(arrival.notice)
                try:
                    self._take(arrival)
                except DocumentError as error:
                    # A pipe cannot be read again: what came before is finished as if it had ended there.
                    if not (self._memory.document.pages or self._live.rest):
                        raise
                    yield Notice(f"{error} What came before is kept.")
                    ended = True
                self._hold(held)
                yield from self._read(self._cancel)
                if not ended and self._due():
                    yield from self._update()
            yield from self._finish(held)

    # -- reading ------------------------------------------------------------------

    def _take(self, arrival: Arrival) -> None:
        if arrival.breaks:
            self._live.break_line()
        if arrival.data:
            self._last_arrival = time.monotonic()
            self._engine.grow(self._memory, self._live.add(arrival.data))

    def _read(self, cancel: Event) -> Iterator[Reading]:
        for stats in self._engine.ingest(self._memory, cancel):
            yield Reading(stats)
            self._pace.step()

    def _due(self) -> bool:
        pages, tokens = self._summarised
        if self._cancel.is_set() or (*self._memory.document.pages, *self._live.rest) == pages:
            return False
        rest = sum(self._engine.count(page.text) for page in self._live.rest)
        quiet = time.monotonic() - self._last_arrival
        return len(self._memory.tokens) + rest >= tokens + self._rule.every or quiet >= self._rule.pause

    # -- writing ------------------------------------------------------------------

    def _update(self) -> Iterator[Draft | Update]:
        """Summarise all that has come, the page under way included; given up once `cancel` is set."""
        branch = self._engine.branch(self._memory, self._live.rest)
        for _ in self._engine.ingest(branch, self._cancel):
            pass
        yield from self._write(branch, self._cancel, final=False)
        if not self._cancel.is_set():
            yield Update(self._draft, self._receipt(branch, stopped=False), final=False)

    def _finish(self, held: ExitStack) -> Iterator[FollowEvent]:
        """Read the last lines, unless there is more than them to read; summarise, and keep it."""
        behind, unstopped = self._memory.next_segment > 0, Event()
        self._engine.grow(self._memory, self._live.end())
        if not self._memory.document.pages:
            raise DocumentError("No text has come, so there is nothing to summarise.")
        self._hold(held)
        self._memory.growing = False
        if not behind:
            yield from self._read(unstopped)
        if not self._draft or self._summarised[0] != self._memory.document.pages:
            yield from self._write(self._memory, unstopped, final=True)
        receipt = self._receipt(self._memory, stopped=behind)
        self._library.revise(self._entry.id, self._memory.document)
        self._library.finish(self._engine, self._entry.id, Finished(self._draft, receipt, self._memory))
        yield Update(self._draft, receipt, final=True)

    def _write(self, memory: DocumentMemory, cancel: Event, final: bool) -> Iterator[Draft]:
        revise = self._rule.revised and self._draft
        question = REVISION.format(draft=self._draft) if revise else QUESTION
        text = ""
        for text in self._engine.generate([question], memory, self._rule.max_tokens, cancel):
            yield Draft(text.strip(), memory.pages_read, final)
        if not cancel.is_set():
            self._draft = text.strip()
            self._summarised = memory.document.pages, len(memory.tokens)

    def _receipt(self, memory: DocumentMemory, stopped: bool) -> Receipt:
        stats = self._engine.stats(memory)
        return Receipt(
            document=memory.document.name,
            pages=stats.pages_total,
            pages_read=stats.pages,
            pages_without_text=(),
            tokens=stats.tokens_total,
            tokens_read=stats.tokens,
            seconds=stats.seconds,
            model=self._engine.name,
            strategy="rolling" if self._rule.revised else "one-shot",
            stopped=stopped,
            state_bytes=stats.state_bytes,
            peak_bytes=stats.peak_bytes,
            summary_pages=stats.pages,
            max_tokens=self._rule.max_tokens,
            settings=self._engine.settings,
        )

    # -- keeping ------------------------------------------------------------------

    def _hold(self, held: ExitStack) -> None:
        """Once there is a page: put the text in the library, where nobody else may read or delete it now."""
        document = self._memory.document
        if not document.pages or self._held:
            return
        self._memory.document = replace(document, name=document.name or name_of(document.pages))
        expected = self._before if self._entry else document.pages
        self._entry = self._entry or self._library.add(self._memory.document)
        held.enter_context(self._library.under_way(self._entry.id))
        if self._library.document(self._entry.id).pages != expected:
            raise LibraryError(
                f"{self._entry.name} was read on in another window meanwhile: follow it again, from there."
            )
        require_pages(self._memory)
        self._held = True

    def _save(self) -> None:
        self._library.revise(self._entry.id, self._memory.document)
        self._library.save(self._engine, self._entry.id, self._memory)


def known_text(library: Library, path: Path) -> tuple[Document, int]:
    """What a file is known by, with its pages that were read before, and the bytes that they take of it.

    A file that has only grown since goes on where it was; one that begins otherwise is another text.

    Raises:
        DocumentError: it cannot be opened.
    """
    data = opened(path).read_bytes()
    key = sha256(f"followed {path.resolve()}".encode()).hexdigest()
    while entry := library.find(key):
        document = library.document(entry.id)
        length = known_bytes(data, document.pages)
        if length is not None:
            return document, length
        key = sha256(key.encode()).hexdigest()
    return Document(path.name, key, ()), 0


def new_text() -> Document:
    """A text that comes once, through a pipe; it is known by a number of its own."""
    return Document("", sha256(uuid4().bytes).hexdigest(), ())
