"""The command line of `python -m mlx_edgeinf.evaluate`: one sub-command for each measurement."""

from __future__ import annotations

import argparse
from pathlib import Path

from .gap import RECALL_SHUFFLED, ROWS
from .hiding import LADDER
from .mixes import mix
from .results import FOLDER
from .selection import choice

LENGTHS = [8192, 16384, 32768, 65536, 131072]


def parse(argv: list[str] | None, description: str) -> argparse.Namespace:
    """The options of a measurement, which itself stands under the name `measurement`."""
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.evaluate", description=description)
    measurements = parser.add_subparsers(dest="measurement", required=True)
    for name, (told, add_options) in MEASUREMENTS.items():
        add_options(measurements.add_parser(name, help=told))
    return parser.parse_args(argv)


def _perplexity(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    _one(parser)
    _length(parser, 8192)
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="Ways of reading, if not all.")
    _output(parser, "evaluate.json")


def _gates(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    parser.add_argument("--adapters", type=Path, nargs="+", required=True, help="Folders of trained gates.")
    _length(parser, 8192)
    _output(parser, "gates", "Folder of results files.")


def _heads(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    _one(parser)
    _length(parser, 4096)
    _output(parser, "heads.json")


def _mixes(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    _one(parser)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768], help="Ends of stretches.")
    parser.add_argument("--mixes", type=mix, nargs="+", required=True, help="Centres+tokens of each.")
    _output(parser, "mixes.json")


def _selection(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    _one(parser)
    _length(parser, 8192)
    parser.add_argument("--rows", type=choice, nargs="+", required=True, help="Way:tokens:queries of each.")
    _output(parser, "selection", "Folder of results files, one for each length.")


def _ahead(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    _one(parser)
    _length(parser, 4096)
    _output(parser, "ahead.json")


def _lengths(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of held-out documents.")
    _one(parser)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="`recent`: the least.")
    _output(parser, "lengths.json")


def _answers(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of classics, longeval, squality and qmsum.")
    _one(parser)
    rows = [row for row in ROWS if row != RECALL_SHUFFLED]
    parser.add_argument("--rows", nargs="+", choices=rows, help="Ways of reading; else all but ablations.")
    parser.add_argument("--rouge", action="store_true", help="Have summaries written, count ROUGE.")
    parser.add_argument("--tasks", nargs="+", required=True, help="needles-4096, lines-200, squality, ...")
    _output(parser, "answers", "Folder of results files.")


def _retention(parser: argparse.ArgumentParser) -> None:
    _common(parser, "Folder of squality.")
    _one(parser)
    parser.add_argument("--read", type=int, required=True, help="Of the documents, how many are read.")
    _output(parser, "retention.json")


def _facts(parser: argparse.ArgumentParser) -> None:
    _from(parser, "Folder of books to hide them in.")
    _one(parser)
    parser.add_argument("--lengths", nargs="+", type=int, choices=LADDER, required=True)
    parser.add_argument(
        "--text", type=int, default=0, choices=range(10),
        help="Each begins with another book of the folder, and has other facts.",
    )  # fmt: skip
    parser.add_argument("--keep", type=Path, help="Folder for the reading, to go on with it after a stop.")
    _output(parser, "facts", "Folder of results files, one for each text.")


def _support(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="Folder of train and dev.")
    parser.add_argument("--documents", type=int, default=40, help="Of each kind at most.")
    _output(parser, "support.json")


def _from(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")


def _common(parser: argparse.ArgumentParser, data: str) -> None:
    _from(parser, data)
    parser.add_argument("--documents", type=int, default=6, help="How many, evenly from the sorted names.")


def _one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter-path", type=Path, help="Trained gates; else those found or shipped.")


def _length(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument("--length", type=int, default=default, help="Tokens read of each document.")


def _output(parser: argparse.ArgumentParser, name: str, told: str = "Results file.") -> None:
    parser.add_argument("--output", type=Path, default=FOLDER / name, help=told)


# By name: what is told of each, and its options.
MEASUREMENTS = {
    "perplexity": ("The loss of held-out documents.", _perplexity),
    "gates": ("The loss under gates that were trained otherwise.", _gates),
    "heads": ("What the memory of each head buys.", _heads),
    "mixes": ("The loss by what a memory is made up of.", _mixes),
    "selection": ("The loss by how recalled pages are chosen.", _selection),
    "ahead": ("What reading recalled pages a layer ahead would bring.", _ahead),
    "lengths": ("The loss far beyond the base model's context.", _lengths),
    "answers": ("Questions about documents.", _answers),
    "retention": ("What is left of stories by how long ago they were read.", _retention),
    "facts": ("Invented facts in one long reading.", _facts),
    "support": ("How often the pages linked to a sentence are right.", _support),
}
