"""From each sentence that was written about a document to the pages that support it.

The page sends the number of a link alone; which passage that is, the session knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from ..support import Evidence, Passage, cited
from .prose import prose

if TYPE_CHECKING:
    from ..documents import Document, Page
    from ..documents.picture import Picture

LEGEND = (
    "Behind each sentence stand the pages whose words support it; "
    "<i>no page</i> means that no supporting page was found."
)
# What is to be seen is in the style, so that a copied summary is the summary alone.
NO_PAGE = (
    '<span class="no-page" role="img" aria-label="No supporting page found"'
    ' title="No supporting page found"></span>'
)


@dataclass(frozen=True)
class Leaf:
    """A page that is shown. link: the number of the link that led here. problem: why there is no picture."""

    name: str
    link: int
    page: Page
    passage: Passage
    picture: Picture | None = None
    problem: str = ""


class Links:
    """The supporting pages of what is on show about one document, looked up once for each sentence.

    passages: what a link leads to, by its number.
    """

    def __init__(self, document: Document):
        self._document = document
        self._found: dict[str, tuple[Passage, ...]] = {}
        self._notes: dict[str, str] = {}
        self._lists: dict[tuple[int, ...], str] = {}
        self.passages: list[Passage] = []

    def linked(self, text: str) -> str:
        """A finished text as HTML, each sentence with its pages."""
        return prose(text, self._note)

    def consulted(self, pages: tuple[int, ...]) -> str:
        """Pages that exact recall went back to for an answer, by number, as HTML; empty for none."""
        if not pages:
            return ""
        if pages not in self._lists:
            whole = (Passage(page - 1, 0, 0, 0.0) for page in sorted(pages))
            self._lists[pages] = "".join(map(self._link, whole))
        return f'<p class="consulted">Looked up by exact recall {self._lists[pages]}</p>'

    def cited(self, text: str) -> str:
        """A finished text as Markdown, each sentence with its pages in brackets."""
        return cited(text, self._supporting, self._document.pages)

    @cached_property
    def _evidence(self) -> Evidence:
        """The words of the document, indexed when they are first needed."""
        return Evidence([page.text for page in self._document.pages])

    def _supporting(self, sentence: str) -> tuple[Passage, ...]:
        if sentence not in self._found:
            self._found[sentence] = self._evidence.supporting(sentence)
        return self._found[sentence]

    def _note(self, sentence: str) -> str:
        if sentence not in self._notes:
            found = sorted(self._supporting(sentence), key=lambda passage: passage.page)
            self._notes[sentence] = "".join(map(self._link, found)) or NO_PAGE
        return self._notes[sentence]

    def _link(self, passage: Passage) -> str:
        self.passages.append(passage)
        place = escape(self._document.pages[passage.page].place)
        return (
            f'<button type="button" class="page" data-do="page" data-link="{len(self.passages) - 1}"'
            f' data-place="{place}" aria-label="Page {place}" aria-haspopup="dialog"></button>'
        )
