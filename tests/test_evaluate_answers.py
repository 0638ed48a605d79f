"""`evaluate answers`: documents are read, then asked, and what was asked once is not asked again."""

from __future__ import annotations

import json
from itertools import count

import pytest
from held_out import write_books
from test_evaluate import entries, gates  # noqa: F401

from mlx_edgeinf import evaluate
from mlx_edgeinf.measure.answers import Examiner
from mlx_edgeinf.measure.gap import FULL, OURS, SHUFFLED, WINDOW

# Fixtures among what is imported are named again where they are used.
# ruff: noqa: F811


@pytest.fixture
def ask(tmp_path, gates, tiny_subject):
    """Ask a tiny model for needles in short books and about a meeting; later options win."""
    write_books(tmp_path / "dev" / "classics", length=60)
    (tmp_path / "dev" / "qmsum").mkdir()
    for name in "xyz":
        turns = [{"speaker": "Chair", "content": f"We meet for the {at}th time ."} for at in range(9)]
        queries = [{"query": "Summarize.", "answer": f"They met in room {name}."}]
        meeting = {"meeting_transcripts": turns, "general_query_list": queries, "specific_query_list": []}
        (tmp_path / "dev" / "qmsum" / f"{name}.json").write_text(json.dumps(meeting))

    def command(*options: str, tasks: str = "needles-600 qmsum") -> int:
        return evaluate.main([
            "answers", "--data", str(tmp_path / "dev"), "--adapter-path", str(gates), "--documents", "2",
            "--output", str(tmp_path / "out"), *options, "--tasks", *tasks.split(),
        ])  # fmt: skip

    return command


FEW = ("--rows", OURS, SHUFFLED)


def test_every_task_is_asked_of_every_row_and_its_tables_are_printed(ask, tmp_path, capsys):
    assert ask(tasks="qmsum") == 0
    # Nothing here fits the tiny model's trained context of 128 tokens.
    assert set(entries(tmp_path, "qmsum.json")["x.json"]) == set(evaluate.ANSWERING) - {FULL}
    assert ask(*FEW) == 1 and "another setup (command, rows)" in capsys.readouterr().err


def test_tasks_stand_side_by_side_and_each_by_itself(ask, tmp_path, capsys):
    assert ask(*FEW) == 0
    found = entries(tmp_path, "needles-600.json")
    assert {name: set(rows) for name, rows in found.items()} == {
        name: {OURS, SHUFFLED, WINDOW} for name in ("a.md", "b.txt")
    }
    assert all(len(entry["questions"]) == 5 for rows in found.values() for entry in rows.values())
    printed = capsys.readouterr().out
    assert "| log-probability | needles-600 (n 10) | qmsum (n 2) |" in printed
    assert printed.index("<b>needles-600</b>: 2 documents") < printed.index("<b>qmsum</b>: 2 documents")
    assert "--rows ours 'memory shuffled' --tasks needles-600` on " in printed
    assert "exact match" in printed and "ROUGE" not in printed
    assert str(tmp_path) not in (tmp_path / "out" / "needles-600.json").read_text()


def test_what_is_gathered_from_many_places_is_scored_by_the_places(ask, tmp_path):
    write_books(tmp_path / "long" / "classics", length=100)
    assert ask("--data", str(tmp_path / "long"), *FEW, tasks="gather-1900") == 0
    entry = entries(tmp_path, "gather-1900.json")["a.md"][OURS]
    assert all(q.keys() == {"depth", "log_probability", "gathered", "written"} for q in entry["questions"])


def test_rouge_is_counted_where_summaries_are_asked_for(ask, tmp_path, monkeypatch):
    pytest.importorskip("rouge_score", reason="rouge-score is not installed (extra `evaluate`)")
    assert ask(*FEW, tasks="qmsum") == 0
    # Beside what was measured without: more rows and documents, since nothing is written.
    assert ask(*FEW[:2], "--rouge", tasks="qmsum") == 0
    (question,) = entries(tmp_path, "qmsum-rouge.json")["x.json"][OURS]["questions"]
    assert question.keys() == {"depth", "log_probability", "rouge1", "rouge2", "rougeL", "written"}


def test_tasks_and_rows_that_were_measured_are_not_measured_again(ask, monkeypatch):
    measure, calls = Examiner.measure, count()

    def noting(self, name, row):
        next(calls)
        return measure(self, name, row)

    monkeypatch.setattr(Examiner, "measure", noting)
    assert ask(*FEW, tasks="qmsum") == 0
    assert ask(*FEW) == 0
    # Two tasks, two documents, three rows; the number that comes next.
    assert next(calls) == 12


def test_a_single_document_is_enough_where_none_is_lent(ask, tmp_path):
    assert ask("--documents", "1", "--rows", OURS, tasks="qmsum") == 0
    assert ask("--documents", "1", tasks="needles-600") == 1


@pytest.mark.parametrize(
    ("options", "tasks", "words"),
    [
        ((), "needles-600 haystacks", "no task haystacks"),
        ((), "squality", "squality"),
        ((), "lines-200", "200_lines.jsonl"),
        (("--documents", "4"), "qmsum", "holds 3 documents"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_else(ask, tmp_path, capsys, options, tasks, words):
    assert ask(*options, tasks=tasks) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1 and not (tmp_path / "out").exists()
