from __future__ import annotations

import errno
import json
from itertools import count
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_edgeinf import adapter, finetune
from mlx_edgeinf.training import run as training_run
from mlx_edgeinf.training.bptt import excerpt_gradients


@pytest.fixture
def exercises(tmp_path) -> Path:
    """Stories with questions; of those to train on, one is too short."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, sizes in (("train", [60, 80, 2]), ("valid", [70])):
        stories = [" ".join(map(str, rng.integers(0, 50, size))) for size in sizes]
        records = [{"document": story, "prompt": "?", "completion": story[:9]} for story in stories]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def run(model_folder, exercises, tmp_path):
    """Run the command with options; later ones win."""
    def command(*options: str) -> int:
        return finetune.main([
            "--train", "--model", str(model_folder), "--data", str(exercises),
            "--adapter-path", str(tmp_path / "gates"), "--sinks", "2", "--window", "16", "--segment", "16",
            "--features", "4", "--max-seq-length", "90", "--val-batches", "1", "--iters", "3",
            "--save-every", "1", *options,
        ])  # fmt: skip

    return command


def saved(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "gates").iterdir()}


def progress(tmp_path: Path) -> dict:
    return json.loads(saved(tmp_path)["training.json"])


def one_sentence(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("mlx_edgeinf.finetune: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("options", [[], ["--distill", "1", "--num-excerpts", "2"]], ids=["told", "taught"])
def test_a_run_learns_answers(run, tmp_path, capsys, options):
    assert run(*options) == 0
    done = progress(tmp_path)
    assert done["documents"] == 2 and done["iteration"] == 3
    assert all(0 < loss < 100 for _, loss in done["losses"] + done["validation"])
    told = [line for line in capsys.readouterr().out.split("\n") if "left out" in line]
    assert told == ["Answers left out (read before there is a memory, or too long): 1"]


def breaking_at(step: int):
    """`excerpt_gradients` with a loss that is no number at one of its calls."""
    gradients, steps = excerpt_gradients, count(1)

    def breaking(*args):
        loss, found = gradients(*args)
        return (float("nan") if next(steps) == step else loss), found

    return breaking


def test_a_loss_that_is_no_number_names_the_checkpoint_that_is_left(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "excerpt_gradients", breaking_at(4))
        assert run("--iters", "5", "--save-every", "2") == 1
    sentence = one_sentence(capsys)
    assert "nan" in sentence and f"{tmp_path / 'gates'} keeps iteration 2" in sentence
    assert "--learning-rate below 0.02" in sentence
    # And that is what a run at a lower rate goes on from.
    assert run("--iters", "5", "--learning-rate", "0.01") == 0
    assert [number for number, _ in progress(tmp_path)["losses"]] == [1, 2, 3, 4, 5]


def test_a_loss_that_is_no_number_from_the_start_says_that_nothing_was_saved(run, monkeypatch, capsys):
    monkeypatch.setattr(training_run, "excerpt_gradients", breaking_at(1))
    assert run() == 1
    assert "Nothing was saved yet: run again with a --learning-rate below 0.02" in one_sentence(capsys)


@pytest.mark.parametrize("broken", ["adapters.safetensors", "checkpoint.safetensors"])
def test_a_full_disk_leaves_the_last_checkpoint_whole(run, tmp_path, monkeypatch, capsys, broken):
    assert run("--iters", "1") == 0
    before = saved(tmp_path)
    save = mx.save_safetensors

    def full(file, arrays: dict, metadata=None) -> None:
        if broken.split(".")[0] in file.name:
            file.write(b"half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, arrays, metadata)

    monkeypatch.setattr(adapter.mx, "save_safetensors", full)
    assert run("--iters", "2") == 1
    sentence = one_sentence(capsys)
    assert "No space left on device" in sentence and str(tmp_path / "gates" / broken) in sentence
    assert saved(tmp_path).keys() == before.keys()
    assert saved(tmp_path)[broken] == before[broken]


@pytest.mark.parametrize("option, name", [
    ("--adapter-path", "checkpoint.safetensors"), ("--resume-adapter-file", "adapters.safetensors"),
])  # fmt: skip
def test_damaged_gates_are_named(run, tmp_path, capsys, option, name):
    assert run() == 0
    path = tmp_path / "gates" / name
    path.write_bytes(path.read_bytes()[:-40])
    start = ["--resume-adapter-file", str(path), "--adapter-path", str(tmp_path / "new")]
    assert run("--iters", "5", *(start if option == "--resume-adapter-file" else [])) == 1
    assert f"{path} is missing or damaged" in one_sentence(capsys)


def test_how_many_answers_are_learnt_at_once_is_part_of_the_run(run, tmp_path, capsys):
    assert run("--answers", "2") == 0
    assert "--answers 2 " in progress(tmp_path)["command"]
    assert run("--answers", "3") == 1
    assert "another run" in one_sentence(capsys)


def test_no_answer_at_all_is_refused(run, capsys):
    assert run("--answers", "0") == 1
    assert "--answers" in one_sentence(capsys)
