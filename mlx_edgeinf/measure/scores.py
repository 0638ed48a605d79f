"""Tables of how well questions were answered, with intervals over documents.

Entries come from `answers`: by document and row, the scores of each question. A document
counts as the mean of its questions; rows are compared over the documents both have read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np

from ..wording import count, counted, size
from .gap import FULL, ROWS, WINDOW, check_of_one
from .metrics import NAMES
from .results import Results, described
from .tables import folded, markdown, with_interval

LOG_PROBABILITY = NAMES["log_probability"]
FIFTHS = ("0-20 %", "20-40 %", "40-60 %", "60-80 %", "80-100 %")


def pairs(setup: dict) -> list[tuple[str, str]]:
    """What there is to measure, by document and row: full attention only of what fits."""
    every = product(setup["documents"], setup["rows"])
    return [(name, row) for name, row in every if row != FULL or name in setup["exact"]]


def means(questions: list[dict]) -> dict[str, float]:
    """Each score over some questions, under the name that people call it."""
    return {label: mean(q[key] for q in questions) for key, label in NAMES.items() if key in questions[0]}


def summary(folder: Path, names: Iterable[str]) -> str:
    """Markdown: what some results files say side by side, and under a title for each its own tables.

    Raises:
        ResultsError: one of them was not measured, or not to its end, or they are of several models or gates.
    """
    measured = [Results.read(folder / f"{name}.json") for name in names]
    check_of_one(folder, [(results, pairs(results.setup)) for results in measured])
    return "\n\n".join([_side_by_side(measured), *map(table, measured)])


def table(results: Results) -> str:
    """Markdown, folded: each row's scores on a task, those by the depth of the answer, and the command."""
    entries = [results.entries[name][WINDOW] for name in results.setup["documents"]]
    lengths, labels = [entry["tokens"] for entry in entries], _labels(results)
    title = (
        f"<b>{results.setup['task']}</b>: {counted(len(entries), 'document')} of {count(min(lengths))} to "
        f"{count(max(lengths))} tokens, {counted(_asked(results), 'question')}: {', '.join(labels)}"
    )
    parts = [_scores(results), _depths(results), described(results.setup)]
    return folded(title, "\n\n".join(filter(None, parts)))


def _side_by_side(measured: Sequence[Results]) -> str:
    """Log-probabilities, rows by tasks; a task that was also measured otherwise counts once."""
    tasks: dict[str, Results] = {}
    for results in measured:
        tasks.setdefault(results.setup["task"], results)
    lines = [[LOG_PROBABILITY, *(f"{task} (n {_asked(results)})" for task, results in tasks.items())]]
    for row in ROWS:
        cells = [_overall(results, row) for results in tasks.values()]
        if any(cells):
            lines.append([row, *(cell or "-" for cell in cells)])
    return markdown(lines)


def _overall(results: Results, row: str) -> str:
    """The mean log-probability of a row that has read all documents; else nothing."""
    names = _read(results, row)
    if len(names) < len(results.setup["documents"]):
        return ""
    return f"{_by_document(results, names, row, LOG_PROBABILITY).mean():.2f}"


def _asked(results: Results) -> int:
    return sum(len(entry["questions"]) for entry in _entries(results, WINDOW))


def _labels(results: Results) -> list[str]:
    return list(means(_entries(results, WINDOW)[0]["questions"]))


def _scores(results: Results) -> str:
    labels = _labels(results)
    lines = [["", "documents", "state"] + [cell for label in labels for cell in (label, f"minus {WINDOW}")]]
    for row in _rows(results):
        entries, names = _entries(results, row), _read(results, row)
        line = [row, count(len(entries)), size(max(entry["state_bytes"] for entry in entries))]
        for label in labels:
            scores, window = (_by_document(results, names, each, label) for each in (row, WINDOW))
            line += [with_interval(scores), "" if row == WINDOW else with_interval(scores - window)]
        lines.append(line)
    return markdown(lines)


def _depths(results: Results) -> str:
    """Scores by the fifth of the document in which the answer stands; nothing for a single one."""
    asked = _by_fifth(_entries(results, WINDOW))
    if len(asked) < 2:
        return ""
    labels = list(means(next(iter(asked.values()))))
    lines = [[f"{' / '.join(labels)}, answer at"] + [f"{FIFTHS[at]} (n {len(asked[at])})" for at in asked]]
    for row in _rows(results):
        answered = _by_fifth(_entries(results, row))
        lines.append([row, *(_at_depth(answered.get(at, []), len(asked[at])) for at in asked)])
    return markdown(lines)


def _by_fifth(entries: list[dict]) -> dict[int, list[dict]]:
    fifths: dict[int, list[dict]] = {}
    for question in (question for entry in entries for question in entry["questions"]):
        if question["depth"] is not None:
            fifths.setdefault(min(int(5 * question["depth"]), 4), []).append(question)
    return dict(sorted(fifths.items()))


def _at_depth(questions: list[dict], expected: int) -> str:
    """Scores of questions; their number only where it is not that of the other rows."""
    if not questions:
        return "-"
    cell = " / ".join(f"{value:.2f}" for value in means(questions).values())
    return cell if len(questions) == expected else f"{cell} (n {len(questions)})"


def _by_document(results: Results, names: list[str], row: str, label: str) -> np.ndarray:
    return np.array([means(results.entries[name][row]["questions"])[label] for name in names])


def _rows(results: Results) -> list[str]:
    """Rows that have read any document, in the order of all tables."""
    return [row for row in ROWS if row in results.setup["rows"] and _read(results, row)]


def _read(results: Results, row: str) -> list[str]:
    return [name for name in results.setup["documents"] if results.has(name, row)]


def _entries(results: Results, row: str) -> list[dict]:
    return [results.entries[name][row] for name in _read(results, row)]

