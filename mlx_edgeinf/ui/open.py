"""Opens the page and serves it until Ctrl-C, the model being loaded meanwhile."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..catalogue.choice import chosen_model
from ..library import Library, LibraryError
from .access import open_in_browser
from .page import build
from .picker import Picker, load_engine
from .preparation import Note, Preparation
from .room import Room
from .server import serve

if TYPE_CHECKING:
    from ..engine import Engine


def named(model: str) -> str:
    """A folder by its whole path, as the panel of models has it; anything else as it is."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def open_page(
    model: str | None,
    adapter: str | None,
    memory_mb: float | None,
    recall_gb: float | None,
    folder: Path | None,
    port: int | None,
    browser: bool,
) -> None:
    """Serve the page for a model; see `engine.Engine` for its options.

    Args:
        model: None is the one that was chosen last in the page, or else the starter model.
        folder: of the library; None is the user's own.
        port: on 127.0.0.1; None is the first free one.
        browser: open a window.
    """

    try:
        library = Library(folder)
    except LibraryError as error:
        sys.exit(str(error))
    # Gates are for the model that they are named with: the starter model, if none is.
    first = named(model) if model else None if adapter else chosen_model(library.folder)

    def load(model: str | None, note: Note) -> Engine:
        return load_engine(model, note, adapter if model == first else None, memory_mb, recall_gb)

    picker = Picker(load, first)
    room = Room(Preparation(partial(load, first)), library, picker)
    page = build(room)
    try:
        address = serve(page, port)
    except OSError as error:
        # Gradio's own, of a port that is taken, has no reason but a text of Gradio's.
        if error.strerror:
            sys.exit(f"The page could not be served ({error.strerror}): close other programs, and try again.")
        sys.exit("The port is taken: choose a free one with --port.")
    print(f"Reading room open at {address} (Ctrl-C closes it; only you can open this address)", flush=True)
    if browser:
        open_in_browser(address, Path(room.uploads.name))
    page.block_thread()
    picker.close()
    library.close()
