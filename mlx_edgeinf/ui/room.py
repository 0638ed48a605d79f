"""What all open pages share: the model and the library."""

from __future__ import annotations

from dataclasses import dataclass

from ..library import Library
from .preparation import Preparation


@dataclass(frozen=True)
class Room:
    """The model, ready or being made so, and the library of what it reads."""

    preparation: Preparation
    library: Library
