import mlx.core as mx
import pytest
from tiny import LAYOUT, llama_model, read, sequence, with_memory

from mlx_edgeinf.savefile import SaveFileError, load_memory, save_memory


def after_reading(length: int, **options):
    model = with_memory(llama_model(), **options)
    cache = model.make_cache()
    read(model, sequence(length), cache, [length])
    return model, cache


@pytest.mark.parametrize("exact_limit", [0, 30], ids=["memory path", "base path at first"])
@pytest.mark.parametrize("length", [1, LAYOUT.capacity - 3, LAYOUT.capacity + 5 * LAYOUT.segment + 3])
def test_a_saved_memory_continues_as_the_one_that_was_read(tmp_path, length, exact_limit):
    """Even where the next fold takes tokens that were asked for before."""
    model, cache = after_reading(length, exact_limit=exact_limit)
    save_memory(tmp_path / "memory.safetensors", model, cache)
    opened = load_memory(tmp_path / "memory.safetensors", model)
    assert [layer.tokens for layer in opened] == [length] * len(opened)
    more = sequence(4 * LAYOUT.segment)[None]
    assert mx.array_equal(model(more, cache=opened), model(more, cache=cache))


def test_the_limit_of_the_base_path_is_saved(tmp_path):
    """One that was opened with another limit would fold at another time."""
    model, cache = after_reading(LAYOUT.segment)
    for layer in cache:
        layer.exact_limit = 30
    save_memory(tmp_path / "memory.safetensors", model, cache)
    opened = load_memory(tmp_path / "memory.safetensors", model)
    assert all(layer.capacity == 30 for layer in opened)


def test_a_memory_of_another_model_is_refused(tmp_path):
    model, cache = after_reading(40)
    save_memory(tmp_path / "memory.safetensors", model, cache)
    model.model.norm.weight = model.model.norm.weight + 1
    with pytest.raises(SaveFileError, match="another base model"):
        load_memory(tmp_path / "memory.safetensors", model)


def test_a_memory_of_other_gates_is_refused(tmp_path):
    model, cache = after_reading(40)
    save_memory(tmp_path / "memory.safetensors", model, cache)
    gate = model.layers[0].self_attn.memory_gate
    gate.bias = gate.bias + 1
    with pytest.raises(SaveFileError, match="another gates"):
        load_memory(tmp_path / "memory.safetensors", model)


def test_a_damaged_file_is_named(tmp_path):
    model, cache = after_reading(40)
    path = tmp_path / "memory.safetensors"
    save_memory(path, model, cache)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SaveFileError, match="memory.safetensors is not a saved memory"):
        load_memory(path, model)
