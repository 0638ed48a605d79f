"""An engine that reads one document of the library: it goes on where it stopped, and keeps what it reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING

from ..document_memory import DocumentMemory, SaveFileError
from ..documents import Document
from .library import Library
from .past import MOST
from .rows import LibraryError

if TYPE_CHECKING:
    from ..engine import Engine
    from ..stats import Stats

# Checkpoints are this far apart, and never take more of the time of a reading than this.
SECONDS_BETWEEN, SHARE = 30.0, 0.015
# A few that can be asked later are evenly spread over the pages: for these, as much as this.
MARK_SHARE = 0.05


class Reader:
    """Stands in for an engine in `summarize`: the whole of this document comes from the library.

    Other texts, such as the parts of the document, it leaves to the engine.

    Args:
        document: the id of a document in the library.
        recall: of a document that is read for the first time, keep what leaves the window on disk, where
            the engine allows it; one that was begun before goes on as it began.

    Raises:
        LibraryError: it was deleted.
    """

    def __init__(self, library: Library, engine: Engine, document: int, recall: bool = True):
        self._library, self._engine, self._id, self._recall = library, engine, document, recall
        self.document = library.document(document)
        self.name, self.exact_tokens, self.settings = engine.name, engine.exact_tokens, engine.settings
        self.count, self.generate, self.stats = engine.count, engine.generate, engine.stats
        # One sentence for people, where a memory had to be given up.
        self.problem = ""

    def open(self, document: Document) -> DocumentMemory:
        """The memory of what was read of the document before; of nothing, if it is the first time.

        A damaged one is given up and `problem` says so.
        """
        if document != self.document:
            return self._engine.open(document)
        known, self.problem = kept_memory(self._library, self._engine, self._id)
        pages = self._library.pages.wanted(self._engine, self._id) if self._recall else None
        memory = known or self._engine.open(document, pages)
        self.problem = self.problem or memory.refused
        return memory

    def outdone(self, memory: DocumentMemory) -> bool:
        """Whether the library has more than this by now: another window read further, or its text is new.

        Raises:
            LibraryError: it was deleted.
        """
        return self._saved() > memory.position or self._library.document(self._id) != self.document

    def trouble(self, memory: DocumentMemory | None) -> str:
        """For people: which memory had to be given up, and why this one answers without exact recall."""
        told = (self.problem, memory.without_recall if memory else "")
        return " ".join(dict.fromkeys(filter(None, told)))

    def ingest(self, memory: DocumentMemory, cancel: Event | None = None) -> Iterator[Stats]:
        """Read on as `Engine.ingest` does, with a checkpoint from time to time and at the end.

        A reader that is closed half way, without `cancel`, has saved up to its last checkpoint.

        Raises:
            LibraryError: the document is being read in another window, or was deleted; or its pages for exact
                recall, which reading on without them would cost, cannot be written now.
            SaveError: the disk is full; the reading ends at its last checkpoint.
        """
        if memory.document != self.document:
            yield from self._engine.ingest(memory, cancel)
            return
        saved = self._saved()
        if memory.complete and saved >= memory.position:
            return
        with self._library.under_way(self._id):
            require_pages(memory)
            pace = Pace(lambda: self._library.save(self._engine, self._id, memory))
            # Closed here and now, whatever fails: else its pages would stay open for somebody else's reading.
            with closing(self._engine.ingest(memory, cancel)) as steps:
                mark = 0
                for stats in steps:
                    yield stats
                    reached = stats.pages * (MOST + 1) // stats.pages_total
                    # At the end while its pages are held: another window that opens them finds them saved.
                    if memory.complete or (cancel and cancel.is_set()):
                        pace.save()
                        saved = memory.position
                    elif pace.step(marked=reached > mark):
                        mark = reached
            if saved != memory.position:
                pace.save()

    def _saved(self) -> int:
        """Tokens that the library has of the reading by now; -1 without one."""
        known = self._library.reading_of(self._engine, self._id)
        return known.position if known else -1


def require_pages(memory: DocumentMemory) -> None:
    """See that a memory that is to be read on has its pages on disk, if they can be had at another time.

    Raises:
        LibraryError: they cannot be had now: reading on would leave a gap in them, and so cost all of them.
    """
    if memory.not_now and not memory.complete:
        raise LibraryError(f"{memory.document.name} cannot be read on now. {memory.refused}")


def kept_memory(library: Library, engine: Engine, document: int) -> tuple[DocumentMemory | None, str]:
    """What an engine read of a document before, None for nothing; a damaged memory is given up.

    Beside it: a sentence for people that says so.
    """
    known = library.reading_of(engine, document)
    if known is None:
        return None, ""
    try:
        return library.open(engine, known.id), ""
    except SaveFileError as error:
        library.begin_again(known.id)
        return None, str(error)


class Pace:
    """Saves from time to time, so that saving takes at most its share of the time."""

    def __init__(self, save: Callable[[], object], clock: Callable[[], float] = time.monotonic):
        self._save, self._clock = save, clock
        self._soon = clock()
        self._due = self._soon + SECONDS_BETWEEN

    def step(self, marked: bool = False) -> bool:
        """Save, if it is time, which where a checkpoint is `marked` it is sooner; whether it was."""
        timely = self._clock() >= (min(self._soon, self._due) if marked else self._due)
        if timely:
            self.save()
        return timely

    def save(self) -> None:
        """Save now; what it took says when it is time again."""
        began = self._clock()
        self._save()
        ended = self._clock()
        self._soon = ended + (ended - began) / MARK_SHARE
        self._due = ended + max(SECONDS_BETWEEN, (ended - began) / SHARE)
