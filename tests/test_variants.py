from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from held_out import save_trained, write_books
from tiny import llama_model, with_memory

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig, read_config, save_adapter
from mlx_edgeinf.basemodel import fingerprint
from mlx_edgeinf.measure import variants
from mlx_edgeinf.measure.gap import FULL, OURS, WINDOW
from mlx_edgeinf.measure.results import Results

LENGTH = 72


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """Gates over centroids, and others over fixed features, with the record of their training."""
    first, second = save_trained(tmp_path / "ours"), tmp_path / "linear"
    model = with_memory(llama_model(), "linear")
    sizes = {"features": 8, "sinks": 2, "window": 8, "segment": 8}
    save_adapter(model, AdapterConfig("tiny", fingerprint(model), "linear", **sizes), second)
    other = {"tokens": 7, "command": "finetune --recall --seed 0"}
    runs = {"tokens": 30, "command": "finetune", "earlier": [{"tokens": 12, "command": "finetune"}, other]}
    (second / "training.json").write_text(json.dumps(runs))
    return [first, second]


@pytest.fixture
def run(tmp_path, folders, tiny_subject):
    books = write_books(tmp_path / "books")

    def command(*options: str) -> int:
        adapters = ["--adapters", *map(str, folders)]
        usual = ["--data", str(books), "--documents", "2", "--length", str(LENGTH), *adapters]
        return evaluate.main(["gates", *usual, "--output", str(tmp_path / "out"), *options])

    return command


def measured(tmp_path) -> Results:
    (path,) = (tmp_path / "out").glob("*.json")
    return Results.read(path)


def test_all_gates_read_the_same_books_beside_full_attention_and_none(run, tmp_path):
    assert run() == 0
    entries = measured(tmp_path).entries
    assert list(entries.pop("gates")) == ["ours", "linear"]
    assert all(list(rows) == [FULL, "ours", "linear", WINDOW] for rows in entries.values())
    losses = [[entry["nats"] for entry in rows.values()] for rows in entries.values()]
    assert np.unique(np.round(losses, 3)).size == np.size(losses)


def test_gates_score_as_they_do_alone(run, tmp_path, folders):
    run()
    alone = tmp_path / "alone.json"
    books = ["--data", str(tmp_path / "books"), "--documents", "2", "--length", str(LENGTH)]
    options = [*books, "--adapter-path", str(folders[0]), "--output", str(alone)]
    assert evaluate.main(["perplexity", *options]) == 0
    assert len(Results.read(alone).entries) == 2
    for name, rows in Results.read(alone).entries.items():
        for theirs, here in ((FULL, FULL), (OURS, "ours"), (WINDOW, WINDOW)):
            assert measured(tmp_path).entries[name][here]["nats"] == pytest.approx(rows[theirs]["nats"])


def test_the_table_tells_gates_apart_by_what_they_are(run, tmp_path, capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("| linear"))
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["linear, 8", "full", "42"]
    header = next(line for line in lines if line.startswith("| gap closed"))
    assert header.endswith("| ours minus it |")


def test_measured_rows_are_not_measured_again(run, tmp_path, capsys, monkeypatch):
    run()
    monkeypatch.setattr(variants, "Reader", None)
    assert run() == 0


def test_gates_that_have_changed_since_are_told(run, tmp_path, folders, capsys):
    run()
    config = read_config(folders[1])
    save_adapter(with_memory(llama_model(), "linear"), config, folders[1])
    (folders[1] / "training.json").unlink()
    assert run() == 1
    assert "results of other gates that are called linear" in capsys.readouterr().err


def test_gates_can_be_added_to_those_that_were_measured(run, tmp_path, folders, capsys):
    run("--adapters", str(folders[0]))
    before = measured(tmp_path).entries
    run("--adapters", str(folders[1]))
    entries, printed = measured(tmp_path).entries, capsys.readouterr().out
    assert list(entries["gates"]) == ["ours", "linear"]
    assert all(entries[name][row] == entry for name in before for row, entry in before[name].items())
    assert "--adapters ours linear`" in printed.splitlines()[-1]


def test_two_gates_of_one_name_are_refused(run, tmp_path, capsys):
    twin = save_trained(tmp_path / "elsewhere" / "ours")
    assert run("--adapters", str(tmp_path / "ours"), str(twin)) == 1
    assert "have the same name" in capsys.readouterr().err
