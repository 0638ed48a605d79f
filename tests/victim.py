"""A process that reads, summarises and chats until it is killed, telling over a pipe what is saved."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from unittest.mock import patch

import mlx_edgeinf  # noqa: F401 - first of all, as in conftest: MLX binds to the BLAS it finds
from mlx_edgeinf import engine as engine_home
from mlx_edgeinf.cache import Layout
from mlx_edgeinf.chat import Turn
from mlx_edgeinf.document_memory import DocumentMemory
from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.events import Finished, Receipt
from mlx_edgeinf.library import Library, Reader, Reading, past, reader

from tiny import byte_tokenizer, llama_model, with_memory  # isort: skip

# Made without MLX: a process whose MLX has begun to work cannot be forked.
PAGES = tuple(Page(n, "".join(Random(n).sample(ascii_letters + digits, 62))) for n in (1, 2))
TURNS = 8
KEPT = 2  # documents; older ones are deleted
TOKENIZER = byte_tokenizer()


def numbered(number: int) -> Document:
    """The same text as the file of another number."""
    return Document(f"{number}.pdf", f"{number:064x}", PAGES)


def turn(number: int) -> Turn:
    return Turn(f"Question {number}?", f"Answer {number}. " * 40)


def receipt(document: Document) -> Receipt:
    return Receipt(document.name, 2, 2, (), 128, 128, 1.0, "model", "one-shot", False, 1, 2)


class TellingLibrary(Library):
    """Tells of every save of a memory, once it is reported."""

    def __init__(self, folder: Path, told: Connection):
        self._told = told
        super().__init__(folder)

    def save(self, engine: Engine, document: int, memory: DocumentMemory) -> Reading:
        saved = super().save(engine, document, memory)
        self._told.send((int(memory.document.sha256, 16), "reading", saved.position))
        return saved


def tiny_engine() -> Engine:
    """The same one in every process, in a moment."""
    layout = Layout(sinks=2, window=16, segment=16)
    load = lambda *_, **__: (with_memory(llama_model(), layout=layout), TOKENIZER)  # noqa: E731
    with patch.object(engine_home, "load", load):
        return Engine("tiny", recall_gb=0.1)


def live(folder: Path, told: Connection) -> None:
    """Work until killed. Tells (document's number, what, how much) after each thing that is saved."""
    reader.SECONDS_BETWEEN, reader.SHARE, reader.MARK_SHARE = 0.0, 1e9, 1e9
    past.MOST = 1  # so that with two pages checkpoints are thinned too
    engine = tiny_engine()
    told.send("ready")
    library = TellingLibrary(folder, told)
    while True:
        _document(library, engine, told)


def _document(library: Library, engine: Engine, told: Connection) -> None:
    """Go on with the latest document to its end, then begin the next."""
    entries = library.entries()
    number = int(entries[0].sha256, 16) if entries else 0
    id = entries[0].id if entries else library.add(numbered(0)).id
    told.send((number, "document", 1))
    reading = Reader(library, engine, id)
    memory = reading.open(reading.document)
    for _ in reading.ingest(memory):
        pass
    if not library.summaries(id):
        library.finish(engine, id, Finished("A summary.", receipt(reading.document), memory))
    told.send((number, "summary", 1))
    _chat(library, library.reading_of(engine, id).id, id, number, told)
    for old in entries[KEPT - 1 :]:
        library.delete(old.id)
        told.send((int(old.sha256, 16), "deleted", 1))
    library.add(numbered(number + 1))


def _chat(library: Library, reading: int, id: int, number: int, told: Connection) -> None:
    chats = library.chats(id)
    chat = chats[0].id if chats else library.begin_chat(reading)
    for at in range(len(chats[0].turns) if chats else 0, TURNS):
        library.add_turn(chat, turn(at))
        told.send((number, "turns", at + 1))
