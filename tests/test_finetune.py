from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_edgeinf import finetune
from mlx_edgeinf.adapter import read_config
from mlx_edgeinf.models import equip, load, load_base
from mlx_edgeinf.training import run as training_run
from mlx_edgeinf.training.bptt import excerpt_gradients, make_optimizer, update
from mlx_edgeinf.training.checkpoint import runs_before
from mlx_edgeinf.training.corpus import read_corpus, split
from mlx_edgeinf.training.excerpts import excerpts
from mlx_edgeinf.training.loss import Objective
from mlx_edgeinf.training.rendering import Renderer
from mlx_edgeinf.training.run import Training
from mlx_edgeinf.training.sharing import WAYS, independent, is_common, shared

FILES = {
    "adapters.safetensors", "adapter_config.json", "checkpoint.safetensors", "training.json", "README.md",
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for name in ("train", "valid"):
        texts = [" ".join(map(str, rng.integers(0, 50, 300))) for _ in range(3)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return folder


@pytest.fixture
def usual(model_folder, corpus, tmp_path) -> list[str]:
    """Options of a small run."""
    return [
        "--train", "--model", str(model_folder), "--data", str(corpus), "--adapter-path", str(tmp_path),
        "--sinks", "2", "--window", "8", "--segment", "8", "--features", "4", "--max-seq-length", "40",
        "--val-batches", "2", "--iters", "3", "--save-every", "1",
    ]  # fmt: skip


@pytest.fixture
def run(usual):
    """Run the command with options; later ones win."""
    return lambda *options: finetune.main([*usual, *options])


def progress(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in mx.load(str(folder / "adapters.safetensors")).items()}


def gate_of(folder: Path, layer: int) -> dict[str, np.ndarray]:
    """Parameters of one layer's gate by their name."""
    start = f"model.layers.{layer}.self_attn.memory_gate."
    found = {path: value for path, value in weights(folder).items() if path.startswith(start)}
    return {path.removeprefix(start): value for path, value in found.items()}


def one_sentence(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("mlx_edgeinf.finetune: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("kind", ["centroids", "bank", "retained", "exponential", "linear"])
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


@pytest.mark.parametrize(
    "options", [[], ["--distill", "1", "--num-excerpts", "2"]], ids=["next token", "distilled, in turn"]
)
def test_a_stopped_run_resumes_to_where_an_unbroken_one_ends(run, tmp_path, monkeypatch, options):
    """Excerpts, gates and Adam's moments go on; so the weights end up the same."""
    options = ["--iters", "4", *options]
    assert run("--adapter-path", str(tmp_path / "unbroken"), *options) == 0
    step, steps = Training.step, []

    def interrupted(*args):
        steps.append(args)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", interrupted)
        assert run("--adapter-path", str(tmp_path / "broken"), *options) == 130
    assert progress(tmp_path / "broken")["iteration"] == 2
    assert run("--adapter-path", str(tmp_path / "broken"), *options) == 0
    assert progress(tmp_path / "broken")["iteration"] == 4
    losses = [progress(tmp_path / name)["losses"] for name in ("broken", "unbroken")]
    assert np.allclose(*losses, rtol=1e-5)
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


def test_gates_remember_the_runs_that_made_them(run, tmp_path):
    folders = [tmp_path / name for name in ("first", "second", "third")]
    run("--adapter-path", str(folders[0]), "--distill", "1", "--num-excerpts", "2")
    for before, folder in zip(folders, folders[1:]):
        run("--adapter-path", str(folder), "--resume-adapter-file", str(before / "adapters.safetensors"))
    commands = [progress(folder)["command"] for folder in folders]
    assert [earlier["command"] for earlier in runs_before(folders[2])] == commands
    assert "--num-excerpts 2 --distill 1.0 --kind centroids --features 4" in commands[0]
    assert commands[2].endswith("--resume-adapter-file second/adapters.safetensors")
    card = (folders[2] / "README.md").read_text()
    assert [line.strip() for line in card.splitlines() if line.startswith("    python")] == commands


@pytest.mark.parametrize("way", WAYS)
def test_gates_learn_some_parameters_in_common_and_keep_others_of_their_own(run, tmp_path, way):
    run("--share", way)
    layers = [gate_of(tmp_path, number) for number in (0, 1)]
    for name, value in layers[0].items():
        alike_in_heads = all(np.array_equal(head, value[0]) for head in value)
        alike_in_layers = np.array_equal(value, layers[1][name])
        common = is_common(name)
        assert alike_in_heads == (common and way == "heads"), name
        assert alike_in_layers == (common and way == "layers"), name
    apart = 2 * sum(layers[0][name].size for name in ("mass", "bias"))
    rows = 2 if way == "heads" else len(layers[0]["query"])
    size = sum(layers[0][name].shape[1] for name in ("query", "memory.log_scale", "memory.angle"))
    parameters = mx.load(str(tmp_path / "adapters.safetensors"))
    assert independent(parameters, way) == apart + rows * size < independent(parameters, None)
    assert independent(parameters, None) == sum(p.size for p in parameters.values())
    assert f"--share {way}" in (tmp_path / "README.md").read_text()


def test_common_parameters_move_by_the_gradient_of_all_that_share_them():
    def gradients() -> dict:
        gates = [{"bias": mx.ones(2), "query": mx.array([[1.0, 2], [n, 4]])} for n in range(12)]
        return {"layers": [{"gate": gate} for gate in gates]}

    by_layers, by_heads = (shared(gradients(), way)["layers"] for way in ("layers", "heads"))
    assert by_layers[3]["gate"]["query"].tolist() == [[10, 20], [45, 40]]
    assert by_layers[11]["gate"]["query"].tolist() == [[2, 4], [21, 8]]
    assert by_heads[3]["gate"]["query"].tolist() == [[4, 6], [4, 6]]
    assert by_layers[3]["gate"]["bias"].tolist() == by_heads[3]["gate"]["bias"].tolist() == [1, 1]


def test_gates_that_were_trained_apart_are_not_shared(run, tmp_path, capsys):
    run()
    start = ["--resume-adapter-file", str(tmp_path / "adapters.safetensors")]
    assert run(*start, "--share", "heads", "--adapter-path", str(tmp_path / "new")) == 1
    assert "--share begins with untrained gates" in one_sentence(capsys)


def test_gates_of_unknown_origin_have_no_runs_before_them(tmp_path):
    assert runs_before(None) == runs_before(tmp_path) == []


def test_excerpts_read_in_turn_come_again_and_distilled_losses_fall(run, tmp_path):
    assert run("--distill", "1", "--num-excerpts", "2", "--iters", "12") == 0
    losses = np.array([loss for _, loss in progress(tmp_path)["losses"]]).reshape(6, 2)
    assert np.all(losses[-1] < losses[0])


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(run, tmp_path, monkeypatch, capsys):
    gradients, steps = training_run.excerpt_gradients, []

    def breaking(*args):
        steps.append(args)
        loss, found = gradients(*args)
        return (float("nan") if len(steps) == 3 else loss), found

    monkeypatch.setattr(training_run, "excerpt_gradients", breaking)
    assert run("--iters", "5") == 1
    assert "nan" in one_sentence(capsys)
    assert progress(tmp_path)["iteration"] == 2
    assert all(np.all(np.isfinite(weight)) for weight in weights(tmp_path).values())


# -- in several processes ------------------------------------------------------------


def launched(options: list[str]) -> str:
    """What two processes print, started with the command that the card of their gates names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = [str(Path(sys.executable).with_name("mlx.launch")), "-n", "2", "--starting-port", port, "--"]
    command = [*launcher, sys.executable, "-m", "mlx_edgeinf.finetune", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert not done.stderr
    return done.stdout


def test_two_processes_learn_from_the_average_of_an_excerpt_each(usual, run, model_folder, corpus, tmp_path):
    """And one of them speaks and saves."""
    printed = launched([*usual, "--iters", "1"])
    assert printed.count("Trainable parameters") == printed.count("Iter 1: Train loss") == 1
    assert {path.name for path in tmp_path.iterdir()} == FILES
    done, card = progress(tmp_path), (tmp_path / "README.md").read_text()
    assert done["tokens"] == 80
    assert "mlx.launch -n 2 -- python -m mlx_edgeinf.finetune --model" in card

    run("--iters", "1", "--adapter-path", str(tmp_path / "alone"))
    assert done["validation"][0] == pytest.approx(progress(tmp_path / "alone")["validation"][0])

    model, tokenizer = load_base(str(model_folder))
    equip(model, read_config(tmp_path), exact_limit=0)
    optimizer = make_optimizer(0.02, iters=1)
    optimizer.init(model.trainable_parameters())
    stream = excerpts(split(read_corpus([corpus]))[0], Renderer(tokenizer, 40, 18), seed=0)
    learnt = (excerpt_gradients(model, excerpt, Objective()) for excerpt in islice(stream, 2))
    losses, gradients = zip(*learnt)
    assert done["losses"][0] == pytest.approx([1, sum(losses) / 2], rel=1e-5)
    update(model, optimizer, 0.0, tree_map(lambda one, other: (one + other) / 2, *gradients))
    saved = mx.load(str(tmp_path / "checkpoint.safetensors"))
    for path, moment in tree_flatten(optimizer.state):
        assert mx.allclose(saved[f"optimizer.{path}"], moment, rtol=1e-3, atol=1e-7), path
