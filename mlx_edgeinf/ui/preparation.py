"""The model being made ready while the page is already open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..wording import percent
from .background import Background

if TYPE_CHECKING:
    from ..engine import Engine

log = logging.getLogger(__name__)


class Preparation:
    """Loads the engine in the background, and again on demand after a failure.

    `load` is called with a function that it tells each step to, by name and fraction done,
    and returns the engine. It may take minutes when the starter model is fetched first.
    """

    def __init__(self, load: Callable[[Callable[[str, float], None]], Engine]) -> None:
        self._load = load
        self._loading = Background(load)

    def retry(self) -> None:
        """Load again if loading has failed; otherwise do nothing."""
        if self.problem:
            self._loading = Background(self._load)

    def progress(self) -> Iterator[str]:
        """Yield how far it is, for people, until it is done or has failed."""
        for note in self._loading.notes():
            step, fraction = note or ("Preparing the model", 0.0)
            yield f"{step}: {percent(fraction)}" if 0 < fraction < 1 else step
        if self.problem:
            log.error("the model could not be made ready", exc_info=self._loading.error)

    @property
    def problem(self) -> str:
        """Why loading failed, for people; empty while it runs and when it went well."""
        failed = self._loading.done and self._loading.error
        return f"The model could not be made ready: {failed}" if failed else ""

    @property
    def engine(self) -> Engine:
        """The engine; waits for it, and raises what loading raised."""
        return self._loading.result
