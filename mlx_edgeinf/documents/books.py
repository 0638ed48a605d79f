"""Word documents, EPUBs and web pages as pages of text, and what is wrong with a bad one in a sentence."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .characters import CONTROLS, HYPHEN, plain_letters
from .document import DocumentError
from .parts import Progress, read_parts, readable
from .plain import cut

MOST_HTML = 50_000_000
JOINT = "\n\n"

REFUSALS = {
    "locked": "{} is locked by the shop it comes from (DRM), so only that shop's own app can read it: "
    "choose a copy without this protection.",
    "password": "{} is protected by a password that cannot be entered here: save it without one in the "
    "program that made it.",
    "swells": "{} swells to more than can be read when it is unpacked: save it with fewer pictures or "
    "in several files.",
    "entities": "{} defines abbreviations of its own, as files do that attack their readers: save it "
    "again from another program.",
    "deep": "{} is nested too deeply to be read: open it in a browser and print it to PDF.",
    "empty": "{} lists no chapters: choose another copy of this book.",
    "archive": "{} is an archive with neither a Word document nor an EPUB in it: unpack it and choose "
    "one of its files, or print it to PDF.",
}
"""What to say for each code with which a reader refuses a file."""

OLD_WORD = "{} is in the old format of Office: save it as .docx, or print it to PDF."
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


def read_package(path: Path, on_part: Progress) -> list[str]:
    """Return the pages of a Word document or an EPUB, each of whose chapters begins a page.

    `on_part` is called with the chapters done and their number; what it raises ends the
    reading. A chapter that cannot be read is an empty page. Raises `DocumentError` for a file
    that holds no text or that is damaged, locked or a bomb.
    """
    return read_book("package", path, on_part)


def read_html(path: Path, on_part: Progress) -> list[str]:
    """Return the pages of an HTML file; raises `DocumentError` for one that cannot be read."""
    if path.stat().st_size > MOST_HTML:
        raise DocumentError(
            f"{path.name} is longer than the {MOST_HTML // 1_000_000} MB of HTML that can be read at "
            "once: cut it into several files, or save it without pictures."
        )
    return read_book("web", path, on_part)


def refuse_old_office(path: Path, on_part: Progress) -> list[str]:
    """Say what a file in Office's old container is: protected by a password, or just old."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        protected = data.find(ENCRYPTED_PACKAGE) >= 0
    raise DocumentError((REFUSALS["password"] if protected else OLD_WORD).format(path.name))


def read_book(reader: str, path: Path, on_part: Progress) -> list[str]:
    """Have `reader` take a file apart, and cut each of its parts into pages."""
    parts = readable(read_parts(reader, path, on_part, partial(refusal, path.name)), path.name)
    pages = [page for part in parts for page in pages_of(part)]
    if not any(pages):
        raise DocumentError(f"{path.name} holds no text: it may consist of pictures, so print it to PDF.")
    return pages


def refusal(name: str, code: str) -> DocumentError:
    """The error for a file that a reader refuses with this code."""
    return DocumentError(REFUSALS[code].format(name))


def pages_of(part: list[str] | None) -> Iterator[str]:
    """The pages of a chapter: an empty one if it cannot be read, none if it holds no text."""
    if part is None:
        return iter([""])
    blocks = [text for block in part if (text := cleaned(block))]
    return cut(blocks, JOINT) if blocks else iter(())


def cleaned(block: str) -> str:
    """A block without what cannot be seen; its lines and spaces are as they are meant."""
    return plain_letters(CONTROLS.sub("", block)).replace(HYPHEN, "-")
