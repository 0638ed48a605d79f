"""What a command shows: answers on stdout, progress on stderr."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from tqdm import tqdm

from ..events import Draft, Reading, RunEvent


class Steps:
    """Says what is being prepared, once for each step; called with its name and how far it is, 0 to 1."""

    def __init__(self) -> None:
        self._step = ""

    def __call__(self, step: str, fraction: float) -> None:
        if step != self._step:
            self._step = step
            print(f"{step} ...", file=sys.stderr)


@contextmanager
def stoppable() -> Iterator[Event]:
    """An event that Ctrl-C sets; a second Ctrl-C interrupts as usual."""
    cancel = Event()

    def stop(*_: object) -> None:
        print("\nStopping after this segment; Ctrl-C again stops at once.", file=sys.stderr)
        cancel.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def watched(events: Iterable[RunEvent]) -> RunEvent | None:
    """Follow a run to its last event, with a bar of the tokens read if somebody is watching."""
    event = None
    with token_bar() as bar:
        for event in events:
            moved(bar, event)
    return event


def token_bar() -> tqdm:
    """A bar of the tokens read, if somebody is watching."""
    return tqdm(unit=" tokens", disable=not sys.stderr.isatty(), file=sys.stderr, leave=False)


def moved(bar: tqdm, event: object) -> None:
    """Show on the bar how far an event says that the run is."""
    match event:
        case Reading(stats):
            bar.total, bar.n = stats.tokens_total, stats.tokens
            bar.set_description(f"{stats.pages} of {stats.pages_total} pages")
        case Draft(page=page):
            bar.set_description(f"Writing, at page {page}")


def streamed(texts: Iterable[str]) -> None:
    """Print a text as it grows.

    An answer that reaches its length loses its last half sentence when it ends: what was shown
    stays shown.
    """
    shown = 0
    for text in texts:
        print(text[shown:], end="", flush=True)
        shown = max(shown, len(text))
    print(flush=True)


def written(value: Any) -> None:
    """Print JSON for another program."""
    print(json.dumps(value, indent=2))
