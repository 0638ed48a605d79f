"""The picture of the page in README: python tests/portrait.py book.pdf assets/freeculture.png "A question?"

Reads the file with the starter model in a headless browser, and takes the page's picture at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from browsing import Visit, launched, served

from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.room import Room

A_DAY = 24 * 60


def main() -> None:
    """Read, ask, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("question", nargs="?")
    args = parser.parse_args()
    with TemporaryDirectory() as folder, launched() as browser:
        assert browser, "Chromium is not installed"
        library = Library(Path(folder))
        with served(Room(Preparation(lambda note: Engine(on_progress=note)), library)) as address:
            with Visit(browser, address) as visit:
                visit.page.set_default_timeout(A_DAY * 60_000)
                visit.read(args.document)
                print(visit.finish(A_DAY))
                if args.question:
                    print(visit.ask(args.question, A_DAY))
                visit.page.screenshot(path=args.picture, full_page=True)
        library.close()


if __name__ == "__main__":
    main()
