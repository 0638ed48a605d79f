from __future__ import annotations

import errno
import json
import re
from typing import BinaryIO

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm.tuner.utils import load_adapters
from tiny import LAYOUT, MODELS, cut, llama_model, qwen2_model, read, sequence, with_memory

from mlx_edgeinf import adapter
from mlx_edgeinf.adapter import (
    FORMAT,
    AdapterConfig,
    AdapterError,
    gate_parameters,
    load_weights,
    read_config,
    save_adapter,
    swap_gates,
)
from mlx_edgeinf.atomic import SaveError, replace_text
from mlx_edgeinf.attention import retrofit
from mlx_edgeinf.basemodel import fingerprint
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.models import equip

SIZES = {"sinks": LAYOUT.sinks, "window": LAYOUT.window, "segment": LAYOUT.segment, "features": 4}
TOKENS = sequence(40)


def config_of(model: nn.Module, **changes) -> AdapterConfig:
    return AdapterConfig("tiny", fingerprint(model), **SIZES | changes)


def saved(folder, make=llama_model, kind="centroids") -> nn.Module:
    """A model with trained gates, which were saved to the folder."""
    model = with_memory(make(), kind)
    save_adapter(model, config_of(model, kind=kind), folder)
    return model


def logits(model: nn.Module) -> mx.array:
    return read(model, TOKENS, model.make_cache(), cut(TOKENS.size, LAYOUT.segment))


@pytest.mark.parametrize(
    "make, kind", [*((make, "centroids") for make in MODELS), *((llama_model, kind) for kind in KINDS)]
)
def test_saved_gates_answer_the_same_in_a_model_loaded_anew(tmp_path, make, kind):
    model, fresh = saved(tmp_path, make, kind), make()
    equip(fresh, read_config(tmp_path), tmp_path, exact_limit=0)
    assert mx.array_equal(logits(fresh), logits(model))


def test_mlx_lm_loads_the_adapter_into_a_retrofitted_model(tmp_path):
    model = saved(tmp_path)
    fresh = retrofit(llama_model(), LAYOUT, "centroids", 4, 0)
    assert not mx.array_equal(logits(fresh), logits(model))
    load_adapters(fresh, str(tmp_path))
    assert mx.array_equal(logits(fresh), logits(model))


def test_only_gates_are_saved(tmp_path):
    model = saved(tmp_path)
    names = mx.load(str(tmp_path / "adapters.safetensors")).keys()
    assert names == gate_parameters(model).keys()
    assert all(".memory_gate." in name for name in names)


def test_the_configuration_comes_back_as_it_was(tmp_path):
    model = saved(tmp_path, kind="exponential")
    assert read_config(tmp_path) == config_of(model, kind="exponential")
    assert read_config(tmp_path).layout == LAYOUT


def test_nothing_but_the_two_files_is_left_in_the_folder(tmp_path):
    saved(tmp_path / "new" / "folder")
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"adapters.safetensors", "adapter_config.json"}


# -- refusals ------------------------------------------------------------------------


def test_gates_of_another_model_are_refused(tmp_path):
    saved(tmp_path)
    other = llama_model(num_hidden_layers=3)
    with pytest.raises(AdapterError, match=r"trained for tiny, not for this model.*finetune"):
        equip(other, read_config(tmp_path), tmp_path)


def test_gates_that_do_not_fit_their_configuration_are_refused(tmp_path):
    model = saved(tmp_path)
    replace_text(tmp_path / "adapter_config.json", json.dumps(vars(config_of(model, kind="exponential"))))
    with pytest.raises(AdapterError, match="do not match their own configuration"):
        equip(llama_model(), read_config(tmp_path), tmp_path)


def test_refused_gates_change_nothing(tmp_path):
    saved(tmp_path)
    other = with_memory(qwen2_model())
    before = logits(other)
    with pytest.raises(AdapterError):
        load_weights(other, read_config(tmp_path), tmp_path)
    assert mx.array_equal(logits(other), before)


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:20], lambda data: data[:-1], lambda data: b"no tensors here",
    lambda data: data[:9] + b"\xc4" + data[10:], lambda data: None,
], ids=["empty", "header cut", "end cut", "text", "header no text", "missing"])  # fmt: skip
def test_damaged_gates_are_named_and_change_nothing(tmp_path, damage):
    saved(tmp_path)
    path = tmp_path / "adapters.safetensors"
    data = damage(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    model = with_memory(llama_model())
    before = logits(model)
    with pytest.raises(AdapterError, match=f"{path} is missing or damaged.*finetune"):
        load_weights(model, read_config(tmp_path), tmp_path)
    assert mx.array_equal(logits(model), before)


def test_another_format_is_refused(tmp_path):
    saved(tmp_path)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields | {"format": 99}))
    with pytest.raises(AdapterError, match=f"format 99, this version reads format {FORMAT}"):
        read_config(tmp_path)


def test_other_gates_take_the_place_of_a_loaded_models_and_come_back(tmp_path):
    model = saved(tmp_path / "one")
    before = logits(model)
    other = with_memory(llama_model())
    other.update(tree_map(lambda p: 0.5 * p, other.trainable_parameters()))
    save_adapter(other, config_of(other), tmp_path / "two")
    swap_gates(model, tmp_path / "two")
    assert mx.array_equal(logits(model), logits(other)) and not mx.array_equal(logits(model), before)
    swap_gates(model, tmp_path / "one")
    assert mx.array_equal(logits(model), before)


@pytest.mark.parametrize("change", [{"window": 16}, {"kind": "linear"}, {"gate": "scalar"}], ids=str)
def test_gates_for_another_memory_are_not_swapped_in(tmp_path, change):
    model = saved(tmp_path)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields | change))
    with pytest.raises(AdapterError, match="which this model was not loaded for: load it again"):
        swap_gates(model, tmp_path)


@pytest.mark.parametrize("change", [{"kind": "none"}, {"gate": "none"}, {"more": 1}, {"window": None}])
def test_a_configuration_of_other_fields_is_refused(tmp_path, change):
    saved(tmp_path)
    path = tmp_path / "adapter_config.json"
    fields = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
    with pytest.raises(AdapterError, match="its fields are not those of gates"):
        read_config(tmp_path)
    path.write_text("[1, 2]")
    with pytest.raises(AdapterError, match="is not a JSON object"):
        read_config(tmp_path)


def test_a_lora_adapter_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora", "num_layers": 4}))
    with pytest.raises(AdapterError, match="format None"):
        read_config(tmp_path)


def test_a_folder_without_an_adapter_is_named(tmp_path):
    with pytest.raises(AdapterError, match=f"{tmp_path}.*does not exist"):
        read_config(tmp_path)


# -- identity ------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    lambda model: nn.quantize(model, group_size=32, bits=4),
    lambda model: model.set_dtype(mx.float16),
    lambda model: retrofit(model, LAYOUT, "centroids", 4, 0),
], ids=["quantised", "in half precision", "retrofitted"])  # fmt: skip
def test_a_model_keeps_its_fingerprint(change):
    model = llama_model()
    own = fingerprint(model)
    change(model)
    assert fingerprint(model) == own


def test_a_fine_tune_has_another_fingerprint():
    model = llama_model()
    own = fingerprint(model)
    model.layers[1].input_layernorm.weight += 0.01
    assert fingerprint(model) != own


# -- atomic replacement --------------------------------------------------------------


def test_a_write_that_fails_halfway_leaves_the_old_adapter(tmp_path, monkeypatch):
    model = saved(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.update(tree_map(lambda p: p + 1, model.trainable_parameters()))

    def full_disk(file: BinaryIO, arrays: dict, metadata=None) -> None:
        file.write(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(adapter.mx, "save_safetensors", full_disk)
    place = re.escape(str(tmp_path / "adapters.safetensors"))
    with pytest.raises(SaveError, match=f"^{place} could not be written \\(No space left on device\\): "):
        save_adapter(model, config_of(model), tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fresh = llama_model()
    equip(fresh, read_config(tmp_path), tmp_path)


def test_every_gate_parameter_is_among_the_models_parameters():
    model = with_memory(llama_model())
    everything = dict(tree_flatten(model.parameters()))
    assert all(everything[path] is value for path, value in gate_parameters(model).items())
