from __future__ import annotations

import json
import re
import shutil
import weakref
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from huggingface_hub import constants
from mlx.utils import tree_flatten
from tiny import close, llama_model, qwen2_model, save_gates, save_model, sequence, with_memory

from mlx_edgeinf import models
from mlx_edgeinf.adapter import AdapterError, gate_parameters, recall_parameters
from mlx_edgeinf.basemodel import UnsupportedModel, fingerprint
from mlx_edgeinf.models import load, load_base, parameter_budget, shipped_gates, to_float32

TOKENS = sequence(100)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An empty place for gates that ship, in the place of the real ones."""
    monkeypatch.setattr(models, "SHIPPED_GATES", (tmp_path / "absent", tmp_path / "gates"))
    return tmp_path / "gates"


def window(model: nn.Module) -> int:
    return model.layout.window


def test_short_inputs_have_the_base_models_logits(model_folder, shipped):
    model, tokenizer = load(str(model_folder))
    assert mx.array_equal(model(TOKENS[None], cache=model.make_cache()), llama_model()(TOKENS[None]))
    assert tokenizer.encode("ab") == [ord("a") - 33, ord("b") - 33]


def test_gates_that_ship_are_found_by_the_models_own_weights(model_folder, gates_folder, shipped, tmp_path):
    other = save_model(qwen2_model(), tmp_path / "other")
    save_gates(other, shipped / "a", window=4)
    save_gates(model_folder, shipped / "b", window=8)
    assert [window(load(str(folder))[0]) for folder in (other, model_folder)] == [4, 8]
    assert window(load(str(model_folder), adapter_path=str(gates_folder))[0]) == 16


def test_without_gates_the_untrained_ones_serve(model_folder, shipped):
    model, _ = load(str(model_folder))
    assert shipped_gates(model) is None and window(model) == 512
    assert not any(gate.any().item() for gate in (layer.self_attn.memory_gate.bias for layer in model.layers))


def test_the_gates_that_ship_can_be_read():
    """They need no model to say what they are for."""
    for home in models.SHIPPED_GATES:
        for path in home.glob("*/adapter_config.json"):
            assert models.read_config(path.parent).fingerprint in (path.parent / "README.md").read_text()


@pytest.mark.parametrize("limit, capacity", [(None, 128), (0, 34), (60, 60)])
def test_the_exact_limit_is_the_trained_context_or_what_is_asked(model_folder, gates_folder, limit, capacity):
    model, _ = load(str(model_folder), str(gates_folder), exact_limit=limit)
    assert model.make_cache()[0].capacity == capacity


def test_gates_of_another_model_are_refused(gates_folder, tmp_path):
    other = save_model(qwen2_model(), tmp_path / "other")
    with pytest.raises(AdapterError, match="not for this model"):
        load(str(other), str(gates_folder))


def test_a_folder_without_gates_is_named(model_folder, tmp_path):
    with pytest.raises(AdapterError, match=re.escape(str(tmp_path))):
        load(str(model_folder), str(tmp_path))


def test_a_type_of_model_that_nobody_knows_is_named_in_a_sentence(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "strange"}))
    with pytest.raises(UnsupportedModel) as refusal:
        load(str(folder))
    assert re.fullmatch(r"The model .*strange cannot be loaded: [^\n]*strange[^\n]*\.", str(refusal.value))


@pytest.mark.parametrize("config", [{}, {"model_type": "llama"}])
def test_a_configuration_that_lacks_something_is_told_in_a_sentence(model_folder, tmp_path, config):
    folder = shutil.copytree(model_folder, tmp_path / "bare")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="bare cannot be loaded: "):
        load(str(folder))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("harm", [cut, Path.unlink], ids=["cut short", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_whose_files_are_damaged_is_told_in_one_sentence(model_folder, tmp_path, name, harm):
    folder = shutil.copytree(model_folder, tmp_path / "damaged")
    harm(folder / name)
    with pytest.raises(UnsupportedModel) as refusal:
        load(str(folder))
    told = r"The model .*damaged cannot be loaded: [^\n]*choose another one\."
    assert re.fullmatch(told, str(refusal.value))


def test_a_model_that_is_neither_here_nor_reachable_is_told_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnsupportedModel, match="nobody/nothing is not on this machine, and the hub cannot"):
        load("nobody/nothing")


@pytest.fixture
def quantised() -> nn.Module:
    model = qwen2_model(hidden_size=64, tie_word_embeddings=False)
    nn.quantize(model, group_size=32, bits=4)
    return model


def test_float32_keeps_the_logits_of_a_quantised_model(quantised):
    before = quantised(TOKENS[None])
    to_float32(quantised)
    assert close(quantised(TOKENS[None]), before, 1e-3)
    kinds = {type(module) for _, module in quantised.named_modules()}
    assert {nn.Linear, nn.Embedding} <= kinds and not {nn.QuantizedLinear, nn.QuantizedEmbedding} & kinds
    assert {weight.dtype for _, weight in tree_flatten(quantised.parameters())} == {mx.float32}


def test_quantisation_does_not_change_the_fingerprint(quantised):
    plain = qwen2_model(hidden_size=64, tie_word_embeddings=False)
    assert fingerprint(quantised) == fingerprint(plain) != fingerprint(llama_model())


@pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="float32 is for the CPU")
def test_on_the_cpu_half_precision_becomes_float32(tmp_path):
    half = llama_model()
    half.set_dtype(mx.float16)
    model, _ = load_base(str(save_model(half, tmp_path / "half")))
    assert {weight.dtype for _, weight in tree_flatten(model.parameters())} == {mx.float32}


def test_a_model_that_was_let_go_of_takes_no_room_beside_the_next_one(model_folder):
    model, _ = load(str(model_folder))
    gone = weakref.ref(model)
    del model
    load_base(str(model_folder))
    assert gone() is None


def test_the_budget_counts_the_gates_against_the_rest(model_folder, gates_folder):
    model, _ = load(str(model_folder), str(gates_folder))
    sizes = {path: value.size for path, value in tree_flatten(model.parameters())}
    gates = sum(size for path, size in sizes.items() if "memory_gate" in path)
    others = recall_parameters(model)
    base = sum(size for path, size in sizes.items() if "memory_gate" not in path and path not in others)
    assert 0 < gates and parameter_budget(model, gate_parameters(model)) == gates / base


def test_the_budget_counts_weights_and_not_the_words_they_are_packed_in():
    plain, packed = llama_model(), llama_model()
    nn.quantize(packed, group_size=32, bits=4)
    shares = (parameter_budget(model, gate_parameters(model)) for model in map(with_memory, (plain, packed)))
    assert len({*shares}) == 1
