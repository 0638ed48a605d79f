"""The library: every document a person has read, kept on this machine. Opens without MLX.

`library` is its door, `reader` an engine that reads from it and into it. Below: `rows` what it knows,
`queries`, `provenance` and `schema` all SQL, `database` and `files` what is on disk, `archive` and
`transfer` one file for another machine.
"""

from .archive import SUFFIX, is_exported
from .library import Library
from .past import latest_by
from .reader import Reader
from .rows import Chat, Checkpoint, DiskUse, Entry, Hit, LibraryError, Reading, Summary

__all__ = [
    "SUFFIX",
    "Chat",
    "Checkpoint",
    "DiskUse",
    "Entry",
    "Hit",
    "Library",
    "LibraryError",
    "Reader",
    "Reading",
    "Summary",
    "latest_by",
    "is_exported",
]
