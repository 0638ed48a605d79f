"""The same books under gates that were trained otherwise: kinds of memory, forms of the gate, sizes.

Gates can be added later to what was measured of others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path

from ..cache import EdgeCache
from ..training.checkpoint import PROGRESS, trained_share, trains_memory
from ..wording import counted, size
from .gap import ENDS, FULL, OURS, WINDOW, check_finished, share_lines
from .perplexity import measure_rows
from .readings import Reader
from .results import Results, ResultsError, described
from .subject import Subject
from .tables import markdown

UNTRAINED = {"tokens": 0, "earlier": [], "command": ""}
GATES = "gates"  # the group of the results that tells what each of them is


def described_gates(folder: Path, subject: Subject) -> dict:
    """What tells trained gates of a memory from others: their configuration, digest, size, and training."""
    path = folder / PROGRESS
    runs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else UNTRAINED
    return {
        "config": asdict(subject.config),
        "digest": subject.gates,
        "share": trained_share(subject.model, runs.get("share")),
        "tokens": sum(run["tokens"] for run in [*runs["earlier"], runs] if trains_memory(run)),
    }


def add_gates(told: dict[str, dict], results: Results) -> None:
    """Keep what gates are, by their name as `described_gates` tells it.

    Raises:
        ResultsError: there are results of other gates by one of these names, or windows differ.
    """
    first = results.setup["edges"][0]
    for name, gates in told.items():
        if 2 * gates["config"]["window"] != first:
            raise ResultsError(f"{name} has another window than the gates it is to be compared with.")
        if results.group(GATES).get(name, gates) != gates:
            raise ResultsError(
                f"{results.path} has results of other gates that are called {name}: rename the folder of "
                "these, or choose another --output."
            )
    results.add({(GATES, name): gates for name, gates in told.items()})


def measure_variants(
    model: str | None, folders: dict[str, Path], documents: dict[str, list[int]], results: Results
) -> None:
    """Read documents, by name the tokens of each, with the gates of each folder, by their name."""

    held: dict[Path, Reader] = {}

    def reader(folder: Path) -> Reader:
        if folder not in held:
            # Gates of another kind need a model of their own; one is held at a time.
            held.clear()
            subject = Subject.load(model, folder)
            held[folder] = Reader(subject.model, subject.untrained, documents, results.setup["edges"][0])
        return held[folder]

    @contextmanager
    def opened(row: str, length: int) -> Iterator[tuple[Reader, list[EdgeCache]]]:
        reading = reader(folders.get(row, next(iter(folders.values()))))
        with reading.caches(row if row in ENDS else OURS, length) as cache:
            yield reading, cache

    measure_rows(documents, (FULL, *folders, WINDOW), results, opened)


def summary(results: Results) -> str:
    """Markdown: the table, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    check_finished(results, product(results.setup["documents"], _rows(results)))
    return f"{table(results)}\n\n{described(results.setup, adapters=list(results.group(GATES)))}"


def table(results: Results) -> str:
    """Markdown: what each set of gates is, and what it closes of the gap of its base model."""
    gates, documents = results.group(GATES), results.setup["documents"]
    header, *lines = share_lines(results, _rows(results), next(iter(gates)))
    columns = [["memory", "gate", "trained on, tokens", "trained, % of the model", "state"]]
    for row, *_ in lines:
        largest = max(results.entries[name][row]["state_bytes"] for name in documents)
        columns.append([*_training(gates.get(row)), size(largest)])
    joined = [[line[0], *told, *line[1:]] for told, line in zip(columns, [header, *lines])]
    return f"{results.setup['base_model']}, {counted(len(documents), 'document')}:\n\n{markdown(joined)}"


def _rows(results: Results) -> list[str]:
    return [FULL, *results.group(GATES), WINDOW]


def _training(gates: dict | None) -> list[str]:
    if gates is None:
        return ["-", "-", "-", "-"]
    config = gates["config"]
    memory = f"{config['kind']}, {config['features']}"
    return [memory, config["gate"], f"{gates['tokens']:,}", f"{100 * gates['share']:.3f}"]
