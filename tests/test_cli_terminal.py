"""mlx-edgeinf where its output goes: a terminal of few characters, a reader that has enough."""

# ruff: noqa: F811  (fixtures by their names)
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_cli import book, run  # noqa: F401


@pytest.fixture
def listing(run, book, tmp_path) -> list[str]:
    """A command that lists a library of one document, for a process of its own."""
    run("summarize", book)
    run("library", "rename", 1, "Größe")
    program = "import sys; from mlx_edgeinf.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, "library", "--library", str(tmp_path / "library")]


def test_a_terminal_of_few_characters_is_no_failure(listing):
    few = os.environ | {"PYTHONIOENCODING": "ascii"}
    told = subprocess.run(listing, env=few, capture_output=True)
    assert told.returncode == 0 and b"Gr??e: 1 page" in told.stdout and not told.stderr
    told = subprocess.run([*listing, "--json"], env=few, capture_output=True)
    assert json.loads(told.stdout)[0]["name"] == "Größe"


def test_a_reader_that_has_enough_is_no_failure(listing):
    closed = subprocess.Popen(listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    closed.stdout.close()
    assert closed.stderr.read() == b"" and closed.wait() == 0
