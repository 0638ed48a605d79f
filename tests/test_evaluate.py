from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from held_out import save_trained, write_books

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import read_config
from mlx_edgeinf.measure import lengths as far
from mlx_edgeinf.measure.gap import (
    BY_MASS,
    FULL,
    GATED,
    OURS,
    RECALL,
    RECALL_ALONE,
    RECALL_ALONE_BY_MASS,
    RECALL_BY_MASS,
    RECALL_SHUFFLED,
    ROWS,
    SHUFFLED,
    WINDOW,
    ZEROED,
)
from mlx_edgeinf.measure.perplexity import PASSES
from mlx_edgeinf.measure.readings import Reader

LENGTH = 72
# Where no gates of recall are trained, their rows say the same with and without.
READ = [row for row in ROWS if row not in BY_MASS]


@pytest.fixture
def gates(tmp_path) -> Path:
    return save_trained(tmp_path / "gates")


@pytest.fixture
def run(tmp_path, gates, tiny_subject):
    """Measure perplexity of three short documents with a tiny model; later options win."""
    books = write_books(tmp_path / "books")

    def command(*options: str) -> int:
        return evaluate.main([
            "perplexity", "--data", str(books), "--adapter-path", str(gates), "--documents", "2",
            "--length", str(LENGTH), "--output", str(tmp_path / "out" / "e.json"), *options,
        ])  # fmt: skip

    return command


def entries(tmp_path: Path, file: str = "e.json") -> dict:
    return json.loads((tmp_path / "out" / file).read_text())["entries"]


@pytest.fixture
def measured(monkeypatch) -> list[tuple[str, str]]:
    """The documents and rows that are read from now on."""
    pairs, measure = [], Reader.measure

    def noting(self, name, row):
        pairs.append((name, row))
        return measure(self, name, row)

    monkeypatch.setattr(Reader, "measure", noting)
    return pairs


# -- perplexity -------------------------------------------------------------------


def test_a_run_measures_every_row_of_every_document_and_prints_the_table(run, tmp_path, capsys):
    assert run() == 0
    found = entries(tmp_path)
    assert {name: set(rows) for name, rows in found.items()} == {"a.md": set(READ), "b.txt": set(READ)}
    assert all(("gates" in entry) == (row in GATED) for rows in found.values() for row, entry in rows.items())
    printed = capsys.readouterr().out
    assert f"{2 * len(READ)} of {2 * len(READ)}: b.txt, memory zeroed" in printed
    assert "| ours | " in printed and "`python -m mlx_edgeinf.evaluate perplexity --data books" in printed
    assert str(tmp_path) not in (tmp_path / "out" / "e.json").read_text()


def test_a_second_run_reads_nothing_again(run, measured):
    assert run() == 0
    measured.clear()
    assert run() == 0 and not measured


def test_sinks_and_window_are_not_read_again_as_an_empty_memory(run, measured, tmp_path):
    assert run() == 0
    assert ("a.md", WINDOW) in measured and ("a.md", ZEROED) not in measured
    assert entries(tmp_path)["a.md"][ZEROED]["nats"] == entries(tmp_path)["a.md"][WINDOW]["nats"]


def test_with_other_gates_what_they_say_is_measured_again(run, gates, measured, tmp_path):
    assert run() == 0
    before = entries(tmp_path)
    measured.clear()
    save_trained(gates, seed=2)
    assert run() == 0
    # Those of another memory come along with `ours`.
    assert {row for _, row in measured} == set(GATED) & set(READ) - {SHUFFLED}
    after = entries(tmp_path)
    for name in before:
        changed = {row for row in READ if before[name][row]["nats"] != after[name][row]["nats"]}
        # Of so short a text everything is recalled, and gates have nothing to say.
        assert changed == set(GATED) & set(READ) - {RECALL}


def test_a_stopped_run_goes_on_where_it_was(run, tmp_path, monkeypatch):
    measure, calls = Reader.measure, []

    def stopping(self, name, row):
        calls.append((name, row))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, name, row)

    monkeypatch.setattr(Reader, "measure", stopping)
    assert run() == 130
    assert entries(tmp_path).keys() == {"a.md"} and set(entries(tmp_path)["a.md"]) == set(PASSES[:2])
    assert run() == 0
    assert calls.count(("a.md", PASSES[0])) == 1 and set(entries(tmp_path)["b.txt"]) == set(READ)


def test_results_of_another_setup_are_not_mixed(run, capsys):
    assert run() == 0
    capsys.readouterr()
    assert run("--length", "80") == 1
    message = capsys.readouterr().err
    assert "another setup" in message and "edges" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--documents", "4"), "holds 3 documents"),
        (("--documents", "1"), "at least 2"),
        (("--length", "99999"), "too short"),
        (("--length", "32"), "34 or more"),
        (("--data", "nowhere"), "nowhere"),
        (("--adapter-path", "nowhere"), "No adapter found"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(run, capsys, options, words):
    assert run(*options) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_a_model_without_gates_is_not_evaluated(tmp_path, tiny_subject, capsys):
    books = write_books(tmp_path / "books")
    assert evaluate.main(["perplexity", "--data", str(books), "--output", str(tmp_path / "e.json")]) == 1
    assert "--adapter-path" in capsys.readouterr().err


# -- gates of recall -------------------------------------------------------------


def test_with_gates_of_recall_rows_by_mass_are_read_too(run, gates, tmp_path):
    assert run("--rows", RECALL, RECALL_ALONE) == 0
    before = entries(tmp_path)["a.md"]
    # The memory lent comes along with `ours`.
    assert set(before) == {FULL, OURS, SHUFFLED, RECALL, RECALL_ALONE, WINDOW}
    save_trained(gates, recall=True)
    assert run("--rows", *BY_MASS, RECALL, RECALL_ALONE, "--output", str(tmp_path / "out" / "r.json")) == 0
    after = entries(tmp_path, "r.json")["a.md"]
    assert set(after) == {*before, *BY_MASS}
    assert after[OURS]["nats"] == before[OURS]["nats"]
    for row, by_mass in zip((RECALL, RECALL_ALONE), (RECALL_BY_MASS, RECALL_ALONE_BY_MASS)):
        assert after[by_mass]["nats"] == before[row]["nats"] != after[row]["nats"]
    memory = after[OURS]["gates"]
    recall = after[RECALL_ALONE]["gates"].removeprefix("+")
    assert after[RECALL]["gates"] == f"{memory}+{recall}" and after[RECALL_BY_MASS]["gates"] == memory


def test_with_other_gates_of_recall_only_what_they_say_is_measured_again(run, gates, measured):
    save_trained(gates, recall=True)
    assert run() == 0
    measured.clear()
    save_trained(gates, recall=True)
    assert run() == 0 and not measured
    weights = mx.load(str(gates / "recall.safetensors"))
    mx.save_safetensors(str(gates / "recall.safetensors"), {path: 2 * w for path, w in weights.items()})
    assert run() == 0
    assert {row for _, row in measured} == {RECALL, RECALL_ALONE, RECALL_SHUFFLED}


def test_a_row_that_says_nothing_of_the_gates_is_refused(run, capsys):
    assert run("--rows", RECALL_BY_MASS) == 1
    assert "no row `ours with recall, by its mass`" in capsys.readouterr().err


# -- lengths ----------------------------------------------------------------------


def test_lengths_are_measured_by_one_command(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(far, "COUNTED", 20)
    options = [
        "--data", str(tmp_path / "books"), "--adapter-path", str(tmp_path / "gates"), "--documents", "1",
        "--output", str(tmp_path / "out" / "l.json"),
    ]  # fmt: skip
    assert evaluate.main(["lengths", *options, "--lengths", "120", "60"]) == 0
    printed = capsys.readouterr().out
    assert "| NLL of the 20 tokens before | 60 | 120 |" in printed
    assert "evaluate lengths --data books" in printed
    assert evaluate.main(["lengths", *options, "--lengths", "120", "20"]) == 1
    assert "--lengths must all be more than 20" in capsys.readouterr().err


# -- several processes ------------------------------------------------------------


def test_two_processes_share_the_work_and_one_prints_the_tables(tmp_path, model_folder, gates_folder):
    """As in the module's docstring."""
    books, length = write_books(tmp_path / "books"), 6 * read_config(gates_folder).window
    launcher = Path(sys.executable).with_name("mlx.launch")
    launched = subprocess.run(
        [
            sys.executable, launcher, "-n", "2", "--starting-port", str(free_port()), "--",
            sys.executable, "-m", "mlx_edgeinf.evaluate", "perplexity", "--data", books, "--documents", "2",
            "--model", model_folder, "--adapter-path", gates_folder, "--length", str(length),
            "--output", tmp_path / "out" / "e.json",
        ],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert launched.returncode == 0 and "exited" not in launched.stdout + launched.stderr, launched
    assert {name: set(rows) for name, rows in entries(tmp_path).items()} == {
        "a.md": set(READ), "b.txt": set(READ),
    }  # fmt: skip
    told = [line for line in launched.stdout.splitlines() if " nats, " in line]
    assert len(told) == 2 * len(set(PASSES) & set(READ)) and launched.stdout.count("| gap closed |") == 1
    assert str(tmp_path) not in (tmp_path / "out" / "e.json").read_text()


def free_port() -> int:
    """The first of two that are free, most likely: processes listen on neighbouring ones."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
