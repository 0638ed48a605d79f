"""python -m mlx_edgeinf.report: measured numbers into README, and their picture into assets.

A table is never typed by hand: it stands between two HTML comments, such as
`<!-- evaluate -->` and `<!-- /evaluate -->`, and this command writes it there
from a results file, with the command and the machine that measured it.

    python -m mlx_edgeinf.report README.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import benchmark
from .adapter import AdapterError
from .atomic import replace_text
from .measure import (
    ahead,
    curve,
    evidence,
    found,
    gap,
    heads,
    kills,
    lengths,
    mixes,
    retention,
    scores,
    selection,
    variants,
)
from .measure.picture import draw
from .measure.results import FOLDER, Results, ResultsError
from .terminal import run

# Their record has all the runs that made them.
TRAINED = Path("assets/gates/smollm2-135m-instruct")
# What is made of one results file each, by its name and the comments that it stands between.
TABLES = {
    "evaluate": gap.summary,
    "taught_books": gap.summary,
    "lengths": lengths.summary,
    "heads": heads.summary,
    "mixes": mixes.summary,
    "ahead": ahead.summary,
    "retention": retention.summary,
    "support": evidence.summary,
    "kills": kills.summary,
}
# And of folders of them, the same from each.
FOLDERS = {"gates": variants.summary, "selection": selection.summary}
# And of all files of a folder together.
TOGETHER = {
    "answers": scores.summary,
    "answers_earlier": scores.summary,
    "taught": scores.summary,
    "facts": found.summary,
}


class MarkersMissing(ValueError):
    """A page without the comments between which a table belongs."""


def insert(page: str, name: str, text: str) -> str:
    """`page` with `text` between the comments of `name`, in place of what stood there.

    Raises:
        MarkersMissing: the comments are not in the page, in that order.
    """
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(opening)
    _, closed, after = rest.partition(closing)
    if not (found and closed):
        raise MarkersMissing(f"There is no {opening} ... {closing} in the page: add both comments.")
    return f"{before}{opening}\n{text}\n{closing}{after}"


def report(args: argparse.Namespace) -> None:
    """Write what is measured into the page, and the picture beside it."""
    page = args.page.read_text(encoding="utf-8")
    for name, summary in TABLES.items():
        if (path := args.results / f"{name}.json").exists():
            page = insert(page, name, summary(Results.read(path)))
    for name, summary in FOLDERS.items():
        files = sorted((args.results / name).glob("*.json"), key=lambda path: (len(path.stem), path.stem))
        if files:
            page = insert(page, name, "\n\n".join(summary(Results.read(path)) for path in files))
    if args.trained.exists():
        page = insert(page, "curve", curve.summary(args.trained))
    for name, summary in TOGETHER.items():
        if files := _names(folder := args.results / name):
            page = insert(page, name, summary(folder, files))
    if (path := args.results / "benchmark.json").exists():
        results = Results.read(path)
        page = insert(page, "benchmark", benchmark.summary(results))
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        replace_text(args.picture, draw(results))
    replace_text(args.page, page)


def _names(folder: Path) -> list[str]:
    """Results files in a folder, without their endings; tasks of a kind by their length."""

    def kind_and_length(name: str) -> tuple[str, int, str]:
        kind, _, length = ("", "", name) if name.isdigit() else name.partition("-")
        return kind, int(length) if length.isdigit() else 0, name

    return sorted((path.stem for path in folder.glob("*.json")), key=kind_and_length)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv)
    failures = (AdapterError, MarkersMissing, ResultsError, OSError)
    return run("mlx_edgeinf.report", lambda: report(args), failures, "Stopped. The page is as it was.")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.report", description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path, help="The page to write into, usually README.md.")
    parser.add_argument("--results", type=Path, default=FOLDER, help="Folder of what was measured.")
    parser.add_argument("--trained", type=Path, default=TRAINED, help="Gates whose training is shown.")
    parser.add_argument("--picture", type=Path, default=Path("assets/benchmark.svg"), help="Where to draw.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
