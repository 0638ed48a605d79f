# ruff: noqa: F811  (fixtures by their names)
from __future__ import annotations

import json
import re

import numpy as np
import pytest
from test_finetune import corpus, one_sentence, progress, run, usual, weights  # noqa: F401

from mlx_edgeinf import finetune

# -- what cannot be done, in one sentence --------------------------------------------


def test_without_held_out_documents_there_is_no_validation(run, tmp_path, capsys):
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "book.txt").write_text(" ".join(map(str, range(300))))
    assert run("--data", str(tmp_path / "few"), "--adapter-path", str(tmp_path / "gates")) == 0
    assert "No held-out document fills an excerpt: there is no validation." in capsys.readouterr().out
    done = progress(tmp_path / "gates")
    assert len(done["losses"]) == 3 and not done["validation"]


@pytest.mark.parametrize("first, then", [
    ([], ["--share", "heads"]), (["--share", "layers"], []), (["--learn-last", "6"], []),
    ([], ["--learn-last", "6"]), (["--learn-last", "6"], ["--learn-last", "7"]),
    ([], ["--seed", "1"]), ([], ["--max-seq-length", "50"]), ([], ["--distill", "1"]),
])  # fmt: skip
def test_a_run_goes_on_as_it_began(run, capsys, first, then):
    run(*first)
    assert run(*then) == 1
    assert "Go on as it began" in one_sentence(capsys)
    assert run(*first) == 0


def test_a_run_that_goes_on_further_and_slower_says_so(run, tmp_path):
    run()
    assert run("--iters", "4", "--learning-rate", "0.01") == 0
    done = progress(tmp_path)
    first, then = done["command"].split("\n")
    assert "--iters 3 --learning-rate 0.02" in first and "--iters 4 --learning-rate 0.01" in then
    assert done["iteration"] == 4 and "    " + then in (tmp_path / "README.md").read_text()


def test_gates_without_their_checkpoint_are_not_overwritten(run, tmp_path, capsys):
    run()
    before = weights(tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    assert run("--iters", "5") == 1
    assert "go on from them with --resume-adapter-file" in one_sentence(capsys)
    assert all(np.array_equal(weights(tmp_path)[name], weight) for name, weight in before.items())


def test_a_damaged_record_of_earlier_runs_is_named(run, tmp_path, capsys):
    run()
    (tmp_path / "training.json").write_text("[]")
    start = ["--resume-adapter-file", str(tmp_path / "adapters.safetensors")]
    assert run(*start, "--adapter-path", str(tmp_path / "new")) == 1
    assert f"{tmp_path / 'training.json'} is damaged" in one_sentence(capsys)


def test_data_that_is_not_there(run, tmp_path, capsys):
    assert run("--data", str(tmp_path / "nowhere")) == 1
    assert str(tmp_path / "nowhere") in one_sentence(capsys)


def test_documents_that_are_too_short(run, capsys):
    assert run("--max-seq-length", "5000") == 1
    assert "5000 tokens" in one_sentence(capsys)


@pytest.mark.parametrize("change, reason", [
    ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8}, "sliding-window"),
    ({"model_type": "nobody-knows"}, "cannot be loaded: .*nobody-knows"),
    ({"attention_bias": True}, "cannot be loaded: Missing 8 parameters"),
])  # fmt: skip
def test_a_model_that_cannot_carry_gates(run, model_folder, tmp_path, capsys, change, reason):
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((model_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    assert run("--model", str(tmp_path)) == 1
    assert re.search(reason, one_sentence(capsys))


def test_a_model_folder_that_is_not_there(run, tmp_path, capsys):
    assert run("--model", str(tmp_path / "missing")) == 1
    assert f"{tmp_path / 'missing'} cannot be loaded" in one_sentence(capsys)


def test_excerpts_that_never_reach_memory(run, capsys):
    assert run("--max-seq-length", "19") == 1
    assert "--max-seq-length well above 18" in one_sentence(capsys)


def test_a_folder_that_holds_other_gates(run, tmp_path, capsys):
    run()
    before = weights(tmp_path)
    assert run("--features", "6") == 1
    assert "another configuration" in one_sentence(capsys)
    assert weights(tmp_path).keys() == before.keys()


def test_gates_to_start_from_that_are_not_there(run, tmp_path, capsys):
    assert run("--resume-adapter-file", str(tmp_path / "missing" / "adapters.safetensors")) == 1
    assert "missing" in one_sentence(capsys)


@pytest.mark.parametrize("option", ["--data", "--train"])
def test_required_options_are_asked_for(option, capsys):
    given = {"--data": ["--data", "x"], "--train": ["--train"]}
    with pytest.raises(SystemExit):
        finetune.parse(given["--train" if option == "--data" else "--data"])
    assert option in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--save-every", "--steps-per-report", "--segment", "--num-excerpts"])
def test_numbers_that_count_something_are_at_least_one(run, capsys, option):
    with pytest.raises(SystemExit):
        run(option, "0")
    assert f"argument {option}: invalid positive value" in capsys.readouterr().err
