from __future__ import annotations

import json
import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_edgeinf import finetune
from mlx_edgeinf.adapter import read_config
from mlx_edgeinf.models import load

FILES = {"adapters.safetensors", "adapter_config.json", "optimizer.safetensors", "training.json", "README.md"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for name in ("train", "valid"):
        texts = [" ".join(map(str, rng.integers(0, 50, 300))) for _ in range(3)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return folder


@pytest.fixture
def run(model_folder, corpus, tmp_path):
    """Run the command with options; later ones win."""
    def command(*options: str) -> int:
        return finetune.main([
            "--train", "--model", str(model_folder), "--data", str(corpus), "--adapter-path", str(tmp_path),
            "--sinks", "2", "--window", "8", "--segment", "8", "--features", "4", "--max-seq-length", "40",
            "--val-batches", "2", "--iters", "3", "--save-every", "1", *options,
        ])  # fmt: skip

    return command


def progress(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in mx.load(str(folder / "adapters.safetensors")).items()}


@pytest.mark.parametrize("kind", ["centroids", "exponential", "linear"])
@pytest.mark.parametrize("options", [[], ["--grad-checkpoint"]], ids=["plain", "checkpointed"])
def test_a_run_trains_validates_and_saves(run, tmp_path, capsys, kind, options):
    assert run("--kind", kind, *options) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    done = progress(tmp_path)
    assert [number for number, _ in done["losses"]] == [1, 2, 3]
    assert [number for number, _ in done["validation"]] == [0, 3]
    assert all(0 < loss < 100 for _, loss in done["losses"] + done["validation"])
    assert done["tokens"] == 120 and done["seconds"] > 0 and done["peak_bytes"] > 0
    printed = capsys.readouterr().out
    assert "Trainable parameters" in printed and "Iter 3: Val loss" in printed


def test_the_trained_gates_load_with_their_model(run, model_folder, tmp_path):
    run()
    model, _ = load(str(model_folder), adapter_path=str(tmp_path))
    gate = model.layers[1].self_attn.memory_gate
    assert np.array_equal(gate.query, weights(tmp_path)["model.layers.1.self_attn.memory_gate.query"])
    assert read_config(tmp_path).layout.capacity == 18


def test_excerpts_just_long_enough_to_reach_memory(run, tmp_path):
    assert run("--max-seq-length", "20") == 0
    assert len(progress(tmp_path)["losses"]) == 3


def test_no_path_of_this_machine_is_written_beside_the_gates(run, model_folder, corpus, tmp_path):
    run()
    for name in ("adapter_config.json", "training.json", "README.md"):
        text = (tmp_path / name).read_text()
        assert str(model_folder.parent) not in text and str(corpus.parent) not in text, name
        assert model_folder.name in text


def test_the_card_tells_what_was_done(run, tmp_path):
    run("--learning-rate", "0.02")
    card = (tmp_path / "README.md").read_text()
    first, last = (f"{loss:.4f}" for _, loss in progress(tmp_path)["validation"])
    for fact in ("3 documents", "40 tokens", "120", "--learning-rate 0.02", first, last, "centroids, 4"):
        assert fact in card, fact


def test_the_seed_decides_the_run(run, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run("--adapter-path", str(tmp_path / name), "--seed", seed)
    a, b, c = (progress(tmp_path / name)["losses"] for name in "abc")
    assert a == b != c


def test_a_stopped_run_resumes_to_where_an_unbroken_one_ends(run, tmp_path, monkeypatch):
    """Excerpts, gates and Adam's moments go on; so the weights end up the same."""
    assert run("--adapter-path", str(tmp_path / "unbroken"), "--iters", "4") == 0
    step, steps = finetune._step, []

    def interrupted(*args):
        steps.append(args)
        if len(steps) == 3:
            raise KeyboardInterrupt
        step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "_step", interrupted)
        assert run("--adapter-path", str(tmp_path / "broken"), "--iters", "4") == 130
    assert progress(tmp_path / "broken")["iteration"] == 2
    assert run("--adapter-path", str(tmp_path / "broken"), "--iters", "4") == 0
    assert progress(tmp_path / "broken")["iteration"] == 4
    for name, weight in weights(tmp_path / "unbroken").items():
        assert np.allclose(weights(tmp_path / "broken")[name], weight, atol=1e-5), name


def test_a_finished_run_has_nothing_left_to_do(run, tmp_path):
    run()
    before = progress(tmp_path)["losses"], weights(tmp_path)
    assert run() == 0
    assert progress(tmp_path)["losses"] == before[0]
    assert all(np.array_equal(value, before[1][name]) for name, value in weights(tmp_path).items())


def test_a_new_run_can_start_from_trained_gates(run, tmp_path):
    run("--adapter-path", str(tmp_path / "first"))
    start = str(tmp_path / "first" / "adapters.safetensors")
    options = ("--adapter-path", str(tmp_path / "second"), "--resume-adapter-file", start)
    assert run(*options, "--learning-rate", "0") == 0
    for name, weight in weights(tmp_path / "first").items():
        assert np.array_equal(weights(tmp_path / "second")[name], weight), name


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(run, tmp_path, monkeypatch, capsys):
    gradients, steps = finetune.excerpt_gradients, []

    def breaking(*args):
        steps.append(args)
        loss, found = gradients(*args)
        return (float("nan") if len(steps) == 3 else loss), found

    monkeypatch.setattr(finetune, "excerpt_gradients", breaking)
    assert run("--iters", "5") == 1
    assert "nan" in one_sentence(capsys)
    assert progress(tmp_path)["iteration"] == 2
    assert all(np.all(np.isfinite(weight)) for weight in weights(tmp_path).values())


# -- what cannot be done, in one sentence --------------------------------------------


def one_sentence(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("mlx_edgeinf.finetune: ") and error.count("\n") == 1
    return error


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
