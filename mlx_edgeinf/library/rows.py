"""What the library knows, as its rows: documents, readings, summaries, chats, and what a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection, Row
from typing import TYPE_CHECKING, Any

from ..chat import Turn
from ..document_memory import different
from ..events import Receipt

if TYPE_CHECKING:
    from ..engine import Engine


def rows(db: Connection, query: str, *values: Any) -> list[dict[str, Any]]:
    """What a query finds, by the names of its columns."""
    cursor = db.execute(query, values)
    cursor.row_factory = Row
    return [dict(row) for row in cursor]


class LibraryError(Exception):
    """Something the library cannot do; the message says what, why, and what to do."""


class OtherModel(LibraryError):
    """A memory was made with another model, gates, layout or size of memory than those it is opened with."""


@dataclass(frozen=True)
class Entry:
    """A document in the library. original: its file there; None if only the text was kept."""

    id: int
    sha256: str
    name: str
    pages: int
    added: datetime
    original: str | None
    original_bytes: int


@dataclass(frozen=True)
class Reading:
    """How far one model read one text, and the file with its memory.

    whole: the text is the document's own; else its beginning, or the summaries of its parts.
    identity: what must be the same to open the memory; see `savefile.identity`.
    position, tokens: read, and of the text. seconds: spent reading.
    """

    id: int
    document: int
    model: str
    identity: dict[str, str]
    whole: bool
    position: int
    tokens: int
    pages_read: int
    seconds: float
    memory: str
    memory_bytes: int
    saved: datetime

    @property
    def complete(self) -> bool:
        return self.position == self.tokens

    def require(self, engine: Engine, name: str) -> None:
        """See that this engine can open the memory. name: of the document.

        Raises:
            OtherModel: it cannot.
        """
        if wrong := different(self.identity, engine.identity):
            raise OtherModel(
                f"{name} was read by {self.model}, with another {wrong} than those of {engine.name} now: "
                "choose that again, or read the document anew."
            )


@dataclass(frozen=True)
class Checkpoint:
    """The memory of a reading as it was on its way. page: the last one of which it may know anything."""

    id: int
    reading: int
    page: int
    position: int
    memory: str
    memory_bytes: int


@dataclass(frozen=True)
class Summary:
    """A summary as it ended. reading: whose memory it was asked of; None if that is gone."""

    id: int
    document: int
    reading: int | None
    text: str
    receipt: Receipt
    time: datetime


@dataclass(frozen=True)
class Chat:
    """Questions and answers about one reading."""

    id: int
    reading: int
    started: datetime
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Hit:
    """A place where the words of a search stand.

    kind: "name", "page" or "summary". number: of the page, or the summary's id; 0 for a name.
    """

    document: int
    name: str
    kind: str
    number: int
    excerpt: str


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a document takes: text with summaries and chats, memories with checkpoints, original, pages.

    pages: for exact recall.
    """

    text: int
    memories: int
    original: int
    pages: int = 0

    @property
    def total(self) -> int:
        return self.text + self.memories + self.original + self.pages
