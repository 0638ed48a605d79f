from __future__ import annotations

from pathlib import Path

import pytest

from mlx_edgeinf.measure import facts, found
from mlx_edgeinf.measure.gap import FULL, OURS, RECALL
from mlx_edgeinf.measure.hiding import KINDS, SINGLE
from mlx_edgeinf.measure.results import Results, ResultsError

CONTEXT, SHORT, LONG = 800, 600, 1000
SETUP = {
    "command": "python -m it", "machine": "a machine", "packages": {"mlx": "0"}, "context": CONTEXT,
    "base_model": "tiny", "config": {},
}  # fmt: skip


def answers(*exact: bool) -> list[dict]:
    """Each is a nat likelier where it is exact."""
    return [{"exact": each, "log_probability": each - 2.0} for each in exact]


def text(folder: Path, name: str, lengths: tuple[int, ...], **rows: list[dict]) -> Results:
    """One read to some lengths; rows, by what they are called in code: what those say of single facts."""
    said = {getattr(facts, row): single for row, single in rows.items()}
    costs = {"decode": 2.5, "peak_bytes": 3e6, "state_bytes": 2e6, "disk_bytes": 4e3}
    results = Results(folder / f"{name}.json", SETUP)
    for length, row in facts.pairs(lengths, CONTEXT):
        kinds = dict.fromkeys(KINDS, answers(True, False)) | {SINGLE: said.get(row, answers(False, False))}
        results.add({(str(length), row): kinds | costs})
    return results


def lines(summary: str) -> dict[str, list[str]]:
    """The first line that begins with each cell, as its other cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in summary.splitlines()]
    return {cells[0]: cells[1:] for cells in reversed(rows)}


def test_the_tables_say_what_was_found_and_what_it_took(tmp_path):
    text(tmp_path, "0", (SHORT, LONG))
    summary = found.summary(tmp_path, ["0"])
    for kind in KINDS:
        assert f"| {kind}: exact; log-probability | 600 tokens (n 2) | 1,000 tokens (n 2) |" in summary
    assert lines(summary)[FULL] == ["0.00 (0.00 to 0.00); -2.00", "-"]
    assert "| 1,000 tokens | 3 MB | 2 MB | 4 kB | 2.5 | 2.5 |" in summary
    assert summary.endswith("`python -m it --lengths 600 1000` on a machine; mlx 0.")


def test_recall_is_compared_with_full_attention_fact_by_fact(tmp_path):
    text(tmp_path, "0", (SHORT, LONG), RECALL=answers(True, True), FULL=answers(True, False))
    summary = found.summary(tmp_path, ["0"])
    assert lines(summary)[f"{RECALL} minus {FULL}"] == ["0.50 (0.00 to 1.00); 0.50 (0.00 to 1.00)", "-"]
    # Two facts in five fifths.
    assert "| 600 tokens | 1.00; -1.00 | 1.00; -1.00 | - | - | - |" in summary


def test_facts_of_several_texts_stand_together_at_the_lengths_that_each_was_read_to(tmp_path):
    text(tmp_path, "0", (SHORT, LONG), RECALL=answers(True, False))
    text(tmp_path, "1", (SHORT,), RECALL=answers(True, True))
    summary = found.summary(tmp_path, ["0", "1"])
    header = f"{SINGLE}: exact; log-probability"
    assert lines(summary)[header] == ["600 tokens (n 4)", "1,000 tokens (n 2)"]
    ours = lines(summary)[RECALL]
    assert [cell.partition(" ")[0] for cell in ours] == ["0.75", "0.50"] and ours[0].endswith("-1.25")
    # The first of each text's facts stand in the first fifth.
    assert "| 600 tokens | 1.00; -1.00 | 0.50; -1.50 | - | - | - |" in summary
    commands = summary.splitlines()[-3:]
    assert "--lengths 600 1000`" in commands[0] and "--lengths 600`" in commands[2]


def test_a_text_that_was_not_read_to_its_end_is_refused(tmp_path):
    results = text(tmp_path, "0", (SHORT,))
    del results.entries[str(SHORT)][OURS]
    results._write()
    with pytest.raises(ResultsError, match="not finished"):
        found.summary(tmp_path, ["0"])


def test_texts_read_with_several_models_do_not_stand_together(tmp_path):
    text(tmp_path, "0", (SHORT,))
    other = text(tmp_path, "1", (SHORT,))
    other.setup = SETUP | {"base_model": "another"}
    other._write()
    with pytest.raises(ResultsError, match="several models"):
        found.summary(tmp_path, ["0", "1"])
