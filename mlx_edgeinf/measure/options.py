"""The command line of `python -m mlx_edgeinf.evaluate`: one sub-command for each measurement."""

from __future__ import annotations

import argparse
from pathlib import Path

from .gap import ROWS
from .hiding import LADDER
from .mixes import mix
from .results import FOLDER
from .selection import choice

LENGTHS = [8192, 16384, 32768, 65536, 131072]


def parse(argv: list[str] | None, description: str) -> argparse.Namespace:
    """The options of a measurement, which itself stands under the name `measurement`."""
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.evaluate", description=description)
    measurements = parser.add_subparsers(dest="measurement", required=True)
    losses = measurements.add_parser("perplexity", help="The loss of held-out documents.")
    _common(losses, "Folder of held-out documents.")
    _one(losses)
    losses.add_argument("--length", type=int, default=8192, help="Tokens read of each document.")
    losses.add_argument("--output", type=Path, default=FOLDER / "evaluate.json", help="Results file.")
    several = measurements.add_parser("gates", help="The loss under gates that were trained otherwise.")
    _common(several, "Folder of held-out documents.")
    several.add_argument("--adapters", type=Path, nargs="+", required=True, help="Folders of trained gates.")
    several.add_argument("--length", type=int, default=8192, help="Tokens read of each document.")
    several.add_argument("--output", type=Path, default=FOLDER / "gates", help="Folder of results files.")
    buying = measurements.add_parser("layers", help="What the memory of each layer buys.")
    _common(buying, "Folder of held-out documents.")
    _one(buying)
    buying.add_argument("--length", type=int, default=4096, help="Tokens read of each document.")
    buying.add_argument("--output", type=Path, default=FOLDER / "layers.json", help="Results file.")
    spending = measurements.add_parser("mixes", help="The loss by what a memory is made up of.")
    _common(spending, "Folder of held-out documents.")
    _one(spending)
    spending.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768], help="Ends of stretches.")
    spending.add_argument("--mixes", type=mix, nargs="+", required=True, help="Centres+tokens of each.")
    spending.add_argument("--output", type=Path, default=FOLDER / "mixes.json", help="Results file.")
    choosing = measurements.add_parser("selection", help="The loss by how recalled pages are chosen.")
    _common(choosing, "Folder of held-out documents.")
    _one(choosing)
    choosing.add_argument("--length", type=int, default=8192, help="Tokens read of each document.")
    choosing.add_argument("--rows", type=choice, nargs="+", required=True, help="Way:tokens:queries of each.")
    choosing.add_argument("--output", type=Path, default=FOLDER / "selection.json", help="Results file.")
    long = measurements.add_parser("lengths", help="The loss far beyond the base model's context.")
    _common(long, "Folder of held-out documents.")
    _one(long)
    long.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="Tokens; the least are recent.")
    long.add_argument("--output", type=Path, default=FOLDER / "lengths.json", help="Results file.")
    asking = measurements.add_parser("answers", help="Questions about documents.")
    _common(asking, "Folder of classics, longeval, squality and qmsum.")
    _one(asking)
    asking.add_argument("--rows", nargs="+", choices=ROWS, help="Ways of reading; else all but ablations.")
    asking.add_argument("--rouge", action="store_true", help="Have summaries written and count ROUGE; slow.")
    asking.add_argument("--tasks", nargs="+", required=True, help="needles-4096, lines-200, squality, ...")
    asking.add_argument("--output", type=Path, default=FOLDER / "answers", help="Folder of results files.")
    hidden = measurements.add_parser("facts", help="Invented facts in one long reading.")
    hidden.add_argument("--data", type=Path, required=True, help="Folder of books to hide them in.")
    hidden.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    _one(hidden)
    hidden.add_argument("--lengths", nargs="+", type=int, choices=LADDER, required=True)
    hidden.add_argument("--keep", type=Path, help="Folder for the reading, to go on with it after a stop.")
    hidden.add_argument("--output", type=Path, default=FOLDER / "facts.json", help="Results file.")
    linking = measurements.add_parser("support", help="How often the pages linked to a sentence are right.")
    linking.add_argument("--data", type=Path, required=True, help="Folder of train and dev.")
    linking.add_argument("--documents", type=int, default=40, help="Of each kind at most.")
    linking.add_argument("--output", type=Path, default=FOLDER / "support.json", help="Results file.")
    return parser.parse_args(argv)


def _common(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--documents", type=int, default=6, help="How many, evenly from the sorted names.")


def _one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter-path", type=Path, help="Trained gates; those shipped if not given.")
