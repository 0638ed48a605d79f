"""How often a page link is right, over `claims`: precision, coverage and false support.

The threshold of `support` is chosen on the documents of one part, and the table reports on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..support import COVERED, Evidence, Passage
from ..wording import count
from .claims import CHOOSING, REPORTING, Case, cases
from .results import Results, ResultsError, described
from .tables import markdown, ratio

MOST_FALSE = 0.05
THRESHOLDS = [round(0.05 * step, 2) for step in range(4, 15)]


def measure_support(data: Path, documents: int, results: Results) -> None:
    """Look every sentence up that the results do not hold yet, by part and kind, and document.

    An entry has the number of sentences that are true of the document (`own`) and that are not (`foreign`);
    for each of `THRESHOLDS` how many of them are given a page (`linked`, `foreign_linked`), how many
    first pages are evidence (`right`), how many pages are given (`links`) and are evidence
    (`right_links`); and the mean share of pages that are evidence (`chance`).
    """
    for part in (CHOOSING, REPORTING):
        for kind, found in cases(data / part, documents):
            for name, case in found.items():
                if not results.has(f"{part}/{kind}", name):
                    results.add({(f"{part}/{kind}", name): _looked_up(case)})


def summary(results: Results) -> str:
    """Markdown: precision, coverage and false support of each kind of document.

    Raises:
        ResultsError: the product's threshold is not the one that these results choose.
    """
    threshold = chosen_threshold(results)
    if threshold != COVERED:
        raise ResultsError(f"These results choose {threshold} as threshold, support.COVERED is {COVERED}.")
    lines = [[
        "", "documents", "sentences", "given a page", "first page right", "all pages right",
        "a random page right", "foreign sentences", "of these given a page",
    ]]  # fmt: skip
    lines += [_row(kind, entries) for kind, entries in _kinds(results, REPORTING)]
    return "\n\n".join([markdown(lines), described(results.setup)])


def chosen_threshold(results: Results) -> float:
    """The lowest at which no kind of document to choose on gives pages to over 5 % of foreign sentences."""
    kinds = [entries for _, entries in _kinds(results, CHOOSING)]
    for at, threshold in enumerate(THRESHOLDS):
        if all(_sum(each, "foreign_linked", at) <= MOST_FALSE * _sum(each, "foreign") for each in kinds):
            return threshold
    raise ResultsError(f"No threshold gives pages to under {MOST_FALSE:.0%} of foreign sentences.")


def _looked_up(case: Case) -> dict[str, float | list[int]]:
    evidence = Evidence(case.pages)

    def linked(sentence: str) -> tuple[Passage, ...]:
        return evidence.supporting(sentence, covered=THRESHOLDS[0])

    own = [(linked(sentence), pages) for sentence, pages in case.own]
    foreign = [linked(sentence) for sentence in case.foreign]
    known = [(found, pages) for found, pages in own if pages is not None]
    links = [(each, pages) for found, pages in known for each in found]
    entry = {
        "own": len(own),
        "foreign": len(foreign),
        "linked": _at_each([found[0] for found, _ in own if found]),
        "foreign_linked": _at_each([found[0] for found in foreign if found]),
    }
    if not known:
        return entry
    return entry | {
        "right": _at_each([found[0] for found, pages in known if found and found[0].page in pages]),
        "links": _at_each([each for each, _ in links]),
        "right_links": _at_each([each for each, pages in links if each.page in pages]),
        "chance": float(np.mean([len(pages) / len(case.pages) for _, pages in known])),
    }


def _at_each(passages: Sequence[Passage]) -> list[int]:
    """For each threshold how many reach it."""
    return [sum(passage.score >= threshold for passage in passages) for threshold in THRESHOLDS]


def _row(kind: str, entries: list[dict]) -> list[str]:
    at = THRESHOLDS.index(COVERED)

    def share(part: str, whole: str) -> str:
        parts, wholes = (np.array([_value(each, key, at) for each in entries]) for key in (part, whole))
        return ratio(parts, wholes) if len(entries) > 1 else f"{parts.sum() / wholes.sum():.2f}"

    known = "right" in entries[0]
    return [
        kind, count(len(entries)), count(_sum(entries, "own")), share("linked", "own"),
        share("right", "linked") if known else "not known",
        share("right_links", "links") if known else "not known",
        f"{np.mean([each['chance'] for each in entries]):.3f}" if known else "not known",
        count(_sum(entries, "foreign")), share("foreign_linked", "foreign"),
    ]  # fmt: skip


def _kinds(results: Results, part: str) -> list[tuple[str, list[dict]]]:
    groups = [(name.partition("/"), entries) for name, entries in results.entries.items()]
    kinds = [(kind, list(entries.values())) for (of, _, kind), entries in groups if of == part]
    if not kinds:
        raise ResultsError(f"{results.path} holds nothing of {part}: measure first.")
    return kinds


def _value(entry: dict, key: str, at: int) -> int:
    return entry[key][at] if isinstance(entry[key], list) else entry[key]


def _sum(entries: list[dict], key: str, at: int = 0) -> int:
    return sum(_value(entry, key, at) for entry in entries)
