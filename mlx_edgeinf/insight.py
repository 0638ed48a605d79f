"""What a reading showed of its memory at work, by page, layer and head; `watch` says how. Without MLX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

PAGES, OPENINGS = "insight.pages", "insight.openings"


@dataclass
class Insight:
    """Sums that are added to while a document is read.

    pages: (pages, 2) surprise of each page's tokens added up, and how many they were, as far as pages
    were folded. Tokens that are not folded yet, and those of the first fold, are in neither.
    openings: (layers, heads) mean openings of the gates over the last segment that was read, or over the
    last answer; None while no memory was asked. answering: which of the two.
    """

    pages: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    openings: np.ndarray | None = None
    answering: bool = False

    def add(self, folds: Iterable[tuple[int, np.ndarray]], page_ends: Sequence[int]) -> None:
        """Add the surprises of folds, each with the position of its first token, to the pages they are on."""
        for first, surprise in folds:
            longer = max(len(page_ends) - len(self.pages), 0)
            self.pages = np.pad(self.pages, [(0, longer), (0, 0)])
            page = np.searchsorted(page_ends, first + np.arange(len(surprise)), side="right")
            np.add.at(self.pages, page, np.stack([surprise, np.ones(len(surprise))], axis=1))

    def opened(self, openings: np.ndarray | None, answering: bool) -> None:
        """Take note of the openings over a segment or an answer, in place of those before."""
        self.openings, self.answering = openings, answering

    @property
    def strengths(self) -> np.ndarray:
        """(pages,) write strength: the mean surprise of a page's tokens; nan where none was measured."""
        total, tokens = self.pages.T
        return np.divide(total, tokens, out=np.full(len(total), np.nan), where=tokens > 0)

    def arrays(self) -> dict[str, np.ndarray]:
        """To be kept in a file."""
        openings = {} if self.openings is None else {OPENINGS: self.openings.astype(np.float32)}
        return {PAGES: self.pages.astype(np.float32), **openings}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], pages: int) -> Insight:
        """What `arrays` gave, or nothing measured where there is none.

        Raises:
            ValueError: it is of more pages than there are, or nothing that can be measured.
        """
        found = cls(np.asarray(arrays.get(PAGES, np.zeros((0, 2))), dtype=float), arrays.get(OPENINGS))
        openings = found.openings if found.openings is not None else np.zeros((0, 0))
        sound = found.pages.shape[1:] == (2,) and len(found.pages) <= pages and openings.ndim == 2
        if not (sound and all(np.all(np.isfinite(a) & (a >= 0)) for a in (found.pages, openings))):
            raise ValueError("the file contradicts itself")
        return found
