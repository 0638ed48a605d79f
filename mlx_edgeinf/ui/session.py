"""What one open page knows: its document, how far it was read, what was written and asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..chat import Turn
from ..events import Draft, Finished, Reading

if TYPE_CHECKING:
    from ..documents import Document
    from ..engine import Stats


class Stage(Enum):
    """What the page is busy with."""

    IDLE = auto()
    OPENING = auto()
    PREPARING = auto()
    READING = auto()
    WRITING = auto()
    ANSWERING = auto()


@dataclass
class Session:
    """The state of one page. A page that is closed leaves nothing: see `close`."""

    stage: Stage = Stage.IDLE
    step: str = ""  # what is being opened, prepared or read, for people
    problem: str = ""  # one sentence, for people
    wants_password: bool = False
    source: str = ""  # where the document was uploaded to
    document: Document | None = None
    history: list[Stats] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)  # the latest of each page reached
    finished: Finished | None = None
    turns: list[Turn] = field(default_factory=list)
    cancel: threading.Event | None = None  # one for each piece of work; set, it ends the work

    @property
    def busy(self) -> bool:
        """Whether something runs that Stop would end."""
        return self.stage is not Stage.IDLE

    @property
    def stopping(self) -> bool:
        """Whether what runs was told to stop and has not ended yet."""
        return self.busy and self.cancel.is_set()

    @property
    def reading(self) -> bool:
        """Whether a document is on its way, from its opening to the last word of its summary."""
        return self.busy and self.stage is not Stage.ANSWERING

    @property
    def under_way(self) -> bool:
        """Whether the reading has replaced the one before, and goes on."""
        return self.stage in (Stage.READING, Stage.WRITING)

    @property
    def measured(self) -> bool:
        """Whether there are measurements to show, and no other document is on its way."""
        return bool(self.history) and (self.under_way or not self.reading)

    @property
    def can_chat(self) -> bool:
        """Whether there is a memory to ask, and nothing is being read."""
        return not self.reading and self.finished is not None and self.finished.memory is not None

    @property
    def draft(self) -> Draft | None:
        """The draft on show; at the end the one that was taken, as Stop may cut the last short."""
        latest = self.drafts[-1] if self.drafts else None
        if self.finished is None:
            return latest
        taken = (draft for draft in self.drafts if draft.text == self.finished.summary)
        return next(taken, latest)

    def begin(self, stage: Stage) -> None:
        """Start a piece of work; what went wrong before is forgotten."""
        self.stage, self.cancel = stage, threading.Event()
        self.step = self.problem = ""
        self.wants_password = False

    def rest(self) -> None:
        """End the piece of work, whether it is done or was given up."""
        self.cancel.set()
        self.stage = Stage.IDLE

    def open(self, document: Document | None, source: str) -> None:
        """Put a document in the place of the one before, whose summary and chat are gone."""
        self.document, self.source = document, source
        self.history, self.drafts, self.turns = [], [], []
        self.finished = None

    def take(self, event: Reading | Draft | Finished) -> None:
        """Note one event of a reading."""
        match event:
            case Reading(stats):
                self.stage = Stage.READING
                self.history.append(stats)
            case Draft(page=page):
                self.stage = Stage.WRITING
                self.drafts = [draft for draft in self.drafts if draft.page != page] + [event]
            case Finished():
                self.finished = event

    def close(self) -> None:
        """End what runs and let go of the document and its memory."""
        if self.busy:
            self.rest()
        self.open(None, "")
