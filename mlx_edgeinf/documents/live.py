"""A text that grows while it is read: what comes, byte by byte, as lines, and the lines as pages.

A page is cut where the pages of a plain text file are, once it is full. So the pages depend on the
text alone, and not on the pauses in which it came.
"""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain

from .characters import CONTROLS, readable
from .document import DocumentError, Page
from .plain import CONTROL_SHARE, PAGE, cut, pieces

# Characters from which a share tells anything: one short line may be colours for the most part.
JUDGED = 4096


class LiveText:
    """The pages that are full, and behind them the beginning of the next.

    Args:
        name: of the text, for people.
        pages: those that are known already; what comes begins a page of its own behind them.
    """

    def __init__(self, name: str, pages: Sequence[Page] = ()) -> None:
        self._name, self._count = name, len(pages)
        self._decoder = _unicode()
        self._line = ""
        self._lines: list[str] = []
        # Of all that has come.
        self._controls = self._characters = 0

    def add(self, data: bytes) -> list[Page]:
        """Take what has come; returns the pages that are full now.

        Raises:
            DocumentError: it is no text.
        """
        text = self._decoded(data)
        self._controls += len(CONTROLS.findall(text))
        self._characters += len(text)
        if self._controls > CONTROL_SHARE * max(self._characters, JUDGED):
            raise DocumentError(f"{self._name} is not text in UTF-8, so it cannot be followed.")
        *lines, self._line = (self._line + text).replace("\r\n", "\n").split("\n")
        self._lines += filter(None, map(readable, chain(lines, self._begun())))
        *full, rest = cut(self._lines, "\n")
        self._lines = rest.split("\n") if rest else []
        return self._numbered(full)

    def break_line(self) -> None:
        """End the line under way: what comes next is another text."""
        if line := readable(self._line):
            self._lines.append(line)
        self._line = ""
        self._decoder = _unicode()

    @property
    def rest(self) -> list[Page]:
        """The page under way with its finished lines; none if there are none."""
        return [Page(self._count + 1, "\n".join(self._lines))] if self._lines else []

    def end(self) -> list[Page]:
        """The last page, with the line under way; what comes later begins a page of its own."""
        self.break_line()
        last = self._numbered(filter(None, cut(self._lines, "\n")))
        self._lines = []
        return last

    def _begun(self) -> list[str]:
        """Of a line that is longer than a page before its end has come, what is cut off already."""
        if len(self._line) <= PAGE:
            return []
        *begun, rest = pieces(self._line)
        spaces = self._line[len(self._line.rstrip()) :]
        self._line = rest + spaces
        return begun

    def _numbered(self, texts: Iterable[str]) -> list[Page]:
        pages = [Page(number, text) for number, text in enumerate(texts, self._count + 1)]
        self._count += len(pages)
        return pages

    def _decoded(self, data: bytes) -> str:
        """As UTF-8 and, from the first bytes on that are none, as Windows-1252."""
        held, _ = self._decoder.getstate()
        try:
            return self._decoder.decode(data)
        except UnicodeDecodeError:
            self._decoder = codecs.getincrementaldecoder("cp1252")("replace")
            return self._decoder.decode(held + data)


def _unicode() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8-sig")()


def known_bytes(data: bytes, pages: Sequence[Page]) -> int | None:
    """How many bytes of a file these pages, which were read of it before, take; None if it begins otherwise.

    Spaces and line ends do not count: they are not in the pages as they are in the file.
    """
    wanted, at, taken = squeezed("".join(page.text for page in pages)), 0, 0
    for line in data.splitlines(keepends=True):
        found = _said(line, _encoding(line))
        if not wanted.startswith(found, at):
            rest = wanted[at:]
            return taken + _length_of(rest, line) if found.startswith(rest) else None
        at, taken = at + len(found), taken + len(line)
        if at == len(wanted):
            return taken
    return None


def _length_of(wanted: str, line: bytes) -> int:
    """Bytes of a line whose beginning was read before the rest of it came; 0 if it cannot be told."""
    encoding = _encoding(line)
    end = bisect_left(range(len(line)), len(wanted), key=lambda end: len(_said(line[:end], encoding)))
    return end if _said(line[:end], encoding) == wanted else 0


def _encoding(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _said(line: bytes, encoding: str) -> str:
    """What a line has in common with its page, without a character that is cut in two."""
    return squeezed(readable(line.decode(encoding, "ignore")))


def squeezed(text: str) -> str:
    """A text without its spaces."""
    return "".join(text.split())
