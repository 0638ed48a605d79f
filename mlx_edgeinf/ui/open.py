"""Opens the page and serves it until Ctrl-C, the model being loaded meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..library import Library, LibraryError
from .access import open_in_browser
from .page import build
from .preparation import Preparation
from .room import Room
from .server import serve

if TYPE_CHECKING:
    from ..engine import Engine


def open_page(
    model: str | None,
    adapter: str | None,
    memory_mb: float | None,
    folder: Path | None,
    port: int | None,
    browser: bool,
) -> None:
    """Serve the page for a model; see `engine.Engine` for its options.

    Args:
        folder: of the library; None is the user's own.
        port: on 127.0.0.1; None is the first free one.
        browser: open a window.
    """

    def load(note: Callable[[str, float], None]) -> Engine:
        # Only now: MLX and mlx-lm take seconds to import, and the page is to open at once.
        from ..engine import Engine

        return Engine(model, adapter, memory_mb, note)

    try:
        library = Library(folder)
    except LibraryError as error:
        sys.exit(str(error))
    room = Room(Preparation(load), library)
    page = build(room)
    try:
        address = serve(page, port)
    except OSError:
        sys.exit("The port is taken: choose a free one with --port.")
    print(f"Reading room open at {address} (Ctrl-C closes it; only you can open this address)", flush=True)
    if browser:
        open_in_browser(address, Path(room.uploads.name))
    page.block_thread()
    library.close()
