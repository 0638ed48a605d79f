"""Gates for every supported family: trained, saved, loaded and used, as for a model from the hub."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from tiny import llama_model, qwen2_model, qwen3_model, save_model

from mlx_edgeinf import finetune, generate, load
from mlx_edgeinf.adapter import gate_parameters

FAMILIES = {"llama": llama_model, "mistral": llama_model, "qwen2": qwen2_model, "qwen3": qwen3_model}
PROMPT = "To be, or not to be, that is the question: whether it is nobler in the mind."


@pytest.fixture(params=FAMILIES)
def model_folder(request, tmp_path) -> Path:
    folder = save_model(FAMILIES[request.param](), tmp_path / request.param)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": request.param}))
    return folder


@pytest.fixture
def gates_folder(model_folder, tmp_path) -> Path:
    """What one command makes of a model and a few documents."""
    rng, documents = np.random.default_rng(0), tmp_path / "documents"
    documents.mkdir()
    for name in ("train", "valid"):
        lines = [json.dumps({"text": " ".join(map(str, rng.integers(0, 50, 300)))}) for _ in range(2)]
        (documents / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    done = finetune.main([
        "--train", "--model", str(model_folder), "--data", str(documents), "--adapter-path",
        str(tmp_path / "gates"), "--sinks", "2", "--window", "8", "--segment", "8", "--features", "4",
        "--max-seq-length", "40", "--val-batches", "1", "--iters", "2",
    ])  # fmt: skip
    assert done == 0
    return tmp_path / "gates"


def test_one_command_trains_gates_that_load_with_their_model(model_folder, gates_folder):
    model, tokenizer = load(str(model_folder), str(gates_folder), exact_limit=0)
    untrained, _ = load(str(model_folder), exact_limit=0)
    before = gate_parameters(untrained)
    after = gate_parameters(model)
    assert all(mx.abs(after[path] - value).max().item() > 0 for path, value in before.items())
    assert generate(model, tokenizer, PROMPT, max_tokens=4, prompt_cache=model.make_cache())
