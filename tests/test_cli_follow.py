"""mlx-edgeinf follow, with a tiny model; and --ocr."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import handmade_pdf as handmade
import pytest

from mlx_edgeinf.cli import following, main
from mlx_edgeinf.documents import scans
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library

TALK = "".join(f"Line {n} of a talk about whales and ships.\n" for n in range(12))


@pytest.fixture
def run(tmp_path, model_folder, gates_folder):
    """Run a command with the tiny model and a library of its own."""

    def command(name: str, *options: object) -> int:
        usual = ["--library", tmp_path / "library", "--model", model_folder, "--adapter", gates_folder]
        return main([name, *map(str, usual), "--max-tokens", "8", *map(str, options)])

    return command


@pytest.fixture
def piped(monkeypatch):
    """What comes through stdin."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_pipe_is_summarised_as_it_comes_and_kept(run, piped, capsys, tmp_path):
    piped(TALK.encode())
    assert run("follow", "-", "--json") == 0
    *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert last["final"] and last["receipt"]["tokens_read"] == last["receipt"]["tokens"] > 400
    assert last["receipt"]["settings"]["window"] == 16 and not last["receipt"]["stopped"]
    library = Library(tmp_path / "library")
    [entry] = library.entries()
    assert library.document(entry.id).text == TALK.strip() and entry.name.startswith("Line 0 of a talk")
    assert library.summaries(entry.id)[0].text == last["summary"]
    library.close()


def test_for_people_each_summary_has_its_receipt_beside_it(run, piped, capsys):
    piped(TALK.encode())
    assert run("follow", "-") == 0
    printed = capsys.readouterr()
    assert printed.out.strip() and printed.err.rstrip().splitlines()[-1].startswith("Read 1 page (")


def test_ctrl_c_ends_it_and_all_that_had_come_is_in_memory(run, capsys, monkeypatch, tmp_path):
    path = tmp_path / "talk.txt"
    path.write_text(TALK)
    assert follow_until_stopped(run, monkeypatch, path) == 0
    library = Library(tmp_path / "library")
    [entry] = library.entries()
    [reading] = library.readings(entry.id)
    assert entry.name == "talk.txt" and reading.complete and reading.pages_read == entry.pages == 1
    library.close()


def follow_until_stopped(run, monkeypatch, path: Path) -> int:
    """Follow a file, with Ctrl-C once its end was reached."""

    class Stopping(following.Tail):
        def next(self, seconds: float):
            arrival = super().next(0)
            if not arrival.data:
                signal.raise_signal(signal.SIGINT)
            return arrival

    with monkeypatch.context() as patch:
        patch.setattr(following, "Tail", Stopping)
        return run("follow", path)


def test_a_file_that_is_followed_again_is_read_on(run, monkeypatch, capsys, tmp_path):
    path = tmp_path / "talk.txt"
    path.write_text(TALK)
    assert follow_until_stopped(run, monkeypatch, path) == 0
    places, read = [], Engine._read_segment
    monkeypatch.setattr(
        Engine, "_read_segment", lambda self, memory: places.append(memory.position) or read(self, memory)
    )
    with path.open("a") as file:
        file.write("And then it was over.\n")
    assert follow_until_stopped(run, monkeypatch, path) == 0
    library = Library(tmp_path / "library")
    [entry] = library.entries()
    assert entry.pages == 2 and places[0] > 400 and len(library.summaries(entry.id)) == 2
    library.close()


@pytest.mark.parametrize("options, reason", [
    (["no.txt"], "no.txt does not exist"), (["."], "is a folder"),
])  # fmt: skip
def test_what_cannot_be_followed_is_one_sentence(run, capsys, options, reason):
    assert run("follow", *options) == 1
    printed = capsys.readouterr()
    assert reason in printed.err and printed.err.startswith("mlx-edgeinf follow: ") and printed.out == ""


def test_a_growing_file_is_followed_by_a_process_of_its_own(model_folder, gates_folder, tmp_path):
    """As a person does it: the file grows, a summary comes, Ctrl-C brings the last one."""
    path = tmp_path / "talk.txt"
    path.write_text(TALK)
    program = "import sys; from mlx_edgeinf.cli import main; sys.exit(main())"
    options = ["--model", model_folder, "--adapter", gates_folder, "--library", tmp_path / "library"]
    options += ["--max-tokens", "4", "--every", "400", "--pause", "1", "--json", path]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "follow", *map(str, options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = json.loads(process.stdout.readline())
    with path.open("a") as file:
        file.write(TALK)
    second = json.loads(process.stdout.readline())
    path.write_text("It begins anew.\n")
    third = json.loads(process.stdout.readline())
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    last = json.loads(out.splitlines()[-1])
    tokens = [update["receipt"]["tokens_read"] for update in (first, second, third)]
    assert process.returncode == 0 and tokens == sorted(set(tokens)) and last["final"]
    assert not (first["final"] or second["final"]) and last["receipt"]["tokens"] == tokens[-1]
    assert "talk.txt was cut short" in err


def test_scanned_pages_are_recognised_once_and_counted(run, capsys, tmp_path, monkeypatch):
    (tmp_path / "one_of_ours.py").write_text(
        "def recognise(picture):\n    return [('A whale, found in a picture.', 0.1, 0.8, 0.9, 0.82)]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(scans, "RECOGNISER", "one_of_ours")
    monkeypatch.setattr(scans, "obstacle", lambda: "")
    path = tmp_path / "scan.pdf"
    path.write_bytes(handmade.pdf([], ["A page with text enough to be one with text."]))
    assert run("summarize", path, "--ocr") == 0
    assert "Text recognised in pictures: 1 page." in capsys.readouterr().err
    # Their text is in the library, so that nothing is recognised twice.
    monkeypatch.setattr(scans, "obstacle", lambda: 1 / 0)
    assert run("summarize", path, "--ocr") == 0
    monkeypatch.setattr(scans, "obstacle", lambda: "Run pip.")
    (tmp_path / "other.pdf").write_bytes(handmade.pdf([]))
    assert run("summarize", tmp_path / "other.pdf", "--ocr") == 1
    assert capsys.readouterr().err.rstrip().endswith("mlx-edgeinf summarize: Run pip.")


def test_text_from_stdin_has_no_scans(run):
    with pytest.raises(SystemExit) as ended:
        run("summarize", "-", "--ocr")
    assert ended.value.code == 2
