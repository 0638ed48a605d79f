"""Opens the page: `python app.py`, then choose a document. Everything stays on this machine.

It is `mlx-edgeinf serve`, with the same options.
"""

from __future__ import annotations

import sys

from mlx_edgeinf.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
