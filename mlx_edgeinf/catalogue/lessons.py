"""Texts to train gates on: documents of the library, or files in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..library import Library
from ..wording import count
from .refusal import ModelRefused

if TYPE_CHECKING:
    from ..training.corpus import Corpus

ITERATIONS = 24
# Tokens of an excerpt: three segments are read with a memory. Six letters are enough for a token
# (`training.excerpts.LETTERS`), and a shorter text has no excerpt.
LENGTH = 2565
LETTERS = 6 * LENGTH + 1


class Textbook(NamedTuple):
    """Texts, and the name under which a record of the training tells where they are from."""

    source: str
    texts: Corpus


def library_textbook(library: Library) -> Textbook:
    """The texts of all documents that are long enough; under numbers, so that no title is written down.

    Raises:
        ModelRefused: there is none.
        LibraryError: the library cannot be read.
    """
    texts = {f"document {entry.id}": _text(library, entry.id) for entry in library.entries()}
    long = {name: text for name, text in texts.items() if len(text) >= LETTERS}
    if not long:
        raise ModelRefused(
            f"There is too little text to train on: none of the library's documents ({len(texts)}) has the "
            f"{count(LETTERS)} letters, about ten pages, that are needed: read a longer one first, or name a "
            "folder of texts."
        )
    return Textbook("library", long)


def folder_textbook(folder: str) -> Textbook:
    """The texts of the files in a folder, in the forms that `training.corpus` knows.

    Raises:
        ModelRefused: there is no such folder. CorpusError: no text in it, or one that cannot be read.
    """
    from ..training.corpus import read_corpus

    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise ModelRefused(f"There is no folder {path}: check how it is spelt.")
    return Textbook(path.name, read_corpus([path]))


def _text(library: Library, document: int) -> str:
    return "\n\n".join(page.text for page in library.document(document).pages)
