"""Writes paragraphs, as they are met on the way through a page, into blocks of Markdown."""

from __future__ import annotations

from itertools import chain, repeat

BREAK = "\u2028"
"""How a line end that was meant stands in the pieces of a paragraph."""

DEEPEST_INDENT = 8


class Writer:
    """Holds the blocks so far and the paragraph under way.

    blocks: the lines of each. pieces: of the paragraph, in source spacing. heading: its level, 0 for
    none. verbatim: whether it is code. cell: the paragraphs of a table's cell, where one is open.
    """

    def __init__(self) -> None:
        self.blocks: list[list[str]] = []
        self.pieces: list[str] = []
        self.heading = 0
        self.verbatim = False
        self.cell: list[str] | None = None
        self._indents: list[str] = []
        self._marker = ""
        self._lists = 0
        self._continues = False

    def add(self, text: str | None) -> None:
        """Go on with the paragraph."""
        if text:
            self.pieces.append(text)

    def end_paragraph(self) -> None:
        """Write the paragraph, if there is one."""
        lines = self._lines("".join(self.pieces))
        self.pieces.clear()
        if lines and self.cell is not None:
            self.cell.append(self._marker + " ".join(lines))
            self._marker = ""
        else:
            self.put(lines)

    def put(self, lines: list[str]) -> None:
        """Write lines, if any, as a block or at the end of the block that they belong to."""
        if not lines:
            return
        indents = self._indents[:DEEPEST_INDENT]
        others = "".join(indents)
        first = "".join(indents[:-1]) + self._marker if self._marker else others
        written = [indent + line for indent, line in zip(chain([first], repeat(others)), lines)]
        if self._continues and self.blocks:
            self.blocks[-1] += written
        else:
            self.blocks.append(written)
        self._marker = ""
        self._continues = self._lists > 0

    def open_list(self) -> None:
        """Begin a list, which is one block with the lists in it."""
        self._continues = self._lists > 0
        self._lists += 1

    def close_list(self) -> None:
        """End the list that was opened last."""
        self._lists -= 1
        self._continues = self._lists > 0

    def open_item(self, marker: str) -> None:
        """Begin an item: `marker` leads it, and its other lines are indented as deep."""
        self._indents.append(" " * len(marker))
        self._marker = marker

    def open_definition(self) -> None:
        """Begin what a term means, on the line below the term."""
        self.open_item(": ")
        self._continues = True

    def open_quote(self) -> None:
        """Begin a quotation, which a sign leads on every line."""
        self._indents.append("> ")

    def close_indent(self) -> None:
        """End the item, definition or quotation that was opened last."""
        self._indents.pop()
        self._marker = ""

    def _lines(self, text: str) -> list[str]:
        if not text or text.isspace():
            return []
        if self.verbatim:
            return ["```", *text.replace(BREAK, "\n").strip("\n").split("\n"), "```"]
        lines = [line for part in text.split(BREAK) if (line := " ".join(part.split()))]
        return ["#" * self.heading + " " + " ".join(lines)] if self.heading else lines
