"""What all open pages share: the model, the library, and a place for what is handed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory

from ..library import Library
from .preparation import Preparation

# No other user of the machine can look into it, and it goes when the program ends.
private_folder = partial(TemporaryDirectory, prefix="mlx_edgeinf-")


@dataclass(frozen=True)
class Room:
    """The model, ready or being made so, the library of what it reads, and the folder of uploads."""

    preparation: Preparation
    library: Library
    uploads: TemporaryDirectory = field(default_factory=private_folder)
