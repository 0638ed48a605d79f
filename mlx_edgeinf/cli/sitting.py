"""One command at work: its document, its engine, and the library that keeps what it reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from getpass import getpass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..chat import Turn, ask
from ..document_memory import DocumentMemory
from ..documents import Document, PasswordRequired, joined, piped_document, read_document
from ..events import Finished, Reading
from ..library import Checkpoint, Entry, Library, LibraryError, Reader, latest_by
from ..summarize import require_text, summarize
from ..wording import page_places
from .console import Steps, stoppable, watched

if TYPE_CHECKING:
    from ..engine import Engine

Progress = Callable[[int, int], None]


class UnusableEngine(Exception):
    """The model or its gates cannot be used; the message says why."""


class Sitting:
    """The files of a command, read by its model.

    Args:
        args: options as `commands.parse` gives them.

    Raises:
        DocumentError: a file cannot be read. LibraryError: the library cannot be used.
        UnusableEngine: the model or its gates cannot.
    """

    def __init__(self, args: argparse.Namespace):
        document = joined([_document(file) for file in args.files])
        alone = len(args.files) == 1 and args.files[0] != "-"
        with ExitStack() as opened:
            self._engine = opened.enter_context(closing(load_engine(args)))
            self._library = opened.enter_context(closing(Library(args.library)))
            self._entry = self._library.add(document, Path(args.files[0]) if alone else None)
            if args.ocr:
                recognise(self._library, self._entry, args.files)
            self._reader = Reader(self._library, self._engine, self._entry.id)
            self._opened = opened.pop_all()

    def __enter__(self) -> Sitting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def document(self) -> Document:
        """What is read, as the library has it."""
        return self._reader.document

    def summarize(self, strategy: str, max_tokens: int) -> Finished:
        """Read on to the end, summarise, and keep both; Ctrl-C ends it early."""
        with stoppable() as cancel:
            events = summarize(self._reader, self._reader.document, strategy, cancel, max_tokens)
            finished = watched(events)
        self._library.finish(self._engine, self._entry.id, finished)
        _tell(self._reader.trouble(finished.memory))
        return finished

    def conversation(self, by_page: int | None = None) -> Conversation:
        """Read on to the end, and begin to talk about it, or about what was known of it by a page.

        Raises:
            DocumentError: it has no text.
            KeyboardInterrupt: it was stopped before the end.
            LibraryError: of no page so early the memory was kept.
        """
        require_text(self._reader.document)
        memory = self._reader.open(self._reader.document)
        with stoppable() as cancel:
            steps = map(Reading, self._reader.ingest(memory, cancel))
            if not memory.complete:
                watched(steps)
            if cancel.is_set():
                raise KeyboardInterrupt
        _tell(self._reader.trouble(memory))
        if blank := self.document.pages_without_text:
            _tell(f"Pages without text: {page_places(self.document.pages, blank)}.")
        reading = self._library.reading_of(self._engine, self._entry.id)
        page = None
        if by_page and by_page < len(memory.page_ends):
            checkpoint = self._as_of(reading.id, by_page)
            memory, page = self._library.past.open(self._engine, checkpoint), checkpoint.page
            _tell(f"Asked as of page {page}.")
        return Conversation(self._library, self._engine, memory, self._library.begin_chat(reading.id), page)

    def _as_of(self, reading: int, page: int) -> Checkpoint:
        kept = self._library.past.checkpoints(reading)
        if checkpoint := latest_by(kept, page):
            return checkpoint
        pages = ", ".join(str(each.page) for each in kept) or "none"
        raise LibraryError(
            f"The memory of {self._reader.document.name} as of page {page} was not kept: ask as of one of "
            f"these pages ({pages}), or of all."
        )


class Conversation:
    """Questions about a document that was read; each turn is kept in the library."""

    def __init__(
        self, library: Library, engine: Engine, memory: DocumentMemory, chat: int, page: int | None = None
    ):
        self._library, self._engine, self._memory, self._chat = library, engine, memory, chat
        self._page = page
        self._told = memory.without_recall
        self._turns: list[Turn] = []

    def ask(self, question: str, max_tokens: int, cancel: Event) -> Iterator[str]:
        """Answer in the light of what was said before, yielding the whole answer so far."""
        self._latest = Turn(question, "", self._page)
        turns = ask(self._engine, self._memory, question, self._turns, self._page, cancel, max_tokens)
        for self._latest in turns:
            yield self._latest.answer

    def keep(self) -> Turn:
        """Make the latest question and its answer part of the conversation."""
        self._turns.append(self._latest)
        self._library.add_turn(self._chat, self._latest)
        if pages := sorted(self._latest.consulted):
            _tell(f"Looked up by exact recall: {page_places(self._memory.document.pages, pages)}.")
        if (problem := self._memory.without_recall) != self._told:
            _tell(problem)
        # What was wrong with one answer alone is told of the next one too.
        self._told = "" if self._memory.has_recall else problem
        return self._latest


def _tell(sentence: str) -> None:
    """Say something beside what was asked for; nothing, if there is nothing to say."""
    if sentence:
        print(sentence, file=sys.stderr)


def _document(file: str, on_scan: Progress | None = None) -> Document:
    """A file, or stdin; a password is asked for on the terminal."""
    if file == "-":
        return piped_document(sys.stdin.buffer.read())
    try:
        return read_document(file, on_scan=on_scan)
    except PasswordRequired:
        if not sys.stdin.isatty():
            raise
        return read_document(file, getpass(f"Password of {Path(file).name}: "), on_scan=on_scan)


def recognise(library: Library, entry: Entry, files: Sequence[str]) -> None:
    """Recognise the text of pages that have none in the library; what was read of the others stays.

    Raises:
        DocumentError: no recogniser is installed.
    """
    if not library.document(entry.id).pages_without_text:
        return
    with tqdm(unit=" pages", disable=not sys.stderr.isatty(), file=sys.stderr, leave=False) as bar:

        def on_scan(done: int, total: int) -> None:
            bar.total = total
            bar.set_description("Recognising", refresh=False)
            bar.update(done - bar.n)

        document = joined([_document(file, on_scan) for file in files])
    with library.under_way(entry.id):
        library.revise(entry.id, document)


def load_engine(args: argparse.Namespace) -> Engine:
    """The engine that the options of a command name.

    Raises:
        UnusableEngine: the model or its gates cannot be used.
    """
    # Only now: MLX takes seconds to import, and a file that cannot be read is told at once.
    from ..adapter import AdapterError
    from ..basemodel import UnsupportedModel
    from ..engine import Engine
    from ..models import BudgetError
    from ..starter import StarterModelError

    try:
        return Engine(args.model, args.adapter, args.memory_mb, Steps(), args.recall_gb)
    except (AdapterError, BudgetError, StarterModelError, UnsupportedModel) as error:
        raise UnusableEngine(str(error)) from error
