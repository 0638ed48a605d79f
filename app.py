"""Opens the page: `python app.py`, then choose a document. Everything stays on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlx_edgeinf.ui.open import open_page


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
    parser.add_argument("--library", type=Path, help="folder of the library (default: the user's own)")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the first free one)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    return parser.parse_args()


def main() -> None:
    """Serve the page until Ctrl-C."""
    options = arguments()
    open_page(
        options.model, options.adapter, options.memory_mb, options.library, options.port,
        not options.no_browser,
    )  # fmt: skip


if __name__ == "__main__":
    main()
