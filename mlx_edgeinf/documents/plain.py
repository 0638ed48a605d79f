"""Plain text and Markdown as pages: decoded, unwrapped, and cut where a reader would pause."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from .characters import CONTROLS, HYPHEN, readable
from .document import DocumentError
from .hyphens import Joiner
from .line import Line
from .paragraphs import paragraphs

MARKDOWN = {".md", ".markdown"}
SUFFIXES = {".txt", ".text"} | MARKDOWN
MOST_BYTES = 30_000_000
PAGE = 3_000
LONGEST_PAGE = 10_000
"""Characters of a page we cut, and the most that pages between form feeds may have on average."""
CONTROL_SHARE = 0.01
WRAP_WIDTHS = range(40, 121)
WRAP_SLACK = 15
WRAPPED_SHARE = 0.4
"""Text is hard-wrapped where this share of its lines ends within 15 characters of one width."""
LINE_HEIGHT = 2
"""Boxes of lines are measured in characters, which are half as wide as high."""


def read_text(path: Path, on_page: Callable[[int, int], None]) -> list[str]:
    """Return the pages of a text file; form feeds end a page, or about 3000 characters do.

    Hard-wrapped plain text is unwrapped; Markdown is left as it stands. Raises
    `DocumentError` for a file that is too long or is no text.
    """
    check_length(path.stat().st_size, path.name)
    pages = text_pages(decoded(path.read_bytes(), path.name), path.suffix.lower() in MARKDOWN)
    for number in range(len(pages)):
        on_page(number + 1, len(pages))
    return pages


def check_length(size: int, name: str) -> None:
    """Refuse a text of more bytes than can be read at once."""
    if size > MOST_BYTES:
        raise DocumentError(
            f"{name} is longer than the {MOST_BYTES // 1_000_000} MB of text that can be "
            "read at once: cut it into several files."
        )


def text_pages(text: str, markdown: bool) -> list[str]:
    """Cut a text into pages: at its form feeds, or after about 3000 characters."""
    text = re.sub("\r\n?|[\v\x85\u2028\u2029]", "\n", text)
    sections = text.split("\f")
    blocks = [markdown_blocks(each) for each in sections] if markdown else plain_blocks(sections)
    joint = "\n\n" if markdown else "\n"
    if len(sections) > 1 and len(text) < LONGEST_PAGE * len(sections):
        return [joint.join(section) for section in blocks]
    return list(cut(chain.from_iterable(blocks), joint))


def decoded(data: bytes, name: str) -> str:
    """Decode a text file as UTF-8, UTF-16 with its mark, or Windows-1252."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ["utf-16"] if wide else ["utf-8-sig", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if len(CONTROLS.findall(text)) <= CONTROL_SHARE * len(text):
            return text
    raise DocumentError(f"{name} is not text: choose a text file in UTF-8, or a PDF.")


def markdown_blocks(section: str) -> list[str]:
    """The blocks of a Markdown text, which blank lines part, as they stand."""
    return [CONTROLS.sub("", block) for block in re.split(r"\n\s*\n", section.strip()) if block]


def plain_blocks(sections: Sequence[str]) -> list[list[str]]:
    """The paragraphs of each section of a plain text."""
    lines = [section.expandtabs().split("\n") for section in sections]
    if is_wrapped(chain.from_iterable(lines)):
        joiner = Joiner(chain.from_iterable(lines))
        return [unwrapped(each, joiner) for each in lines]
    return [[text for line in each if (text := readable(line))] for each in lines]


def is_wrapped(lines: Iterable[str]) -> bool:
    """Whether most lines end at one width, as an editor's hard wrap leaves them."""
    lengths = sorted(len(line.rstrip()) for line in lines if not line.isspace() and line)
    if not lengths:
        return False
    width = lengths[int(0.98 * (len(lengths) - 1))]
    full = sum(length > width - WRAP_SLACK for length in lengths)
    return width in WRAP_WIDTHS and full >= WRAPPED_SHARE * len(lengths)


def unwrapped(lines: Sequence[str], joiner: Joiner) -> list[str]:
    """The paragraphs that hard-wrapped lines make up."""
    boxed = (box(text, -LINE_HEIGHT * row) for row, text in enumerate(lines))
    joined = paragraphs([line for line in boxed if line.text], joiner)
    return [paragraph.replace(HYPHEN, "-") for paragraph in joined]


def box(text: str, bottom: int) -> Line:
    """A line of typed text, with its place on the page in characters."""
    indent = len(text) - len(text.lstrip())
    return Line(readable(text), indent, bottom, len(text.rstrip()), bottom + LINE_HEIGHT)


def cut(blocks: Iterable[str], joint: str) -> Iterator[str]:
    """Yield pages of whole blocks; a Markdown heading in a page's second half begins a new one."""
    page: list[str] = []
    size = 0
    for piece in chain.from_iterable(map(pieces, blocks)):
        heading = piece.startswith("#") and size > PAGE / 2
        if page and (heading or size + len(piece) > PAGE):
            yield joint.join(page)
            page, size = [], 0
        page.append(piece)
        size += len(piece) + len(joint)
    yield joint.join(page)


def pieces(block: str) -> Iterator[str]:
    """Cut a block that is longer than a page at ends of lines, of sentences, or of words."""
    start = 0
    while len(block) - start > PAGE:
        limit = start + PAGE
        ends = (block.rfind(mark, start + PAGE // 2, limit) for mark in ("\n", ". ", " "))
        end = next((end + 1 for end in ends if end >= 0), limit)
        yield block[start:end].strip()
        start = end
    yield block[start:].strip()
