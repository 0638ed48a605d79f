"""The library: every document that was read, with its memories, summaries and chats, in one folder.

Rows are in SQLite, memories and originals are files beside it. Nothing is
reported as saved before it is on disk, and whatever is killed whenever leaves
either the state before or the state after. Any thread may call anything here;
several windows (processes) may have the same library open.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from ..chat import Turn
from ..documents import Document
from ..events import Finished
from . import archive, past, queries, transfer
from .database import Database
from .files import Files
from .pagefolders import PageFolders
from .rows import Chat, Checkpoint, DiskUse, Entry, Hit, LibraryError, Reading, Summary

if TYPE_CHECKING:
    from ..document_memory import DocumentMemory
    from ..engine import Engine

DATABASE = "library.sqlite"


class Library:
    """All that a person has read.

    Args:
        folder: the library's own folder, which no other user of the machine can look into;
            None is in the user's data directory.

    Raises:
        LibraryError: the folder cannot be written, or its database cannot be used.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or user_data_path("mlx_edgeinf", appauthor=False) / "library"
        self._files, self.pages = Files(self.folder), PageFolders(self.folder / "pages")
        with self._files.changing():
            self._db = Database(self.folder / DATABASE, may_create=not self._files.any())
            with self._db.snapshot() as db:
                named, readings = queries.files(db), queries.reading_keys(db)
            self._files.sweep(named)
            self.pages.sweep(readings)
        self.past = past.Past(self.open, self._db, self._files)
        # A deletion may have been killed before this. A full disk puts it off, but does not lock us out.
        with suppress(LibraryError):
            self._db.empty_log()

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    # -- documents ----------------------------------------------------------------

    def add(self, document: Document, original: Path | None = None) -> Entry:
        """Keep a document, and a copy of the file it was read from.

        A file that is there already, by its bytes, stays as it was read the first time; what its
        memories hold is that text.

        Raises:
            LibraryError: the file has changed since it was read.
            SaveError: the disk is full.
        """
        with self._files.changing(), ExitStack() as undo:
            known = self.find(document.sha256)
            if known and (known.original or not original):
                return known
            copy = original and undo.enter_context(self._files.copied(original, document))
            with self._db.transaction() as db:
                id = known.id if known else queries.add_document(db, document, queries.now())
                if copy:
                    queries.keep_original(db, id, copy.name, self._files.placed(copy))
        return self.entry(id)

    def entries(self) -> list[Entry]:
        """All documents, the latest first."""
        with self._db.snapshot() as db:
            return queries.entries(db)

    def entry(self, document: int) -> Entry:
        """A document by its id.

        Raises:
            LibraryError: it was deleted.
        """
        with self._db.snapshot() as db:
            return queries.entry(db, document)

    def find(self, sha256: str) -> Entry | None:
        """The document that was read from a file with these bytes."""
        with self._db.snapshot() as db:
            return queries.entry_of(db, sha256)

    def document(self, document: int) -> Document:
        """A document with its pages, as it was read or last revised."""
        with self._db.snapshot() as db:
            entry = queries.entry(db, document)
            return Document(entry.name, entry.sha256, queries.pages(db, document))

    def original(self, document: int) -> Path | None:
        """The copy of the file that a document was read from."""
        name = self.entry(document).original
        return self._files.path(name) if name else None

    def revise(self, document: int, revised: Document) -> None:
        """Put the pages of a document as it is now in place of those before: it has grown, or was recognised.

        A reading of its beginning goes on from there; one of other pages keeps them, and its summaries.
        """
        with self._db.transaction() as db:
            queries.revise(db, document, revised.pages)

    def rename(self, document: int, name: str) -> None:
        """Give a document another name."""
        if not name.strip():
            raise LibraryError("A document needs a name of at least one letter.")
        with self._db.transaction() as db:
            queries.rename(db, document, name.strip())

    def delete(self, document: int) -> None:
        """Delete a document and everything that was made of it, so that no file here holds its text.

        Rows are overwritten with zeros, the write-ahead log is emptied, memories and the original
        are removed. What no program can promise: SSDs and file systems that copy on write keep old
        blocks until they need the room, and so do backups and snapshots. Disk encryption covers that.

        Raises:
            LibraryError: the document is being read at this moment, or a file of it cannot be removed.
        """
        name = self.entry(document).name
        with self._files.reading(document, name), self._files.changing():
            with self._db.transaction() as db:
                names = queries.delete_document(db, document)
            try:
                self._files.remove(*names)
                self.pages.remove(document)
            finally:
                self._db.empty_log()

    def search(self, words: str, most: int = 50) -> list[Hit]:
        """Names, pages and summaries with all of these words, or with words that begin so; best first."""
        with self._db.snapshot() as db:
            return queries.search(db, words, most)

    def disk_use(self, document: int) -> DiskUse:
        """Bytes that a document takes."""
        with self._db.snapshot() as db:
            return queries.disk_use(db, document, self.pages.nbytes(document))

    # -- readings -----------------------------------------------------------------

    def readings(self, document: int) -> list[Reading]:
        """How far which models have read a document."""
        with self._db.snapshot() as db:
            return queries.readings(db, document)

    def reading_of(self, engine: Engine, document: int) -> Reading | None:
        """How far this engine's model has read the whole document."""
        with self._db.snapshot() as db:
            return queries.reading_of(db, document, engine.identity, "")

    def save(self, engine: Engine, document: int, memory: DocumentMemory) -> Reading:
        """Keep a memory, in place of an earlier one of the same reading; a later one stays.

        On return it is on disk: the new file first, then the row that names it, then the old file goes,
        or stays as a checkpoint.

        Raises:
            LibraryError: the document was deleted, the disk is full.
            SaveFileError, SaveError: see `Engine.save`; what was saved before is unchanged.
        """
        with self._files.changing(saving=True):
            text = queries.text_key(memory.document, self.document(document).pages)
            with self._db.snapshot() as db:
                before = queries.reading_of(db, document, engine.identity, text)
            if before and before.position >= memory.position:
                return before
            with self._files.placing(".safetensors") as path:
                engine.save(memory, path)
                with self._db.transaction() as db:
                    id = queries.put_reading(
                        db, document, engine.identity, text, queries.now(), model=engine.name,
                        position=memory.position, tokens=len(memory.tokens), pages_read=memory.pages_read,
                        seconds=memory.seconds, memory=path.name, memory_bytes=self._files.placed(path),
                    )  # fmt: skip
                    saved = queries.reading(db, id)
                    gone = past.keep(db, before, saved)
            self._files.remove(*gone)
            if not text and not memory.has_recall:
                self.pages.drop(document, queries.identity_key(engine.identity))
            return saved

    def open(self, engine: Engine, reading: int, checkpoint: Checkpoint | None = None) -> DocumentMemory:
        """The memory of a reading, to be asked or read on; or as it was at one of its checkpoints.

        Raises:
            LibraryError: its file cannot be read now; or see `Reading.require`.
            SaveFileError: its file is damaged.
        """
        # Nobody may put another file in its place between looking it up and opening it.
        with self._files.changing():
            with self._db.snapshot() as db:
                found, text = queries.reading(db, reading), queries.reading_pages(db, reading)
                file = past.file_of(db, checkpoint) if checkpoint else found.memory
            document = self.document(found.document)
            if text:
                document = replace(document, pages=queries.text_pages(text))
            found.require(engine, document.name)
            # What is on disk is of the whole reading: a checkpoint of it answers from its memory alone.
            pages = None if text or checkpoint else self.pages.wanted(engine, found.document)
            try:
                return engine.restore(self._files.path(file), document, pages)
            except OSError as error:
                raise LibraryError(
                    f"The memory of {document.name} could not be read ({error.strerror or error}): check the "
                    "disk, then try again."
                ) from error

    def begin_again(self, reading: int) -> None:
        """Forget how far a reading came, as its memory is damaged; summaries and chats stay."""
        with self._db.transaction() as db:
            queries.begin_again(db, reading)

    def under_way(self, document: int) -> AbstractContextManager[None]:
        """Entered while a document is being read: no other window can read or delete it meanwhile.

        Raises:
            LibraryError: it is being read at this moment.
        """
        return self._files.reading(document, self.entry(document).name)

    # -- summaries and chats ------------------------------------------------------

    def finish(self, engine: Engine, document: int, finished: Finished) -> Reading | None:
        """Keep the end of a summary run: the memory that the chat asks, and the summary; either may lack."""
        reading = self.save(engine, document, finished.memory) if finished.memory else None
        if finished.summary:
            id = reading.id if reading else None
            with self._db.transaction() as db:
                queries.add_summary(db, document, id, finished.summary, finished.receipt, queries.now())
        return reading

    def summaries(self, document: int) -> list[Summary]:
        """All summaries of a document, the first one first."""
        with self._db.snapshot() as db:
            return queries.summaries(db, document)

    def begin_chat(self, reading: int) -> int:
        """Begin a chat about a reading; returns its id."""
        with self._db.transaction() as db:
            return queries.add_chat(db, reading, queries.now())

    def add_turn(self, chat: int, turn: Turn) -> None:
        """Keep a question with its whole answer."""
        with self._db.transaction() as db:
            queries.add_turn(db, chat, turn)

    def chats(self, document: int) -> list[Chat]:
        """All chats about a document, the first one first."""
        with self._db.snapshot() as db:
            return queries.chats(db, document)

    # -- one file for another machine ---------------------------------------------

    def export(self, document: int, path: Path, with_original: bool = False) -> None:
        """Write a document with its memories, summaries and chats to one file; checkpoints stay here.

        Raises:
            LibraryError, SaveError: see `archive.write`.
        """
        with self._files.changing():
            with self._db.snapshot() as db:
                contents, names = transfer.gather(db, document, with_original)
            original = self.original(document) if with_original else None
            archive.write(path, contents, [self._files.path(name) for name in names], original)

    def take_over(self, path: Path) -> Entry:
        """Import what another library exported: all of it or, after any error, nothing.

        Raises:
            LibraryError: the document is here already; or see `archive.opened`.
            SaveError: the disk is full.
        """
        with self._files.changing(), archive.opened(path) as parcel, ExitStack() as undo:
            if known := self.find(parcel.contents.manifest.sha256):
                raise LibraryError(f"{known.name} is in the library already: delete it there to import it.")
            memories, original = transfer.unpack(parcel, self._files, undo)
            with self._db.transaction() as db:
                id = transfer.scatter(db, parcel.contents, self._files, memories, original)
        return self.entry(id)
