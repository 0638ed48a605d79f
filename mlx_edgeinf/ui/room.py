"""What all open pages share: the model, the library, and a place for what is handed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..library import Library
from .picker import Picker
from .preparation import Preparation

if TYPE_CHECKING:
    from .session import Session

# No other user of the machine can look into it, and it goes when the program ends.
private_folder = partial(TemporaryDirectory, prefix="mlx_edgeinf-")


@dataclass(frozen=True)
class Room:
    """The model, ready or being made so, and the library of what it reads.

    picker: of another model. visits: what each open page knows. uploads: their folder.
    """

    preparation: Preparation
    library: Library
    picker: Picker = field(default_factory=Picker)
    visits: dict[str, Session] = field(default_factory=dict)
    uploads: TemporaryDirectory = field(default_factory=private_folder)
