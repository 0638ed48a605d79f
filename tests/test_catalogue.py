"""The list of models: what their configurations tell, whether they fit, where their gates are."""

from __future__ import annotations

import json
import shutil

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from refusals import one_sentence
from tiny import llama_model, qwen2_model, qwen3_model

from mlx_edgeinf.attention import retrofit
from mlx_edgeinf.beside import gates_beside
from mlx_edgeinf.cache import Layout
from mlx_edgeinf.catalogue import ModelRefused
from mlx_edgeinf.catalogue.choice import SETTINGS, choose_model, chosen_model
from mlx_edgeinf.catalogue.home import local_model
from mlx_edgeinf.catalogue.machine import Fit, fit, machine_memory, memory_need
from mlx_edgeinf.catalogue.offers import Gates, offer_of, offers
from mlx_edgeinf.catalogue.recommended import recommended
from mlx_edgeinf.catalogue.shape import Shape
from mlx_edgeinf.cli import main
from mlx_edgeinf.models import load

GB = 10**9
# Of files that the hub lists, as remembered: what is worked out must come near them.
KNOWN = {"Qwen2.5-0.5B-Instruct-4bit": 0.278, "Llama-3.2-3B-Instruct-4bit": 1.81, "Qwen3-8B-4bit": 4.61}


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the tiny model, to be changed."""
    return shutil.copytree(model_folder, tmp_path / "model")


def config_of(model: nn.Module) -> dict:
    return {name: value for name, value in vars(model.args).items() if value is not None}


def change(folder, **fields) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize("bits", [None, 4, 8])
@pytest.mark.parametrize(
    "make", [
        llama_model, qwen2_model, qwen3_model,
        lambda **sizes: llama_model(attention_bias=True, mlp_bias=True, head_dim=16, **sizes),
    ], ids=["llama", "qwen2", "qwen3", "biases"],
)  # fmt: skip
def test_the_configuration_tells_the_parameters_and_the_bytes(make, bits):
    model = make(hidden_size=64, tie_word_embeddings=False)
    quantised = {"quantization": {"group_size": 32, "bits": bits}} if bits else {}
    shape = Shape.of(config_of(model) | quantised, "tiny")
    assert shape.parameters == sum(value.size for _, value in tree_flatten(model.parameters()))
    model.set_dtype(mx.float16)
    if bits:
        nn.quantize(model, 32, bits)
    assert shape.weight_bytes == sum(value.nbytes for _, value in tree_flatten(model.parameters()))


def test_the_recommended_models_have_the_sizes_that_are_known():
    sizes = {each.name: each.download / GB for each in recommended()}
    for name, size in KNOWN.items():
        assert sizes[name] == pytest.approx(size, rel=0.01), name
    assert list(sizes.values()) == sorted(sizes.values())
    assert all(each.licence for each in recommended())


@pytest.mark.parametrize(
    "fields, reason", [
        ({"model_type": "gemma3_text"}, "gemma3_text"),
        ({"model_type": None}, "architecture"),
        ({"hidden_size": "wide"}, "sizes"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "sliding window"),
    ],
)  # fmt: skip
def test_what_cannot_carry_a_memory_is_refused_by_its_configuration(fields, reason):
    with pytest.raises(ModelRefused, match=reason) as refusal:
        Shape.of(config_of(llama_model()) | fields, "the model")
    assert "the model" in str(refusal.value) and one_sentence(refusal)


@pytest.mark.parametrize(
    "fields", [
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    ],
)  # fmt: skip
def test_the_configuration_and_the_model_itself_are_judged_alike(fields):
    def verdict(judge) -> bool:
        try:
            judge()
        except ValueError:
            return False
        return True

    model = llama_model(**fields)
    read = verdict(lambda: Shape.of(config_of(model), "tiny"))
    assert read == verdict(lambda: retrofit(model, Layout(2, 8, 8), "centroids", 4, 0))


@pytest.mark.parametrize(
    "make, reason", [
        (lambda folder: folder / "nothing", "no folder"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "config.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "weights"),
        (lambda folder: change(folder, model_type="mamba"), "mamba"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(folder, make, reason):
    path = make(folder)
    with pytest.raises(ModelRefused, match=reason) as refusal:
        local_model(path if hasattr(path, "is_dir") else folder)
    assert one_sentence(refusal)


def test_need_and_fit_follow_the_machine():
    shape = recommended()[4].shape
    packed, plain = (memory_need(shape, shape.weight_bytes, metal) for metal in (True, False))
    assert shape.weight_bytes < packed < 4 * shape.parameters < plain
    assert [fit(4 * GB, memory * GB) for memory in (16, 8, 6, 5)] == [
        Fit.FITS, Fit.FITS, Fit.TIGHT, Fit.TOO_LARGE
    ]  # fmt: skip
    assert machine_memory() > GB


def test_gates_beside_a_model_are_found_shown_and_loaded(folder, gates_folder):
    assert offer_of(folder).gates is Gates.NONE and gates_beside(folder) is None
    shutil.copytree(gates_folder, folder / "gates")
    assert offer_of(folder).gates is Gates.BESIDE and gates_beside(folder) == folder / "gates"
    assert load(str(folder))[0].layout.window == 16


def test_gates_that_lie_among_the_models_files_are_found_too(folder, gates_folder):
    shutil.copytree(gates_folder, folder, dirs_exist_ok=True)
    assert gates_beside(folder) == folder
    assert load(str(folder))[0].layout.window == 16


def test_an_adapter_of_another_kind_beside_a_model_is_passed_over(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora", "num_layers": 8}))
    assert gates_beside(folder) is None
    assert load(str(folder))[0].layout.window == 512


def test_what_was_downloaded_is_offered_whatever_it_is(folder, tmp_path):
    home = tmp_path / "home"
    listed = offers(home)
    there = shutil.copytree(folder, home / "mlx-community" / "Qwen3-8B-4bit")
    shutil.copytree(folder, home / "people" / "other")
    shutil.copytree(folder, home / "people" / f"half.{12 * 'a'}.partial")
    by_name = {offer.name: offer for offer in offers(home)}
    assert by_name.keys() == {offer.name for offer in listed} | {"other"}
    assert by_name["Qwen3-8B-4bit"].folder == there and by_name["other"].repo == "people/other"
    assert [offer.name for offer in listed if offer.starter] == ["SmolLM2-135M-Instruct"]


def test_the_choice_is_remembered_and_a_damaged_one_forgotten(tmp_path):
    assert chosen_model(tmp_path) is None
    choose_model(tmp_path, "/some/folder")
    assert chosen_model(tmp_path) == "/some/folder"
    choose_model(tmp_path, None)
    assert chosen_model(tmp_path) is None
    for text in ("{", "[]", '{"model": 3}'):
        (tmp_path / SETTINGS).write_text(text)
        assert chosen_model(tmp_path) is None


def test_the_command_lists_the_models(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("mlx_edgeinf.cli.offers.default_home", lambda: tmp_path)
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(recommended()) and "Apache-2.0" in lines[0] and "gates come with" in lines[0]
    assert main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told[3]["repo"] == "mlx-community/Qwen2.5-1.5B-Instruct-4bit" and told[3]["folder"] is None
