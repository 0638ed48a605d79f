from __future__ import annotations

import pytest
from hidden import LONG, SETUP, SHORT, answers, text

from mlx_edgeinf.measure import facts, found
from mlx_edgeinf.measure.gap import FULL, OFF, RECALL, UNBOUNDED
from mlx_edgeinf.measure.hiding import KINDS, SINGLE
from mlx_edgeinf.measure.results import ResultsError


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


def test_what_a_length_took_is_told_of_the_first_text_that_was_read_so_far(tmp_path):
    text(tmp_path, "0", (SHORT,))
    text(tmp_path, "1", (SHORT, LONG))
    costs = [line for line in found.summary(tmp_path, ["0", "1"]).splitlines() if " | 4 kB | " in line]
    assert [line.split(" | ")[0] for line in costs] == ["| 600 tokens", "| 1,000 tokens"]


def test_rows_stand_in_the_same_order_whichever_text_has_the_longest_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "LONGEST", LONG)
    text(tmp_path, "0", (SHORT,))
    text(tmp_path, "1", (SHORT, LONG))
    summary = found.summary(tmp_path, ["0", "1"])
    places = [summary.index(f"| {row} |") for row in (RECALL, UNBOUNDED, OFF)]
    assert places == sorted(places)


@pytest.mark.parametrize("part", ["recall", "context"])
def test_texts_that_were_read_in_several_ways_do_not_stand_together(tmp_path, part):
    text(tmp_path, "0", (SHORT,))
    other = text(tmp_path, "1", (SHORT,))
    other.setup = SETUP | {part: 900}
    other.add({})
    with pytest.raises(ResultsError, match="ways to recall"):
        found.summary(tmp_path, ["0", "1"])


def test_a_text_that_was_not_read_to_its_end_is_refused(tmp_path):
    results = text(tmp_path, "0", (SHORT,))
    del results.entries[str(SHORT)][OFF]
    results._write()
    with pytest.raises(ResultsError, match="not finished"):
        found.summary(tmp_path, ["0"])


def test_texts_read_with_several_models_do_not_stand_together(tmp_path):
    text(tmp_path, "0", (SHORT,))
    other = text(tmp_path, "1", (SHORT,))
    other.setup = SETUP | {"base_model": "another"}
    other.add({})
    with pytest.raises(ResultsError, match="several models"):
        found.summary(tmp_path, ["0", "1"])
