"""Documents that were read: each once, kept open for the next question as long as there is room."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Lock

from ..document_memory import DocumentMemory, SaveFileError
from ..engine import Engine
from ..library import Entry, Library, LibraryError, Reader
from ..stats import Stats

LOOK_EVERY_SECONDS = 0.2


class Place:
    """A document and its memory; whoever comes second waits until the first has read.

    Args:
        new_reader: makes a reader of the document as the library has it.
    """

    def __init__(self, new_reader: Callable[[], Reader]):
        self._new_reader, self._reader, self._turn = new_reader, new_reader(), Lock()
        self.memory: DocumentMemory | None = None
        self.users = 0
        self._told = ""

    def read(self, cancel: Event) -> Generator[Stats, None, tuple[DocumentMemory | None, int]]:
        """Read on to the end, where that is still to do; the memory, and how many tokens were read before.

        The memory is None if it was given up waiting for it.

        Raises:
            LibraryError, SaveError, SaveFileError: see `Reader.ingest`.
        """
        while not self._turn.acquire(timeout=LOOK_EVERY_SECONDS):
            if cancel.is_set():
                return None, 0
        try:
            if self.memory is None or self._reader.outdone(self.memory):
                self._reader = self._new_reader()
                self.memory = self._reader.open(self._reader.document)
            before = self.memory.position
            yield from self._reader.ingest(self.memory, cancel)
            return self.memory, before
        except (LibraryError, SaveFileError):
            # Opened while another window reads, without its pages on disk, which that one holds; or torn by a
            # segment that failed. What only could not be saved stays.
            self.memory = None
            raise
        finally:
            self._turn.release()

    def news(self) -> str:
        """What went wrong with the memory, for people; empty from the second time on."""
        trouble = self._reader.trouble(self.memory)
        news, self._told = "" if trouble == self._told else trouble, trouble
        return news


class Memories:
    """Open memories, those asked last.

    Args:
        most: how many are open; documents in use at once must not be more.
    """

    def __init__(self, library: Library, engine: Engine, most: int):
        self._library, self._engine, self._most = library, engine, most
        self._places: dict[int, Place] = {}
        self._changing = Lock()

    @contextmanager
    def using(self, entry: Entry) -> Iterator[Place]:
        """The place of a document, which stays open meanwhile.

        Raises:
            LibraryError: the document was deleted.
        """
        with self._changing:
            new_reader = partial(Reader, self._library, self._engine, entry.id)
            place = self._places.pop(entry.id, None) or Place(new_reader)
            place.users += 1
            self._places[entry.id] = place
            self._make_room()
        try:
            yield place
        finally:
            with self._changing:
                place.users -= 1

    def forget(self, entry: Entry) -> None:
        """Let go of a document that was deleted."""
        with self._changing:
            self._places.pop(entry.id, None)

    def _make_room(self) -> None:
        idle = [key for key, place in self._places.items() if not place.users]
        for key in idle[: max(0, len(self._places) - self._most)]:
            del self._places[key]
