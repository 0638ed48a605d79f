"""What one open page knows: its document, how far it was read, what was written and asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..chat import Turn
from ..events import Draft, Finished, Reading
from ..summarize import STRATEGIES
from .links import Leaf, Links

if TYPE_CHECKING:
    from .. import library
    from ..document_memory import DocumentMemory
    from ..documents import Document
    from ..stats import Stats


class Stage(Enum):
    """What the page is busy with."""

    IDLE = auto()
    OPENING = auto()
    PREPARING = auto()
    READING = auto()
    WRITING = auto()
    ANSWERING = auto()


class Form(Enum):
    """What is asked about the document on show."""

    NONE = auto()
    RENAME = auto()
    DELETE = auto()


@dataclass(frozen=True)
class Book:
    """A document in the library, and how many of its pages were read."""

    entry: library.Entry
    pages_read: int


@dataclass
class Shelf:
    """The library as it was last looked at. hits: what `words` were found in; None without any."""

    books: tuple[Book, ...] = ()
    words: str = ""
    hits: tuple[library.Hit, ...] | None = None


@dataclass
class OnShow:
    """A document on the page, and all that goes with it: with another one all of this begins again.

    reading: how far the present model has read the whole of the document.
    kept: the reading whose memory answers, or is to. obstacle: why it cannot, for people.
    earlier: what was asked of other memories of the document. chat: its id in the library, once its first
    turn is kept.
    links: from what is on show to the pages that support it. leaf: the one of them that is shown.
    checkpoints: of the kept reading. as_of: the one that is asked, with its memory in `past`; None for all.
    form: the one that is open. exported: the size of the file for another machine, once it was made.
    """

    entry: library.Entry | None = None
    document: Document | None = None
    links: Links | None = field(init=False)
    leaf: Leaf | None = None
    reading: library.Reading | None = None
    kept: library.Reading | None = None
    obstacle: str = ""
    memory: DocumentMemory | None = None
    history: list[Stats] = field(default_factory=list)
    latest: Draft | None = None
    finished: Finished | None = None
    earlier: tuple[Turn, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    chat: int | None = None
    checkpoints: tuple[library.Checkpoint, ...] = ()
    as_of: library.Checkpoint | None = None
    past: DocumentMemory | None = None
    form: Form = Form.NONE
    exported: str = ""

    def __post_init__(self) -> None:
        self.links = self.document and Links(self.document)


@dataclass
class Session(OnShow):
    """The state of one page. A page that is closed leaves nothing: see `close`.

    step: what is being opened, prepared or read, and problem: what went wrong, in one sentence for people.
    recall: whether what leaves the window is kept on disk.
    uploads: files in the field, not read yet. locked: the one whose password is asked for.
    cancel: one for each piece of work; set, it ends the work.
    """

    stage: Stage = Stage.IDLE
    step: str = ""
    problem: str = ""
    strategy: str = next(iter(STRATEGIES))
    recall: bool = True
    uploads: tuple[str, ...] = ()
    pasting: bool = False
    locked: str = ""
    passwords: dict[str, str] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    cancel: threading.Event | None = None
    closed: bool = False

    @property
    def busy(self) -> bool:
        """Whether something runs that Stop would end."""
        return self.stage is not Stage.IDLE

    @property
    def stopping(self) -> bool:
        """Whether what runs was told to stop and has not ended yet."""
        return self.busy and self.cancel.is_set()

    @property
    def at_work(self) -> bool:
        """Whether a document is on its way, from its opening to the last word of its summary."""
        return self.busy and self.stage is not Stage.ANSWERING

    @property
    def under_way(self) -> bool:
        """Whether the reading has replaced the one before, and goes on."""
        return self.stage in (Stage.READING, Stage.WRITING)

    @property
    def measured(self) -> bool:
        """Whether there are measurements to show, and no other document is on its way."""
        return bool(self.history) and (self.under_way or not self.at_work)

    @property
    def can_chat(self) -> bool:
        """Whether there is a memory to ask, and nothing is being read."""
        return not self.at_work and self.memory is not None

    @property
    def asked(self) -> DocumentMemory | None:
        """The memory that questions go to."""
        return self.past or self.memory

    @property
    def offered(self) -> bool:
        """Whether something new is handed in, so that Read means that and not the document on show."""
        return self.pasting or bool(self.uploads)

    @property
    def draft(self) -> Draft | None:
        """The draft on show; at the end the one that was taken, as Stop may cut the last short."""
        if self.finished is None:
            return self.latest
        text, page = self.finished.summary, self.finished.receipt.summary_pages
        return Draft(text, page, final=True) if text else None

    def tell_recall(self) -> None:
        """Say why the memory answers without exact recall, if it does though that was wanted."""
        if self.asked:
            self.problem = self.problem or self.asked.without_recall

    def begin(self, stage: Stage) -> None:
        """Start a piece of work; what went wrong before is forgotten, and what was exported no longer all."""
        self.stage, self.cancel = stage, threading.Event()
        self.step = self.problem = self.locked = self.exported = ""
        self.form = Form.NONE

    def rest(self) -> None:
        """End the piece of work, whether it is done or was given up."""
        self.cancel.set()
        self.stage = Stage.IDLE
        if self.closed:
            self._let_go()

    def open(self, entry: library.Entry | None, document: Document | None) -> None:
        """Put a document in the place of the one before, whose summary and chat are gone from the page."""
        vars(self).update(vars(OnShow(entry, document)))

    def nothing_offered(self) -> None:
        """What was handed in has been taken."""
        self.uploads, self.pasting, self.locked = (), False, ""
        self.passwords.clear()

    def take(self, event: Reading | Draft | Finished) -> None:
        """Note one event of a reading."""
        match event:
            case Reading(stats):
                self.stage = Stage.READING
                self.history.append(stats)
            case Draft():
                self.stage = Stage.WRITING
                self.latest = event
            case Finished(memory=memory):
                self.finished, self.memory = event, memory

    def close(self) -> None:
        """Let go of the document and its memory; what runs is told to stop, keeps what it read, and then."""
        self.closed = True
        if self.busy:
            self.cancel.set()
        else:
            self._let_go()

    def _let_go(self) -> None:
        self.nothing_offered()
        self.open(None, None)
