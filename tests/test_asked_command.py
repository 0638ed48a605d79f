"""Training the gates of questions from the command line."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest
from test_recall_gate import same
from test_sft_command import exercises, one_sentence, run  # noqa: F401
from tiny import learnt_recall

from mlx_edgeinf.adapter import (
    ASKED,
    RECALL,
    WEIGHTS,
    gate_parameters,
    other_parameters,
    read_config,
    save_adapter,
)
from mlx_edgeinf.models import load

# Fixtures among what is imported are named again where they are used.
# ruff: noqa: F811


def test_a_run_trains_them_and_leaves_all_others_as_they_were(run, model_folder, tmp_path, capsys):
    memory, both = tmp_path / "memory", tmp_path / "both"
    assert run("--adapter-path", str(memory)) == 0
    options = ["--asked", "--resume-adapter-file", str(memory / WEIGHTS), "--adapter-path", str(both)]
    assert run(*options) == 0
    assert (both / WEIGHTS).read_bytes() == (memory / WEIGHTS).read_bytes()
    assert (both / ASKED).exists() and not (memory / ASKED).exists() and not (both / RECALL).exists()
    record = json.loads((both / "training.json").read_text())
    assert "--asked" in record["command"] and len(record["earlier"]) == 1
    model, _ = load(str(model_folder), adapter_path=str(both))
    assert same(other_parameters(model, ASKED), mx.load(str(both / ASKED)))
    assert same(gate_parameters(model), mx.load(str(memory / WEIGHTS)))


def test_a_run_keeps_the_gates_of_recall_that_it_starts_from(run, model_folder, tmp_path):
    memory, both = tmp_path / "memory", tmp_path / "both"
    assert run("--adapter-path", str(memory)) == 0
    model, _ = load(str(model_folder), adapter_path=str(memory))
    save_adapter(learnt_recall(model), read_config(memory), memory)
    options = ["--asked", "--resume-adapter-file", str(memory / WEIGHTS), "--adapter-path", str(both)]
    assert run(*options) == 0
    assert (both / RECALL).read_bytes() == (memory / RECALL).read_bytes()


def test_a_stopped_run_goes_on_from_what_it_had_trained(run, tmp_path):
    gates = tmp_path / "gates"
    assert run("--asked", "--iters", "2") == 0
    before = mx.load(str(gates / ASKED))
    assert run("--asked", "--iters", "3", "--learning-rate", "1e-9") == 0
    after = mx.load(str(gates / ASKED))
    assert all(mx.allclose(after[path], value, atol=1e-6) for path, value in before.items())


@pytest.mark.parametrize(
    "options, said",
    [
        (["--recall"], "--asked train different gates"),
        (["--grad-checkpoint"], "--grad-checkpoint out"),
        (["--learn-last", "20"], "--learn-last out"),
    ],
)
def test_what_does_not_go_with_them_is_refused(run, capsys, options, said):
    assert run("--asked", *options) == 1
    assert said in one_sentence(capsys)


def test_texts_that_nothing_is_asked_about_are_quoted(run, tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("It was one of two or three or more that we saw there. " * 90)
    options = ["--asked", "--data", str(tmp_path / "texts"), "--max-seq-length", "500", "--answers", "3"]
    assert run(*options, "--iters", "1") == 0
    assert "--answers 3" in json.loads((tmp_path / "gates" / "training.json").read_text())["command"]


def test_texts_without_a_sentence_are_refused(run, tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one two three " * 400)
    assert run("--asked", "--data", str(tmp_path / "texts")) == 1
    assert "no sentence of 12 to 60 words" in one_sentence(capsys)
