"""Between the tables and the one file for another machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from sqlite3 import Connection

from ..documents import Document
from . import queries
from .archive import FORMAT, Archive, Contents, Manifest, PackedChat, PackedReading, PackedSummary
from .files import Files, suffix_of
from .rows import Reading


def gather(db: Connection, document: int, with_original: bool) -> tuple[Contents, list[str]]:
    """All that the tables say of a document, and the files with the memories of its readings.

    Without checkpoints, which would make the file several times as large for a past that few ask for.
    """
    entry, readings = queries.entry(db, document), queries.readings(db, document)
    places = {reading.id: place for place, reading in enumerate(readings)}
    manifest = Manifest(
        FORMAT, entry.name, entry.sha256,
        original=suffix_of(entry.original) if with_original and entry.original else None,
        readings=tuple(_packed(db, reading) for reading in readings),
    )  # fmt: skip
    summaries = (
        PackedSummary(places.get(summary.reading), summary.text, summary.receipt, summary.time)
        for summary in queries.summaries(db, document)
    )
    chats = (
        PackedChat(places[chat.reading], chat.started, chat.turns) for chat in queries.chats(db, document)
    )
    contents = Contents(manifest, queries.pages(db, document), tuple(summaries), tuple(chats))
    return contents, [reading.memory for reading in readings]


def unpack(parcel: Archive, files: Files, undo: ExitStack) -> tuple[list[Path], Path | None]:
    """Copy the memories and the original of a parcel to files of their own, which `undo` removes again."""
    manifest = parcel.contents.manifest
    memories = [undo.enter_context(files.placing(".safetensors")) for _ in manifest.readings]
    for number, memory in enumerate(memories):
        parcel.copy_memory(number, memory)
    if manifest.original is None:
        return memories, None
    original = undo.enter_context(files.placing(manifest.original))
    parcel.copy_original(original)
    return memories, original


def scatter(
    db: Connection, contents: Contents, files: Files, memories: Sequence[Path], original: Path | None
) -> int:
    """Write what came from another machine into the tables; returns the id of the document.

    memories, original: where their files are now.
    """
    manifest = contents.manifest
    id = queries.add_document(db, Document(manifest.name, manifest.sha256, contents.pages), queries.now())
    if original:
        queries.keep_original(db, id, original.name, files.placed(original))
    readings = [
        _unpacked(db, id, reading, contents, path.name, files.placed(path))
        for reading, path in zip(manifest.readings, memories)
    ]
    for summary in contents.summaries:
        reading = None if summary.reading is None else readings[summary.reading]
        queries.add_summary(db, id, reading, summary.text, summary.receipt, summary.time)
    for chat in contents.chats:
        row = queries.add_chat(db, readings[chat.reading], chat.started)
        for turn in chat.turns:
            queries.add_turn(db, row, turn)
    return id


def _packed(db: Connection, reading: Reading) -> PackedReading:
    text = queries.reading_pages(db, reading.id)
    return PackedReading(
        reading.model, reading.identity, queries.text_pages(text) if text else None, reading.position,
        reading.tokens, reading.pages_read, reading.seconds, reading.saved,
    )  # fmt: skip


def _unpacked(
    db: Connection, document: int, reading: PackedReading, contents: Contents, memory: str, nbytes: int
) -> int:
    read = Document("", "", reading.pages or contents.pages)
    return queries.put_reading(
        db, document, reading.identity, queries.text_key(read, contents.pages), reading.saved,
        model=reading.model, position=reading.position, tokens=reading.tokens,
        pages_read=reading.pages_read, seconds=reading.seconds, memory=memory,
        memory_bytes=nbytes,
    )  # fmt: skip
