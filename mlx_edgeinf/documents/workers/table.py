"""Tables of data as rows of Markdown; tables that only lay out a page are told apart."""

from __future__ import annotations

from lxml import etree

CELLS = ("td", "th")
NOT_IN_DATA = ("table", "h1", "h2", "h3", "h4", "h5", "h6")
MOST_ACROSS, MOST_DOWN = 50, 1_000
"""Columns and rows that one cell may span."""


def is_layout(table: etree._Element) -> bool:
    """Whether a table is there for the looks: it has headings, tables, or one column only."""
    if next(table.iterdescendants(*NOT_IN_DATA), None) is not None:
        return True
    widths = (sum(cell.tag in CELLS for cell in row) for row in table.iterdescendants("tr"))
    return max(widths, default=0) < 2


class Table:
    """The rows of a table of data, whose cells come in reading order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._row: list[str] = []
        self._covered: dict[int, int] = {}
        """How many rows more a cell further up reaches down, by column."""

    def add_cell(self, text: str, across: int, down: int) -> None:
        """Go on with the row: a cell that spans `across` columns, one at least, and `down` rows."""
        self._pass_covered()
        for column in range(len(self._row), len(self._row) + max(1, min(across, MOST_ACROSS))):
            self._row.append(text.replace("|", "\\|"))
            self._covered[column] = min(down, MOST_DOWN) - 1
            text = ""

    def end_row(self) -> None:
        """Write the row, unless it is empty; a line below the first one makes it the head."""
        self._pass_covered()
        if any(self._row):
            self.lines.append(f"| {' | '.join(self._row)} |")
        if len(self.lines) == 1:
            self.lines.append("|" + " --- |" * len(self._row))
        self._row = []

    def _pass_covered(self) -> None:
        """Leave the columns empty that belong to a cell further up."""
        while self._covered.get(len(self._row), 0) > 0:
            self._covered[len(self._row)] -= 1
            self._row.append("")
