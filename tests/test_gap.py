from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlx_edgeinf.measure import gap
from mlx_edgeinf.measure.gap import (
    FULL,
    GATED,
    HALF,
    OURS,
    RECALL,
    RECALL_ALONE,
    RECALL_SHUFFLED,
    ROWS,
    SHUFFLED,
    WINDOW,
)
from mlx_edgeinf.measure.results import Results, ResultsError
from mlx_edgeinf.measure.tables import interval


def results_with(nll: dict[str, list[float]]) -> Results:
    """Results of documents of 10 and 30 tokens in two stretches, with these NLLs by row."""
    names = [f"Book_{number}.md" for number in range(len(nll[FULL]))]
    setup = {
        "documents": dict.fromkeys(names, ""), "edges": [16, 26, 56], "rows": ROWS, "command": "evaluate",
        "machine": "a machine", "packages": {"mlx": "0"},
    }  # fmt: skip

    def entry(row: str, at: int) -> dict:
        gates = {"gates": "trained"} if row in GATED else {}
        return {"nats": [10 * nll[row][at], 30 * nll[row][at]], "tokens": [10, 30], "seconds": 1.0, **gates}

    entries = {name: {row: entry(row, at) for row in ROWS} for at, name in enumerate(names)}
    return Results(Path("results.json"), setup, entries)


@pytest.fixture
def known() -> Results:
    nll = dict.fromkeys(ROWS, [3.0, 4.0])
    return results_with(nll | {FULL: [2.0, 3.5], OURS: [2.25, 4.0], HALF: [2.5, 3.75], WINDOW: [3.0, 4.0]})


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_share_closed_is_the_ratio_of_the_mean_gaps(known):
    gains, gaps = gap.closed(known, OURS, slice(None))
    np.testing.assert_allclose(gains / gaps, [0.75, 0.0])
    assert gains.sum() / gaps.sum() == pytest.approx(0.5)


def test_the_interval_spans_the_documents_and_repeats(known):
    pair = gap.closed(known, OURS, slice(None))
    low, high = interval(*pair)
    assert (low, high) == interval(*pair)
    assert low == pytest.approx(0.0) and high == pytest.approx(0.75)


def test_the_table_shows_every_row_between_forgetting_and_full_attention(known):
    header, _, *lines = map(cells, gap.table(known).splitlines())
    assert header == ["gap closed", "NLL at 16-55", "16-25", "26-55", "16-55", "ours minus it"]
    assert [line[0] for line in lines] == list(ROWS)
    assert lines[0][1:5] == ["2.7500", "1.00", "1.00", "1.00"]
    assert lines[ROWS.index(OURS)][4:] == ["0.50 (0.00 to 0.75)", ""]
    assert lines[-1][1:5] == ["3.5000", "0.00", "0.00", "0.00"]


def test_what_ours_closes_more_is_paired_by_document(known):
    by_row = {line[0]: line[-1] for line in map(cells, gap.table(known).splitlines()[2:])}
    # 0.25 more of a gap of 1, 0.25 less of one of 0.5: together nothing.
    assert by_row[HALF] == "0.00 (-0.50 to 0.25)"
    assert by_row[WINDOW] == "0.50 (0.00 to 0.75)" and by_row[FULL] == "-0.50 (-1.00 to -0.25)"


def test_each_document_stands_beside_its_gap(known):
    header, _, *lines = map(cells, gap.documents_table(known).splitlines())
    assert [line[:2] for line in lines] == [["Book 0", "1.000"], ["Book 1", "0.500"]]
    assert [line[header.index(OURS)] for line in lines] == ["0.75", "0.00"]


def test_a_table_of_unfinished_results_is_refused(known):
    gap.summary(known)
    del known.entries["Book_1.md"][SHUFFLED]
    with pytest.raises(ResultsError, match="not finished"):
        gap.summary(known)


def test_numbers_of_two_sets_of_gates_of_recall_never_stand_side_by_side(known):
    known.setup["rows"] = [*known.setup["rows"], RECALL, RECALL_ALONE]
    for entries in known.entries.values():
        entries[RECALL] = entries[OURS] | {"gates": f"{entries[OURS].get('gates', '')}+first"}
        for row in (RECALL_ALONE, RECALL_SHUFFLED):
            entries[row] = entries[OURS] | {"gates": "+first"}
    gap.summary(known)
    known.entries["Book_1.md"][RECALL_ALONE]["gates"] = "+second"
    with pytest.raises(ResultsError, match="not finished"):
        gap.summary(known)


def test_numbers_of_two_sets_of_gates_never_stand_side_by_side(known):
    known.entries["Book_1.md"][OURS]["gates"] = "trained further"
    with pytest.raises(ResultsError, match="not finished"):
        gap.summary(known)
