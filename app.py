"""Opens the page: `python app.py`, then choose a document. Everything stays on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlx_edgeinf.ui.page import build
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.server import serve

if TYPE_CHECKING:
    from mlx_edgeinf.engine import Engine


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub id or folder of an mlx-lm model (default: the starter model)")
    parser.add_argument(
        "--adapter", help="folder of gates trained for the model (default: those shipped for it)"
    )
    parser.add_argument(
        "--memory-mb", type=float, help="megabytes that a document's state may take, whatever its length"
    )
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the first free one)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    return parser.parse_args()


def main() -> None:
    """Serve the page until Ctrl-C, the model being loaded meanwhile."""
    options = arguments()

    def load(note: Callable[[str, float], None]) -> Engine:
        # Only now: MLX and mlx-lm take seconds to import, and the page is to open at once.
        from mlx_edgeinf.engine import Engine

        return Engine(options.model, options.adapter, options.memory_mb, note)

    page = build(Preparation(load))
    try:
        address = serve(page, options.port, open_browser=not options.no_browser)
    except OSError:
        sys.exit("The port is taken: choose a free one with --port.")
    print(f"Reading room open at {address} (Ctrl-C closes it)")
    page.block_thread()


if __name__ == "__main__":
    main()
