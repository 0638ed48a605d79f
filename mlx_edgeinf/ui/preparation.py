"""The model being made ready while the page is already open, and another put in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..wording import percent
from .background import Background

if TYPE_CHECKING:
    from ..engine import Engine

log = logging.getLogger(__name__)

Note = Callable[[str, float], None]


class Replacement(NamedTuple):
    """What comes in the place of an engine.

    load: as `Preparation` has it. before: is done first, once, while there is no model in memory.
    occupied: why nothing can be read until `before` has ended, for people.
    """

    load: Callable[[Note], Engine]
    before: Callable[[Note], None] | None = None
    occupied: str = ""


class Preparation:
    """Loads the engine in the background, and again on demand after a failure.

    `load` is called with a function that it tells each step to, by name and fraction done,
    and returns the engine. It may take minutes when the starter model is fetched first.
    `occupied` says, for people, why nothing can be read for a while; empty as a rule.
    """

    def __init__(self, load: Callable[[Note], Engine]) -> None:
        self._load = load
        self._loading = Background(load)
        self.occupied = ""

    def retry(self) -> None:
        """Load again if loading has failed; otherwise do nothing."""
        if self.problem:
            self._loading = Background(self._load)

    def replace(self, replacement: Replacement) -> None:
        """Close the engine, whose documents must have been let go of, and load another."""
        if not self.problem:
            self.engine.close()
        self._load, self.occupied = replacement.load, replacement.occupied
        self._loading = Background(lambda note: self._replaced(replacement, note))

    def _replaced(self, replacement: Replacement, note: Note) -> Engine:
        try:
            if replacement.before:
                replacement.before(note)
        finally:
            self.occupied = ""
        return replacement.load(note)

    def progress(self) -> Iterator[str]:
        """Yield how far it is, for people, until it is done or has failed."""
        for _ in self._loading.notes():
            yield self.step
        if self.problem:
            log.error("the model could not be made ready", exc_info=self._loading.error)

    @property
    def step(self) -> str:
        """What is being done, for people."""
        step, fraction = self._loading.latest or ("Preparing the model", 0.0)
        return f"{step}: {percent(fraction)}" if 0 < fraction < 1 else step

    @property
    def done(self) -> bool:
        """Whether loading has ended, well or not."""
        return self._loading.done

    @property
    def problem(self) -> str:
        """Why loading failed, for people; empty while it runs and when it went well."""
        failed = self._loading.done and self._loading.error
        return f"The model could not be made ready: {failed}" if failed else ""

    @property
    def engine(self) -> Engine:
        """The engine; waits for it, and raises what loading raised."""
        return self._loading.result
