"""Which model the page reads with: chosen, fetched, and given gates. One for all open pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from ..atomic import SaveError
from ..catalogue import ModelRefused
from ..catalogue.choice import choose_model
from ..catalogue.download import Cancelled, download
from ..catalogue.home import default_home, local_model
from ..catalogue.lessons import ITERATIONS, Textbook, folder_textbook, library_textbook
from ..catalogue.offers import Gates, Offer, offer_of, offers
from ..wording import time_left
from .background import Background
from .preparation import Note, Replacement

if TYPE_CHECKING:
    from ..catalogue.gates import Lesson
    from ..engine import Engine
    from ..library import Library

TRAINING = "Gates are being trained: until that is done or stopped under Models, nothing can be read."


def load_engine(
    model: str | None, note: Note, adapter: str | None = None, memory_mb: float | None = None,
    recall_gb: float | None = None,
) -> Engine:
    """The engine for a model, None for the starter model; see `engine.Engine`."""
    # Only now: MLX and mlx-lm take seconds to import, and the page is to open at once.
    from ..engine import Engine

    return Engine(model, adapter, memory_mb, note, recall_gb)


@dataclass(frozen=True)
class Fetching:
    """A download under way, or done."""

    repo: str
    work: Background[Path]
    cancel: Event

    @property
    def bytes(self) -> tuple[int, int]:
        """Those that are there, and those of the whole; zeros before the hub has answered."""
        return self.work.latest or (0, 0)


@dataclass
class Picker:
    """The choice of the model.

    load: makes an engine. model: folder or hub id that is chosen; None is the starter model.
    home: of downloaded models. problem, told: what went wrong, and what was done, for people.
    stop: ends the training under way. seconds: that a training may take, by the model's folder.
    followers: whose turn it is to show a page what goes on. changing: held while the model is changed.
    """

    load: Callable[[str | None, Note], Engine] = load_engine
    model: str | None = None
    home: Path = field(default_factory=default_home)
    problem: str = ""
    told: str = ""
    fetching: Fetching | None = None
    stop: Event | None = None
    seconds: dict[Path, float] = field(default_factory=dict)
    followers: dict[int, object] = field(default_factory=dict)
    changing: Lock = field(default_factory=Lock)

    def offers(self) -> list[Offer]:
        """What there is to choose from."""
        return offers(self.home)

    @property
    def own(self) -> Offer | None:
        """The model in use, if it lies in a folder that can be looked at."""
        try:
            return offer_of(self.model) if self.model else None
        except ModelRefused:
            return None

    def close(self) -> None:
        """Tell what goes on to end, a chunk or a step later; the program would wait for its whole end."""
        for event in (self.stop, self.fetching and self.fetching.cancel):
            if event:
                event.set()

    # -- choosing -----------------------------------------------------------------

    def use(self, library: Library, model: str | None) -> Replacement:
        """Choose another model, also for the next start once it is ready.

        Raises:
            ModelRefused: it is not there, or not supported.
        """
        self.model = str(local_model(model).folder) if model else None
        return Replacement(self._loading(library, self.model))

    def _loading(self, library: Library, model: str | None) -> Callable[[Note], Engine]:
        def load(note: Note) -> Engine:
            engine = self.load(model, note)
            try:
                choose_model(library.folder, model)
            except SaveError as error:
                self.problem = f"The choice will be forgotten at the next start: {error}"
            return engine

        return load

    # -- fetching -----------------------------------------------------------------

    def fetch(self, repo: str) -> None:
        """Begin to download a model of the hub.

        Raises:
            ModelRefused: another one is on its way.
        """
        if self.fetching:
            coming = self.fetching.repo
            raise ModelRefused(f"{coming} is being downloaded: wait for that, or cancel it first.")
        cancel = Event()
        work = Background(lambda note: download(repo, self.home, note, cancel))
        self.fetching = Fetching(repo, work, cancel)

    def settle(self) -> None:
        """Take note of a download that has ended."""
        fetching = self.fetching
        if fetching is None or not fetching.work.done:
            return
        self.fetching = None
        try:
            self.told = f"{fetching.work.result.name} is downloaded: use it below."
        except Cancelled:
            self.told = "Cancelled. What came so far is kept: Download goes on from there."
        except ModelRefused as error:
            self.problem = str(error)

    # -- training -----------------------------------------------------------------

    def textbook(self, library: Library, folder: str) -> Textbook:
        """What gates can be trained on. folder: of texts; empty for the library's documents.

        Raises:
            ModelRefused, CorpusError, LibraryError: there is too little text, or it cannot be read.
        """
        return folder_textbook(folder) if folder.strip() else library_textbook(library)

    def train(self, library: Library, textbook: Textbook) -> Replacement:
        """Train gates for the model in use; afterwards it is loaded with them.

        Raises:
            ModelRefused: there is nothing to train.
        """
        own = self.own
        if own is None or own.gates not in (Gates.NONE, Gates.UNFINISHED):
            raise ModelRefused("This model has its gates already: choose another one to train for.")
        self.stop = Event()
        learn = partial(self._learn, own.folder, textbook, self.stop)
        return Replacement(self._loading(library, self.model), learn, TRAINING)

    def _learn(self, folder: Path, textbook: Textbook, stop: Event, note: Note) -> None:
        from ..catalogue.gates import train_gates

        def on_step(lesson: Lesson) -> None:
            left = "stopping" if stop.is_set() else time_left(lesson.seconds_left)
            step = f"step {lesson.step} of {ITERATIONS}, loss {lesson.loss:.3f}, {left}"
            note(f"Training gates: {step}", 0.0)

        note("Training gates: the first step tells how long it takes", 0.0)
        try:
            done = train_gates(folder, textbook, on_step, stop)
            self.told = "The gates are trained." if done else "Stopped. The steps done are kept."
        except ModelRefused as error:
            self.problem = str(error)
        finally:
            self.stop = None

    def estimate(self, offer: Offer) -> float:
        """Seconds that a whole training may take, roughly; measured once."""
        if offer.folder not in self.seconds:
            from ..catalogue.gates import rough_seconds

            self.seconds[offer.folder] = rough_seconds(local_model(offer.folder).shape)
        return self.seconds[offer.folder]
