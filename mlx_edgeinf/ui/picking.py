"""What the buttons of the panel of models do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ..catalogue import ModelRefused
from ..catalogue.home import downloaded
from ..library import LibraryError
from ..training.corpus import CorpusError
from . import desk, keeping, models
from .preparation import Replacement
from .room import Room
from .session import Session
from .view import View, render

LOOK_EVERY_SECONDS = 0.4
BUSY = "A document is being read or asked about: wait for its end, or press Stop, then try again."
NOT_READY = "The model is still being made ready: wait until it is, then try again."
CHANGED = "The model is being changed: once it is ready, open the document again from the library."
REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

Shown = tuple[Any, ...]


def act(room: Room, session: Session, wish: Mapping[str, str]) -> Iterator[Shown]:
    """Do what a button in the panel says, then show what goes on until nothing does.

    Each item: how far it is, the panel, the line about the model, and the parts of a `View`.
    """
    picker = room.picker
    if wish.get("do") != "models":
        picker.problem = picker.told = ""
    match wish:
        case {"do": "use"}:
            _or_say_why(room, lambda: _use(room, wish.get("model")))
        case {"do": "name", "name": name}:
            _or_say_why(room, lambda: _named(room, name.strip()))
        case {"do": "download", "repo": repo}:
            _or_say_why(room, lambda: picker.fetch(repo))
        case {"do": "train", "texts": texts}:
            _or_say_why(room, lambda: _train(room, texts))
        case {"do": "cancel"} if picker.fetching:
            picker.fetching.cancel.set()
        case {"do": "stop"} if picker.stop:
            picker.stop.set()
    yield from _following(room, session)


def _use(room: Room, model: str | None) -> None:
    _change(room, lambda: room.picker.use(room.library, model))


def _train(room: Room, texts: str) -> None:
    # Before anybody is kept from reading: a library may take seconds to be gathered.
    textbook = room.picker.textbook(room.library, texts)
    _change(room, lambda: room.picker.train(room.library, textbook))


def _named(room: Room, name: str) -> None:
    """What was typed: a folder, or else a model of the hub, here or to be fetched."""
    there = downloaded(room.picker.home, name) if REPO.fullmatch(name) else None
    if there or Path(name).expanduser().is_dir() or not REPO.fullmatch(name):
        _use(room, str(there or name))
    else:
        room.picker.fetch(name)


def _change(room: Room, choose: Callable[[], Replacement]) -> None:
    """Put another engine in the place of this one, which no page needs any more.

    Raises:
        ModelRefused: one does, or the other cannot be had.
    """
    with room.picker.changing:
        if not room.preparation.done:
            raise ModelRefused(room.preparation.occupied or NOT_READY)
        if any(session.busy for session in room.visits.values()):
            raise ModelRefused(BUSY)
        replacement = choose()
        for session in room.visits.values():
            if session.memory is not None or session.kept is not None:
                session.memory = session.past = session.as_of = None
                session.problem, session.obstacle = CHANGED, ""
        room.preparation.replace(replacement)


def _or_say_why(room: Room, work: Callable[[], None]) -> None:
    """Do it, or say in the panel why it cannot be done."""
    try:
        work()
    except (CorpusError, LibraryError, ModelRefused, OSError) as error:
        room.picker.problem = str(error)


def _following(room: Room, session: Session) -> Iterator[Shown]:
    """Show what goes on, until a later button of the same page shows it.

    The panel itself is sent only when it has changed, as somebody may be typing in it.
    """
    followers, turn, panel = room.picker.followers, object(), None
    followers[id(session)] = turn
    while followers[id(session)] is turn:
        going_on = not room.preparation.done or room.picker.fetching is not None
        before, (progress, panel, line) = panel, _shown(room)
        yield progress, gr.skip() if panel == before else panel, line, *_unchanged()
        if not going_on:
            break
        time.sleep(LOOK_EVERY_SECONDS)
    else:
        return
    if session.problem == CHANGED and not session.busy and not room.preparation.problem:
        # The memory of the document on show, by the model that is there now, or why it has none.
        session.problem = ""
        keeping.remember(room, session)
    yield gr.skip(), gr.skip(), gr.skip(), *render(session)


def _shown(room: Room) -> tuple[str, str, str]:
    """How far it is, the panel, and the line about the model."""
    picker, preparation = room.picker, room.preparation
    picker.settle()
    line = desk.model_settled(preparation) if preparation.done else desk.model_preparing(preparation.step)
    return models.progress(picker, preparation), models.panel(picker, preparation), line


def _unchanged() -> View:
    return View(*(gr.skip() for _ in View._fields))
