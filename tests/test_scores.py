from __future__ import annotations

from pathlib import Path

import pytest

from mlx_edgeinf.measure import scores
from mlx_edgeinf.measure.gap import FULL, GATED, OURS, WINDOW, check_finished
from mlx_edgeinf.measure.results import Results, ResultsError

ROWS = [FULL, OURS, WINDOW]
COMMAND = "python -m mlx_edgeinf.evaluate answers --data dev --tasks"


def question(value: float, depth: float | None, found: float = 0.0) -> dict:
    return {"depth": depth, "log_probability": value, "exact_match": found, "written": "..."}


def entry(row: str, *questions: dict, tokens: int = 100) -> dict:
    gates = {"gates": "trained"} if row in GATED else {}
    return {"tokens": tokens, "state_bytes": 2_000_000, "seconds": 1.0, "questions": questions, **gates}


def results_of(path: Path, task: str = "needles-100") -> Results:
    """Two documents of two questions; full attention has read the first alone."""
    setup = {
        "base_model": "tiny", "config": {}, "task": task,
        "documents": {"a": "", "b": ""}, "rows": ROWS, "exact": ["a"],
        "command": f"{COMMAND} {task}", "machine": "a machine", "packages": {"mlx": "0"},
    }  # fmt: skip
    near, far = 0.9, 0.1
    entries = {
        "a": {
            FULL: entry(FULL, question(-1, far, 1), question(-1, near, 1)),
            OURS: entry(OURS, question(-2, far), question(-1, near, 1)),
            WINDOW: entry(WINDOW, question(-6, far), question(-2, near, 1)),
        },
        "b": {
            OURS: entry(OURS, question(-4, far), question(-1, near, 1), tokens=2000),
            WINDOW: entry(WINDOW, question(-5, far), question(-1, near, 1), tokens=2000),
        },
    }
    results = Results(path / f"{task}.json", setup)
    results.add({(name, row): each for name, rows in entries.items() for row, each in rows.items()})
    return results


@pytest.fixture
def results(tmp_path) -> Results:
    return results_of(tmp_path)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def tables(results: Results) -> list[list[list[str]]]:
    """The cells of each table, without the line under the header."""
    blocks = [block.splitlines() for block in scores.table(results).split("\n\n") if block.startswith("|")]
    return [[cells(line) for line in block if not line.startswith("|---")] for block in blocks]


def test_a_table_says_what_was_read_and_asked(results):
    title = scores.table(results).splitlines()[0]
    told = "2 documents of 100 to 2,000 tokens, 4 questions: log-probability, exact match"
    assert title == f"<details><summary><b>needles-100</b>: {told}</summary>"


def test_each_score_stands_with_its_interval_over_documents_and_its_lead(results):
    header, full, ours, window = tables(results)[0]
    lead = "minus sinks + window"
    assert header == ["", "documents", "state", "log-probability", lead, "exact match", lead]
    # By document ours has -1.5 and -2.5, sinks and window -4 and -3.
    assert ours[:4] == [OURS, "2", "2 MB", "-2.000 (-2.500 to -1.500)"]
    assert ours[4:] == ["1.500 (0.500 to 2.500)", "0.500 (0.500 to 0.500)", "0.000 (0.000 to 0.000)"]
    assert window[3:] == ["-3.500 (-4.000 to -3.000)", "", "0.500 (0.500 to 0.500)", ""]


def test_full_attention_is_compared_over_what_it_has_read(results):
    full = tables(results)[0][1]
    assert full[:3] == [FULL, "1", "2 MB"]
    assert full[3:5] == ["-1.000 (-1.000 to -1.000)", "3.000 (3.000 to 3.000)"]


def test_scores_are_shown_by_the_depth_of_the_answer(results):
    header, full, ours, window = tables(results)[1]
    assert header == ["log-probability / exact match, answer at", "0-20 % (n 2)", "80-100 % (n 2)"]
    assert ours == [OURS, "-3.00 / 0.00", "-1.00 / 1.00"]
    assert full == [FULL, "-1.00 / 1.00 (n 1)", "-1.00 / 1.00 (n 1)"]


def test_answers_from_everywhere_have_no_depth(tmp_path):
    results = results_of(tmp_path)
    for rows in results.entries.values():
        for each in rows.values():
            each["questions"] = [{"depth": None, "log_probability": -1.0}]
    (table,) = tables(results)
    assert len(table[0]) == 5


def test_a_row_that_has_read_nothing_is_left_out(results):
    results.setup["exact"] = []
    del results.entries["a"][FULL]
    check_finished(results, scores.pairs(results.setup))
    assert [line[0] for line in tables(results)[0][1:]] == [OURS, WINDOW]


def test_tasks_stand_side_by_side_as_far_as_rows_have_read_all_of_them(tmp_path):
    for task in ("needles-100", "lines-20"):
        results_of(tmp_path, task)
    first = scores.summary(tmp_path, ["needles-100", "lines-20"]).split("\n\n")[0]
    header, *rows = map(cells, first.splitlines())
    assert header == ["log-probability", "needles-100 (n 4)", "lines-20 (n 4)"]
    assert rows[1:] == [[OURS, "-2.00", "-2.00"], [WINDOW, "-3.50", "-3.50"]]


def test_a_task_that_was_measured_twice_counts_once(tmp_path):
    results_of(tmp_path)
    twice = Results(tmp_path / "needles-100-rouge.json", results_of(tmp_path).setup)
    twice.add({(name, row): each for name in "ab" for row, each in results_of(tmp_path).group(name).items()})
    text = scores.summary(tmp_path, ["needles-100", "needles-100-rouge"])
    assert cells(text.splitlines()[0]) == ["log-probability", "needles-100 (n 4)"]
    assert text.count("<details>") == 2


def test_each_task_names_its_command(tmp_path):
    for task in ("needles-100", "lines-20"):
        results_of(tmp_path, task)
    text = scores.summary(tmp_path, ["needles-100", "lines-20"])
    assert text.index(f"`{COMMAND} needles-100` on a machine") < text.index("<b>lines-20</b>")
    assert f"`{COMMAND} lines-20` on a machine" in text


@pytest.mark.parametrize("setup", [{"base_model": "small"}, {"config": {"features": 9}}])
def test_tasks_of_two_models_never_stand_side_by_side(tmp_path, setup):
    other = results_of(tmp_path, "lines-20")
    results_of(tmp_path)
    scores.summary(tmp_path, ["needles-100", "lines-20"])
    other.setup.update(setup)
    other.add({})
    with pytest.raises(ResultsError, match="of several models, gates or ways"):
        scores.summary(tmp_path, ["needles-100", "lines-20"])


def test_tasks_of_two_sets_of_gates_never_stand_side_by_side(tmp_path):
    results_of(tmp_path)
    other = results_of(tmp_path, "lines-20")
    other.add({(name, OURS): other.entries[name][OURS] | {"gates": "trained further"} for name in "ab"})
    with pytest.raises(ResultsError, match="of several models, gates or ways"):
        scores.summary(tmp_path, ["needles-100", "lines-20"])


@pytest.mark.parametrize("row", [FULL, OURS])
def test_an_unfinished_task_is_refused(results, row):
    scores.summary(results.path.parent, ["needles-100"])
    del results.entries["a"][row]
    results._write()
    with pytest.raises(ResultsError, match="needles-100.json is not finished"):
        scores.summary(results.path.parent, ["needles-100"])


def test_answers_of_two_sets_of_gates_never_stand_side_by_side(results):
    results.add({("b", OURS): results.entries["b"][OURS] | {"gates": "trained further"}})
    with pytest.raises(ResultsError, match="not finished"):
        scores.summary(results.path.parent, ["needles-100"])


def test_a_task_that_was_not_measured_is_missed_in_a_sentence(tmp_path):
    with pytest.raises(ResultsError, match="squality.json does not exist"):
        scores.summary(tmp_path, ["squality"])
