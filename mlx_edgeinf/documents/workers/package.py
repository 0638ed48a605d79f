"""Word documents and EPUBs, which are zip files: tells them apart and has the right reader read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import epub
import word
from archive import Archive
from refusal import Refusal


def answers(path: str, first: int) -> Iterator[dict[str, Any]]:
    """Yield the number of parts, then the blocks of each part but the `first` ones."""
    archive = Archive(path)
    if word.is_word(archive):
        return word.answers(archive)
    if epub.CONTAINER in archive:
        return epub.answers(archive, first)
    raise Refusal("archive")
