"""The tables of the library, and how a database file becomes one.

`search` holds every text a second time, as the index needs it; triggers keep it
in line. A row of `search` is three times the row of its text, plus 0 for a
name, 1 for a page, 2 for a summary, so that it is found without a scan.
"""

from __future__ import annotations

import sqlite3

from . import provenance
from .rows import LibraryError

VERSION = 3
APPLICATION = 0x45644765  # "EdGe", so that no other program's database is taken for a library

CHECKPOINTS = """
CREATE TABLE checkpoints (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reading INTEGER NOT NULL REFERENCES readings ON DELETE CASCADE,
    page INTEGER NOT NULL,
    position INTEGER NOT NULL,
    memory TEXT NOT NULL UNIQUE,
    memory_bytes INTEGER NOT NULL,
    UNIQUE (reading, page)
);
"""

# What makes a database of each version one of the next.
MIGRATIONS = {
    1: CHECKPOINTS + provenance.TABLE + "ALTER TABLE turns ADD COLUMN page INTEGER;",
    2: "ALTER TABLE turns ADD COLUMN consulted TEXT NOT NULL DEFAULT '[]';",
}

TABLES = """
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256 TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    added TEXT NOT NULL,
    original TEXT,
    original_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE pages (
    id INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    number INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document, number)
);
-- text: JSON of the pages that were read, where these are not the document's own.
CREATE TABLE readings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    model TEXT NOT NULL,
    identity TEXT NOT NULL,
    text TEXT NOT NULL,
    position INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    pages_read INTEGER NOT NULL,
    seconds REAL NOT NULL,
    memory TEXT NOT NULL UNIQUE,
    memory_bytes INTEGER NOT NULL,
    saved TEXT NOT NULL,
    UNIQUE (document, identity, text)
);
CREATE TABLE summaries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    reading INTEGER REFERENCES readings ON DELETE SET NULL,
    text TEXT NOT NULL,
    receipt TEXT NOT NULL,
    time TEXT NOT NULL
);
CREATE INDEX summaries_of ON summaries (document);
CREATE INDEX summaries_from ON summaries (reading);
CREATE TABLE chats (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reading INTEGER NOT NULL REFERENCES readings ON DELETE CASCADE,
    started TEXT NOT NULL
);
CREATE INDEX chats_about ON chats (reading);
CREATE TABLE turns (
    id INTEGER PRIMARY KEY,
    chat INTEGER NOT NULL REFERENCES chats ON DELETE CASCADE,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    page INTEGER,
    consulted TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX turns_of ON turns (chat);

CREATE VIRTUAL TABLE search USING fts5 (
    text, document UNINDEXED, kind UNINDEXED, number UNINDEXED, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER name_added AFTER INSERT ON documents BEGIN
    INSERT INTO search (rowid, text, document, kind, number) VALUES (3 * new.id, new.name, new.id, 'name', 0);
END;
CREATE TRIGGER name_changed AFTER UPDATE OF name ON documents BEGIN
    UPDATE search SET text = new.name WHERE rowid = 3 * new.id;
END;
CREATE TRIGGER name_deleted AFTER DELETE ON documents BEGIN
    DELETE FROM search WHERE rowid = 3 * old.id;
END;
CREATE TRIGGER page_added AFTER INSERT ON pages BEGIN
    INSERT INTO search (rowid, text, document, kind, number)
    VALUES (3 * new.id + 1, new.text, new.document, 'page', new.number);
END;
CREATE TRIGGER page_deleted AFTER DELETE ON pages BEGIN
    DELETE FROM search WHERE rowid = 3 * old.id + 1;
END;
CREATE TRIGGER summary_added AFTER INSERT ON summaries BEGIN
    INSERT INTO search (rowid, text, document, kind, number)
    VALUES (3 * new.id + 2, new.text, new.document, 'summary', new.id);
END;
CREATE TRIGGER summary_deleted AFTER DELETE ON summaries BEGIN
    DELETE FROM search WHERE rowid = 3 * old.id + 2;
END;
"""

# secure_delete: what is deleted is overwritten with zeros. fullfsync: on a Mac, fsync alone may leave
# data in the drive's own cache. WAL: readers and one writer do not wait for each other.
PRAGMAS = """
PRAGMA auto_vacuum = FULL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA foreign_keys = ON;
PRAGMA secure_delete = ON;
"""


def lost(folder: str) -> LibraryError:
    return LibraryError(
        f"The library in {folder} has lost its database but not the files beside it: put library.sqlite back "
        "from a backup, or move the folder away to begin a new library."
    )


def prepare(connection: sqlite3.Connection, folder: str, may_create: bool) -> None:
    """Make an open database file the library's, creating the tables if it has none.

    Raises:
        LibraryError: it belongs to another program, to a newer version of this one, or it has
            no tables where there should be some. One of an older version becomes one of this.
    """
    (application,), (version,), (tables,) = (
        connection.execute(query).fetchone()
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
    )
    if version > VERSION and application == APPLICATION:
        raise LibraryError(
            f"The library in {folder} was made by a newer version of this program: update this program."
        )
    if tables and application != APPLICATION:
        raise LibraryError(
            f"The library.sqlite in {folder} belongs to another program: choose another folder."
        )
    if not tables and not may_create:
        raise lost(folder)
    connection.executescript(PRAGMAS)
    if not tables:
        connection.executescript(
            f"BEGIN; {TABLES} {CHECKPOINTS} {provenance.TABLE} PRAGMA application_id = {APPLICATION}; "
            f"PRAGMA user_version = {VERSION}; COMMIT;"
        )
        return
    for before in range(version, VERSION):
        # In one transaction, so that a kill leaves either version.
        connection.executescript(
            f"BEGIN; {MIGRATIONS[before]} PRAGMA user_version = {before + 1}; COMMIT;"
        )
