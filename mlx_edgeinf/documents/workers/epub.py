"""An EPUB: a part for each chapter, its blocks, in the order of the spine."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote, urlsplit
from zipfile import BadZipFile

from archive import Archive
from charset import decoded
from lxml import etree
from markup import blocks
from refusal import Refusal

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
RIGHTS = ("META-INF/rights.xml", "rights.xml")
FONTS_ONLY = {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}
"""Ways to scramble fonts, which leave the text alone."""
TEXTS = {"application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml"}


def answers(archive: Archive, first: int) -> Iterator[dict[str, Any]]:
    """Yield the number of chapters, then the blocks of each chapter but the `first` ones.

    Raises `Refusal` for a book that is locked or has no chapters.
    """
    if is_locked(archive):
        raise Refusal("locked")
    names = chapters(archive)
    if not names:
        raise Refusal("empty")
    yield {"parts": len(names)}
    for name in names[first:]:
        yield {"part": chapter(archive, name)}


def is_locked(archive: Archive) -> bool:
    """Whether a shop has encrypted the text."""
    if any(name in archive for name in RIGHTS):
        return True
    if ENCRYPTION not in archive:
        return False
    methods = archive.xml(ENCRYPTION).iterfind(".//{*}EncryptedData/{*}EncryptionMethod")
    return any(method.get("Algorithm") not in FONTS_ONLY for method in methods)


def chapters(archive: Archive) -> list[str]:
    """The members that hold the chapters, in reading order; what is beside it (notes) comes last."""
    place = archive.xml(CONTAINER).find(".//{*}rootfile").get("full-path")
    book = archive.xml(place)
    items = {item.get("id"): item for item in book.iterfind("{*}manifest/{*}item")}
    spine = sorted(book.iterfind("{*}spine/{*}itemref"), key=is_beside)
    texts = [items[each.get("idref")] for each in spine if each.get("idref") in items]
    names = [member(place, text.get("href", "")) for text in texts if text.get("media-type") in TEXTS]
    return list(dict.fromkeys(names))


def is_beside(reference: etree._Element) -> bool:
    """Whether the spine puts a text beside the reading order."""
    return reference.get("linear") == "no"


def member(book: str, link: str) -> str:
    """The name of the member that a link of the book's package file leads to."""
    return normpath(join(dirname(book), unquote(urlsplit(link).path)))


def chapter(archive: Archive, name: str) -> list[str] | None:
    """The blocks of one chapter, or None where it is missing, damaged or no text."""
    try:
        return blocks(decoded(archive.read(name)))
    except (KeyError, BadZipFile, zlib.error, UnicodeError):
        return None
