"""The library: every document a person has read, kept on this machine. Opens without MLX.

`library` is its door, `reader` an engine that reads from it and into it, `past` a reading as it was at
earlier pages. Below: `rows` what it knows, `queries` and `provenance` the questions to its tables and the
changes of them, `schema` the tables; `database`, `files` and `pagefolders` what is on disk, `archive` and
`transfer` one file for another machine.
"""

from .archive import SUFFIX, is_exported
from .library import Library
from .past import latest_by
from .reader import Reader
from .rows import Chat, Checkpoint, DiskUse, Entry, Hit, LibraryError, OtherModel, Reading, Summary

__all__ = [
    "SUFFIX",
    "Chat",
    "Checkpoint",
    "DiskUse",
    "Entry",
    "Hit",
    "Library",
    "LibraryError",
    "OtherModel",
    "Reader",
    "Reading",
    "Summary",
    "latest_by",
    "is_exported",
]
