"""What all open pages share: the model and the library."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..library import Library
from .picker import Picker
from .preparation import Preparation
from .session import Session


@dataclass(frozen=True)
class Room:
    """The model, ready or being made so, and the library of what it reads.

    picker: of another model. visits: what each open page knows.
    """

    preparation: Preparation
    library: Library
    picker: Picker = field(default_factory=Picker)
    visits: dict[str, Session] = field(default_factory=dict)
