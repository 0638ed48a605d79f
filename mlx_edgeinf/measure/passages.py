"""Which held-out texts are read, and which part of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..training.corpus import CorpusError, read_corpus
from ..training.formats import Exercise

START = 0.2  # of a document's text: past title pages, tables of contents and prefaces


def chosen(names: Iterable[str], number: int, source: Path) -> list[str]:
    """So many of the names, evenly from their sorted list.

    Raises:
        CorpusError: there are not as many in `source`.
    """
    names = sorted(names)
    if not 1 <= number <= len(names):
        raise CorpusError(f"{source} holds {len(names)} documents and --documents asks for {number}.")
    return [names[index * len(names) // number] for index in range(number)]


def passages(folder: Path, tokenizer, documents: int, length: int) -> dict[str, list[int]]:
    """`length` tokens of some documents of a folder, from a paragraph a fifth into each text.

    Raises:
        CorpusError: too few documents, or one that is too short.
    """
    corpus = read_corpus([folder])
    names = chosen(corpus, documents, folder)
    return {name: _passage(name, text_of(corpus[name]), tokenizer, length) for name in names}


def text_of(document: str | Exercise) -> str:
    """All of a document that was read, whatever is asked about it."""
    return document if isinstance(document, str) else "\n".join(document.pages)


def _passage(name: str, text: str, tokenizer, length: int) -> list[int]:
    earliest = int(START * len(text))
    breaks = (text.find(mark, earliest) for mark in ("\n\n", "\n"))
    start = next((at for at in breaks if at >= 0), earliest)
    # No text runs at more than 8 characters a token for long.
    tokens = tokenizer.encode(text[start:][: 8 * length].lstrip(), add_special_tokens=False)
    if len(tokens) < length:
        raise CorpusError(f"{name} is too short to read {length} tokens of it.")
    return tokens[:length]
