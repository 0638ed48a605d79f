"""A page of HTML on the way through it: what each element does to the text."""

from __future__ import annotations

import re
from collections.abc import Callable

from lxml import etree
from table import CELLS, Table, is_layout
from writer import BREAK, Writer

HEADINGS = {f"h{level}": level for level in range(1, 7)}
LISTS = ("ul", "ol", "menu", "dir")
BLOCKS = {*HEADINGS, *LISTS, *CELLS} | set(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset "
    "figcaption figure footer form header hgroup hr html legend li main nav p pre search section "
    "summary table tbody tfoot thead tr".split()
)
NOTES = {"footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes"}
NOTES |= {f"doc-{kind}" for kind in NOTES}
NOTE_MARKS = {"noteref", "doc-noteref"}
POINTERS = re.compile("[\u2190-\u21ff\u23ce\ufe0e\ufe0f^#¶]+")
NUMBER = re.compile(r"-?\d{1,9}")
SIGNS = "0123456789+-−=()n"
RAISED = str.maketrans(SIGNS, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
LOWERED = str.maketrans(SIGNS, "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₙ")


class Page:
    """Its text, its notes, and what is open: a note, lists, a table, pieces of a paragraph."""

    def __init__(self) -> None:
        self._text, self._notes = Writer(), Writer()
        self._writer = self._text
        self._note: etree._Element | None = None
        self._numbers: list[int | None] = []
        """The next number of each open list, None for one without numbers."""
        self._table: Table | None = None
        self._marks: list[int] = []
        """Where in the paragraph each open link, raised or lowered text begins."""

    def blocks(self) -> list[str]:
        """The blocks of the page, notes at the end."""
        self._text.end_paragraph()
        return ["\n".join(lines) for lines in self._text.blocks + self._notes.blocks]

    def add(self, text: str | None) -> None:
        """Go on with the paragraph."""
        self._writer.add(text)

    def open(self, element: etree._Element) -> None:
        """Begin an element."""
        name = name_of(element)
        if name in BLOCKS:
            self._end_paragraph()
        if self._note is None and types_of(element) & NOTES:
            self._end_paragraph()
            self._note, self._writer = element, self._notes
        if name in OPENING:
            OPENING[name](self, element)

    def close(self, element: etree._Element) -> None:
        """End an element."""
        name = name_of(element)
        if name in BLOCKS:
            self._end_paragraph()
        if name in CLOSING:
            CLOSING[name](self, element)
        if element is self._note:
            self._end_paragraph()
            self._note, self._writer = None, self._text

    def _end_paragraph(self) -> None:
        self._writer.end_paragraph()
        # What is open goes on at the beginning of the next paragraph.
        self._marks = [0] * len(self._marks)

    def _open_heading(self, element: etree._Element) -> None:
        self._writer.heading = HEADINGS[name_of(element)]

    def _close_heading(self, element: etree._Element) -> None:
        self._writer.heading = 0

    def _open_list(self, element: etree._Element) -> None:
        self._numbers.append(number(element, "start", 1) if name_of(element) == "ol" else None)
        self._writer.open_list()

    def _close_list(self, element: etree._Element) -> None:
        self._numbers.pop()
        self._writer.close_list()

    def _open_item(self, element: etree._Element) -> None:
        marker = "- "
        if self._numbers and self._numbers[-1] is not None:
            value = number(element, "value", self._numbers[-1])
            self._numbers[-1] = value + 1
            marker = f"{value}. "
        self._writer.open_item(marker)

    def _open_definition(self, element: etree._Element) -> None:
        self._writer.open_definition()

    def _open_quote(self, element: etree._Element) -> None:
        self._writer.open_quote()

    def _close_indent(self, element: etree._Element) -> None:
        self._writer.close_indent()

    def _open_code(self, element: etree._Element) -> None:
        self._writer.verbatim = True

    def _close_code(self, element: etree._Element) -> None:
        self._writer.verbatim = False

    def _open_table(self, element: etree._Element) -> None:
        if self._table is None and not is_layout(element):
            self._table = Table()

    def _open_cell(self, element: etree._Element) -> None:
        if self._table:
            self._writer.cell = []

    def _close_cell(self, element: etree._Element) -> None:
        if self._table:
            text = " ".join(self._writer.cell or [])
            self._table.add_cell(text, number(element, "colspan", 1), number(element, "rowspan", 1))
            self._writer.cell = None

    def _close_row(self, element: etree._Element) -> None:
        if self._table:
            self._table.end_row()

    def _close_table(self, element: etree._Element) -> None:
        if self._table:
            self._table.end_row()
            self._writer.put(self._table.lines)
            self._table = None

    def _break(self, element: etree._Element) -> None:
        self._writer.add(BREAK)

    def _open_quotation(self, element: etree._Element) -> None:
        self._writer.add("“")

    def _close_quotation(self, element: etree._Element) -> None:
        self._writer.add("”")

    def _open_piece(self, element: etree._Element) -> None:
        self._marks.append(len(self._writer.pieces))

    def _close_piece(self, element: etree._Element) -> None:
        start, pieces = self._marks.pop(), self._writer.pieces
        text = "".join(pieces[start:])
        pieces[start:] = [REWRITES[name_of(element)](text, element)]


def link(text: str, element: etree._Element) -> str:
    """A link as its text: one to a note in brackets, an arrow back or to itself not at all."""
    mark, types = text.strip(), types_of(element)
    if POINTERS.fullmatch(mark):
        return ""
    raised = element.getparent().tag == "sup" and element.get("href", "").startswith("#")
    if mark and (raised or types & NOTE_MARKS) and not mark.startswith("["):
        return f"[{mark}]"
    return text


def raised(text: str, element: etree._Element) -> str:
    """Raised numbers as signs of their own: 10² is not 102."""
    return text if text.strip(SIGNS) else text.translate(RAISED)


def lowered(text: str, element: etree._Element) -> str:
    """Lowered numbers as signs of their own: H₂O."""
    return text if text.strip(SIGNS) else text.translate(LOWERED)


def name_of(element: etree._Element) -> str:
    """The name of an element without its prefix."""
    return element.tag.rpartition(":")[2]


def types_of(element: etree._Element) -> set[str]:
    """What an element is said to be, in EPUB's words or in those of ARIA."""
    return set(f"{element.get('epub:type', '')} {element.get('role', '')}".split())


def number(element: etree._Element, attribute: str, default: int) -> int:
    """The whole number that an attribute gives."""
    given = NUMBER.match(element.get(attribute, ""))
    return int(given[0]) if given else default


REWRITES = {"a": link, "sup": raised, "sub": lowered}
Handler = Callable[[Page, etree._Element], None]
OPENING: dict[str, Handler] = {
    **dict.fromkeys(HEADINGS, Page._open_heading),
    **dict.fromkeys(LISTS, Page._open_list),
    **dict.fromkeys(CELLS, Page._open_cell),
    **dict.fromkeys(REWRITES, Page._open_piece),
    "li": Page._open_item,
    "dd": Page._open_definition,
    "blockquote": Page._open_quote,
    "pre": Page._open_code,
    "table": Page._open_table,
    "br": Page._break,
    "q": Page._open_quotation,
}
CLOSING: dict[str, Handler] = {
    **dict.fromkeys(HEADINGS, Page._close_heading),
    **dict.fromkeys(LISTS, Page._close_list),
    **dict.fromkeys(CELLS, Page._close_cell),
    **dict.fromkeys(REWRITES, Page._close_piece),
    **dict.fromkeys(("li", "dd", "blockquote"), Page._close_indent),
    "pre": Page._close_code,
    "tr": Page._close_row,
    "table": Page._close_table,
    "q": Page._close_quotation,
}
