"""Every question to the tables and every change of them, as a function of an open transaction."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Any

from pydantic import TypeAdapter

from ..chat import Turn
from ..documents import Document, Page
from ..events import Receipt
from . import past
from .database import GONE
from .provenance import add_pages, pages, written
from .rows import Chat, DiskUse, Entry, Hit, LibraryError, Reading, Summary, rows

EXCERPT_WORDS = 16
_RECEIPT = TypeAdapter(Receipt)
_ENTRY = """
    SELECT id, sha256, name, (SELECT count(*) FROM pages WHERE document = documents.id) AS pages,
           added, original, original_bytes
    FROM documents
"""


def now() -> datetime:
    return datetime.now(UTC)


# -- documents ----------------------------------------------------------------------


def add_document(db: Connection, document: Document, added: datetime) -> int:
    """Add a document with its pages; returns its id."""
    new = "INSERT INTO documents (sha256, name, added) VALUES (?, ?, ?)"
    row = db.execute(new, (document.sha256, written(document.name), added.isoformat())).lastrowid
    add_pages(db, row, document.pages)
    return row


def revise(db: Connection, document: int, revised: tuple[Page, ...]) -> None:
    """Put these pages in the place of those that a document has.

    Pages that are added at the end leave its readings what they are: readings of its beginning. Of
    pages that changed, the readings of the whole become readings of a text of their own, and those of a
    text that is the whole again become that.
    """
    before = pages(db, document)
    if revised[: len(before)] == before:
        add_pages(db, document, revised[len(before) :])
        return
    key = text_key(Document("", "", before), revised)
    again = text_key(Document("", "", revised), before)
    db.execute("UPDATE readings SET text = ? WHERE document = ? AND text = ''", (key, document))
    db.execute("UPDATE readings SET text = '' WHERE document = ? AND text = ?", (document, again))
    db.execute("DELETE FROM pages WHERE document = ?", (document,))
    add_pages(db, document, revised)


def keep_original(db: Connection, document: int, original: str, size: int) -> None:
    db.execute(
        "UPDATE documents SET original = ?, original_bytes = ? WHERE id = ?", (original, size, document)
    )


def entries(db: Connection) -> list[Entry]:
    """All documents, the latest first."""
    return [_entry(row) for row in rows(db, _ENTRY + "ORDER BY id DESC")]


def entry(db: Connection, document: int) -> Entry:
    """One document.

    Raises:
        LibraryError: there is none with this id.
    """
    return _entry(_one(db, _ENTRY + "WHERE id = ?", document))


def entry_of(db: Connection, sha256: str) -> Entry | None:
    """The document read from a file with this SHA-256."""
    return next((_entry(row) for row in rows(db, _ENTRY + "WHERE sha256 = ?", sha256)), None)


def rename(db: Connection, document: int, name: str) -> None:
    db.execute("UPDATE documents SET name = ? WHERE id = ?", (written(name), document))


def delete_document(db: Connection, document: int) -> list[str]:
    """Delete a document and all that belongs to it; returns its files."""
    names = [reading.memory for reading in readings(db, document)]
    names += [checkpoint.memory for checkpoint in past.of_document(db, document)]
    original = entry(db, document).original
    db.execute("DELETE FROM documents WHERE id = ?", (document,))
    # The index marks words as deleted; merged into one piece, it has them no more.
    db.execute("INSERT INTO search (search) VALUES ('optimize')")
    return names + [original] if original else names


def files(db: Connection) -> set[str]:
    """Every file that a row names."""
    query = """
        SELECT memory AS file FROM readings UNION SELECT memory FROM checkpoints
        UNION SELECT original FROM documents WHERE original NOT NULL
    """
    return {row["file"] for row in rows(db, query)}


def reading_keys(db: Connection) -> list[tuple[int, str]]:
    """Document and identity of every reading of a whole document."""
    return db.execute("SELECT document, identity FROM readings WHERE text = ''").fetchall()


def disk_use(db: Connection, document: int, pages: int) -> DiskUse:
    """What a document takes; pages: bytes of those for recall."""
    texts = """
        SELECT ifnull(sum(length(CAST(text AS BLOB))), 0) AS bytes FROM (
            SELECT text FROM pages WHERE document = :id
            UNION ALL SELECT text || receipt FROM summaries WHERE document = :id
            UNION ALL SELECT text FROM readings WHERE document = :id
            UNION ALL SELECT question || answer FROM turns WHERE chat IN (
                SELECT id FROM chats WHERE reading IN (SELECT id FROM readings WHERE document = :id)))
    """
    text = db.execute(texts, {"id": document}).fetchone()[0]
    kept = [*readings(db, document), *past.of_document(db, document)]
    memories = sum(each.memory_bytes for each in kept)
    return DiskUse(text, memories, entry(db, document).original_bytes, pages)


# -- readings -----------------------------------------------------------------------


def put_reading(
    db: Connection, document: int, identity: dict[str, str], text: str, saved: datetime, **fields: Any
) -> int:
    """Add a reading, or what it has come to since it was added; returns its id.

    text: see `text_key`. fields: the others of a `Reading`.
    """
    fields |= {"document": document, "identity": identity_key(identity), "text": text}
    fields["saved"] = saved.isoformat()
    names, values = ", ".join(fields), ", ".join(f":{name}" for name in fields)
    changes = ", ".join(f"{name} = excluded.{name}" for name in fields)
    put = f"""
        INSERT INTO readings ({names}) VALUES ({values})
        ON CONFLICT (document, identity, text) DO UPDATE SET {changes} RETURNING id
    """
    return db.execute(put, fields).fetchone()[0]


def readings(db: Connection, document: int) -> list[Reading]:
    """All readings of a document, the first one first."""
    query = "SELECT * FROM readings WHERE document = ? ORDER BY id"
    return [_reading(row) for row in rows(db, query, document)]


def reading(db: Connection, id: int) -> Reading:
    """One reading.

    Raises:
        LibraryError: there is none with this id.
    """
    return _reading(_one(db, "SELECT * FROM readings WHERE id = ?", id))


def reading_of(db: Connection, document: int, identity: dict[str, str], text: str) -> Reading | None:
    """How far a model has read a text of a document."""
    query = "SELECT * FROM readings WHERE document = ? AND identity = ? AND text = ?"
    found = rows(db, query, document, identity_key(identity), text)
    return next((_reading(row) for row in found), None)


def reading_pages(db: Connection, id: int) -> str:
    """The pages that were read as JSON, where they are not the document's own; else empty."""
    return _one(db, "SELECT text FROM readings WHERE id = ?", id)["text"]


def begin_again(db: Connection, id: int) -> None:
    """Forget how far a reading came, so that the next save takes its place."""
    db.execute("UPDATE readings SET position = 0, pages_read = 0 WHERE id = ?", (id,))


def identity_key(identity: dict[str, str]) -> str:
    return json.dumps(identity, sort_keys=True)


def text_key(document: Document, whole: tuple[Page, ...]) -> str:
    """What `text` of a reading is to be: empty for all pages of the document."""
    if document.pages == whole:
        return ""
    return json.dumps([[page.number, written(page.text)] for page in document.pages])


def text_pages(text: str) -> tuple[Page, ...]:
    """The pages in a `text_key` that is not empty."""
    return tuple(Page(number, content) for number, content in json.loads(text))


# -- summaries and chats ------------------------------------------------------------


def add_summary(
    db: Connection, document: int, reading: int | None, text: str, receipt: Receipt, time: datetime
) -> int:
    row = (document, reading, written(text), json.dumps(asdict(receipt)), time.isoformat())
    new = "INSERT INTO summaries (document, reading, text, receipt, time) VALUES (?, ?, ?, ?, ?)"
    return db.execute(new, row).lastrowid


def summaries(db: Connection, document: int) -> list[Summary]:
    """All summaries of a document, the first one first."""
    found = rows(db, "SELECT * FROM summaries WHERE document = ? ORDER BY id", document)
    return [
        Summary(**row | {"receipt": _RECEIPT.validate_json(row["receipt"]), "time": _time(row["time"])})
        for row in found
    ]


def add_chat(db: Connection, reading: int, started: datetime) -> int:
    new = "INSERT INTO chats (reading, started) VALUES (?, ?)"
    return db.execute(new, (reading, started.isoformat())).lastrowid


def add_turn(db: Connection, chat: int, turn: Turn) -> None:
    new = "INSERT INTO turns (chat, question, answer, page, consulted) VALUES (?, ?, ?, ?, ?)"
    consulted = json.dumps(turn.consulted)
    db.execute(new, (chat, written(turn.question), written(turn.answer), turn.page, consulted))


def chats(db: Connection, document: int) -> list[Chat]:
    """All chats about a document, the first one first."""
    query = """
        SELECT chats.* FROM chats JOIN readings ON readings.id = chats.reading
        WHERE document = ? ORDER BY chats.id
    """
    return [
        Chat(row["id"], row["reading"], _time(row["started"]), _turns(db, row["id"]))
        for row in rows(db, query, document)
    ]


def _turns(db: Connection, chat: int) -> tuple[Turn, ...]:
    query = "SELECT question, answer, page, consulted FROM turns WHERE chat = ? ORDER BY id"
    found = rows(db, query, chat)
    return tuple(Turn(**row | {"consulted": tuple(json.loads(row["consulted"]))}) for row in found)


# -- search -------------------------------------------------------------------------


def search(db: Connection, words: str, most: int) -> list[Hit]:
    """Where all of the words stand together, or words that begin with them, the best places first."""
    # As strings, so that nothing in them is taken for the index's own language.
    wanted = " ".join(f'"{word}"*' for word in re.findall(r"\w+", written(words)))
    if not wanted:
        return []
    query = f"""
        SELECT document, name, kind, number, snippet(search, 0, '', '', '…', {EXCERPT_WORDS}) AS excerpt
        FROM search JOIN documents ON documents.id = document
        WHERE search MATCH ? ORDER BY rank LIMIT ?
    """
    return [Hit(**row) for row in rows(db, query, wanted, most)]


# -- rows ---------------------------------------------------------------------------


def _one(db: Connection, query: str, id: int) -> dict[str, Any]:
    row = next(iter(rows(db, query, id)), None)
    if row is None:
        raise LibraryError(GONE)
    return row


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**row | {"added": _time(row["added"])})


def _reading(row: dict[str, Any]) -> Reading:
    whole = row.pop("text") == ""
    changed = {"identity": json.loads(row["identity"]), "saved": _time(row["saved"])}
    return Reading(**row | changed, whole=whole)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
