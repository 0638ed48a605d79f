"""What all open pages share: the model, the library, and a place for what is handed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..library import Library
from .picker import Picker
from .preparation import Preparation

if TYPE_CHECKING:
    from ..engine import Engine
    from .session import Session

# No other user of the machine can look into it, and it goes when the program ends.
private_folder = partial(TemporaryDirectory, prefix="mlx_edgeinf-")


@dataclass(frozen=True)
class Room:
    """The model, ready or being made so, and the library of what it reads.

    picker: of another model. visits: what each open page knows, and each closed one whose reading has not
    come to rest. uploads: their folder.
    """

    preparation: Preparation
    library: Library
    picker: Picker = field(default_factory=Picker)
    visits: dict[str, Session] = field(default_factory=dict)
    uploads: TemporaryDirectory = field(default_factory=private_folder)

    def enter(self, visit: str, session: Session) -> None:
        """A page was opened."""
        self.visits[visit] = session

    def leave(self, visit: str) -> None:
        """A page was closed. Gradio itself keeps what it held for another hour."""
        if session := self.visits.get(visit):
            session.close()
        for each, session in list(self.visits.items()):
            if session.closed and not session.busy:
                del self.visits[each]

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The engine, once it is ready; inside, no other one takes its place."""
        with self.picker.changing:
            yield self.preparation.engine
