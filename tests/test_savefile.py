from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from tiny import LAYOUT, book, llama_model, read, sequence, with_memory

from mlx_edgeinf import savefile
from mlx_edgeinf.document_memory import DocumentMemory
from mlx_edgeinf.savefile import SaveFileError, load_memory, save_memory

BOOK = book(2)


def after_reading(length: int, **options):
    """A model, and a memory of 128 tokens of which `length` were read."""
    model = with_memory(llama_model(), **options)
    cache, tokens = model.make_cache(), sequence(128)
    if length:
        read(model, tokens[:length], cache, [length])
    return model, DocumentMemory(BOOK, tokens.tolist(), [64, 128], cache, length, 2.5)


def reopened(path, model, memory: DocumentMemory) -> DocumentMemory:
    save_memory(path, model, memory)
    return load_memory(path, model, BOOK)


@pytest.mark.parametrize("exact_limit", [0, 30], ids=["memory path", "base path at first"])
@pytest.mark.parametrize("length", [0, 1, LAYOUT.capacity - 3, LAYOUT.capacity + 5 * LAYOUT.segment + 3])
def test_a_saved_memory_continues_as_the_one_that_was_read(tmp_path, length, exact_limit):
    """Even where the next fold takes tokens that were asked for before, and where nothing was read yet."""
    model, memory = after_reading(length, exact_limit=exact_limit)
    opened = reopened(tmp_path / "memory", model, memory)
    assert [layer.tokens for layer in opened.cache] == [length] * len(opened.cache)
    more = sequence(4 * LAYOUT.segment)[None]
    assert mx.array_equal(model(more, cache=opened.cache), model(more, cache=memory.cache))


@pytest.mark.parametrize("kind", ["linear", "exponential"])
def test_every_kind_of_memory_can_be_saved(tmp_path, kind):
    model, memory = after_reading(60, kind=kind)
    opened = reopened(tmp_path / "memory", model, memory)
    more = sequence(20)[None]
    assert mx.array_equal(model(more, cache=opened.cache), model(more, cache=memory.cache))


def test_a_memory_in_half_precision_can_be_saved(tmp_path):
    model, memory = after_reading(0)
    model.set_dtype(mx.bfloat16)
    read(model, sequence(60), memory.cache, [60])
    memory.position = 60
    opened = reopened(tmp_path / "memory", model, memory)
    assert opened.cache[0].local.keys.dtype == mx.bfloat16
    assert mx.array_equal(opened.cache[0].local.keys, memory.cache[0].local.keys_and_values()[0])


@pytest.mark.parametrize("here", [mx.bfloat16, mx.float16])
def test_a_memory_from_a_machine_that_computes_otherwise_is_taken_to_what_is_computed_here(tmp_path, here):
    """A library from Linux, in float32: kept so, the model would go on in float32 with twice the cache."""
    model, memory = after_reading(0)
    # The same weights in all three.
    for dtype in (here, mx.float32):
        model.set_dtype(dtype)
    read(model, sequence(60), memory.cache, [60])
    memory.position = 60
    save_memory(tmp_path / "memory", model, memory)
    model.set_dtype(here)
    opened = load_memory(tmp_path / "memory", model, BOOK)
    assert opened.cache[0].local.keys.dtype == opened.cache[0].local.values.dtype == here
    assert model(sequence(20)[None], cache=opened.cache).dtype == here


def test_what_is_still_to_read_and_the_time_spent_are_saved(tmp_path):
    model, memory = after_reading(40)
    opened = reopened(tmp_path / "memory", model, memory)
    assert opened.document == BOOK
    for name in ("tokens", "page_ends", "position", "seconds", "pages_read"):
        assert getattr(opened, name) == getattr(memory, name)


def test_the_limit_of_the_base_path_is_saved(tmp_path):
    """One that was opened with another limit would fold at another time."""
    model, memory = after_reading(LAYOUT.segment)
    for layer in memory.cache:
        layer.exact_limit = 30
    opened = reopened(tmp_path / "memory", model, memory)
    assert all(layer.capacity == 30 for layer in opened.cache)


def other_model(model):
    model.model.norm.weight = model.model.norm.weight + 1


def merged_lora(model):
    """Norms stay what they are."""
    weight = model.layers[0].self_attn.k_proj.weight
    model.layers[0].self_attn.k_proj.weight = weight + 0.01 * mx.ones((len(weight), 1)) @ weight[:1]


def other_bits(model):
    nn.quantize(model.model, group_size=32, bits=4, class_predicate=lambda path, _: path.endswith("k_proj"))


def other_gates(model):
    gate = model.layers[0].self_attn.memory_gate
    gate.bias = gate.bias + 1


def other_size(model):
    model.layers[0].self_attn.memory_gate.memory.features = 5


@pytest.mark.parametrize("change, name", [
    (other_model, "base model"), (merged_lora, "base model"), (other_bits, "base model"),
    (other_gates, "gates"), (other_size, "size of memory"),
])  # fmt: skip
def test_a_memory_of_another_model_is_refused(tmp_path, change, name):
    model, memory = after_reading(40)
    save_memory(tmp_path / "memory", model, memory)
    change(model)
    with pytest.raises(SaveFileError, match=f"memory of book.pdf was made with another {name}: open it"):
        load_memory(tmp_path / "memory", model, BOOK)


def test_a_memory_of_another_layout_or_format_is_refused(tmp_path, monkeypatch):
    model, memory = after_reading(40)
    save_memory(tmp_path / "memory", model, memory)
    monkeypatch.setattr(savefile, "FORMAT", "99")
    layout = replace(LAYOUT, window=9)
    with pytest.raises(SaveFileError, match="another format and layout"):
        load_memory(tmp_path / "memory", with_memory(llama_model(), layout=layout), BOOK)


def test_a_byte_that_flipped_anywhere_is_noticed(tmp_path):
    model, memory = after_reading(40)
    path = tmp_path / "memory"
    save_memory(path, model, memory)
    whole = path.read_bytes()
    for at in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])
        with pytest.raises(SaveFileError, match="The saved memory of book.pdf is damaged: read the"):
            load_memory(path, model, BOOK)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 400, b"\x02" + bytes(7) + b"{}"])
def test_a_file_that_is_something_else_is_named(tmp_path, content):
    model, _ = after_reading(0)
    (tmp_path / "memory").write_bytes(content)
    with pytest.raises(SaveFileError, match="memory of book.pdf is damaged"):
        load_memory(tmp_path / "memory", model, BOOK)
    with pytest.raises(SaveFileError, match="memory of book.pdf is damaged"):
        load_memory(tmp_path / "gone", model, BOOK)


def set_counts(arrays, metadata, counts):
    metadata["counts"] = json.dumps(counts)


HOSTILE = {
    "a token the model lacks": lambda arrays, _: arrays.update(tokens=arrays["tokens"] + 250),
    "a page too many": lambda arrays, _: arrays.update(page_ends=mx.array([60, 64, 128], mx.int32)),
    "pages out of order": lambda arrays, _: arrays.update(page_ends=mx.array([130, 128], mx.int32)),
    "no tokens": lambda arrays, _: arrays.pop("tokens"),
    "a layer too few": lambda arrays, metadata: set_counts(arrays, metadata, [[30, 0]]),
    "more read than there is": lambda arrays, metadata: set_counts(arrays, metadata, [[500, 0]] * 2),
    "counts of another kind": lambda arrays, metadata: set_counts(arrays, metadata, 5),
    "keys without values": lambda arrays, _: arrays.pop("0.values"),
    "heads of another size": lambda arrays, _: arrays.update({"0.M": mx.zeros((1, 2, 4, 9))}),
    "another memory": lambda arrays, _: arrays.update({"0.more": mx.zeros((1, 2))}),
    "memory of nothing": lambda arrays, metadata: set_counts(arrays, metadata, [[0, 0]] * 2),
    "no time": lambda arrays, metadata: metadata.pop("seconds"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_made_to_do_harm_is_refused(tmp_path, change):
    """Its checksum is right; what it says is not."""
    model, memory = after_reading(40)
    path = tmp_path / "memory"
    save_memory(path, model, memory)
    arrays, metadata = mx.load(str(path), format="safetensors", return_metadata=True)
    del metadata["sha256"]
    change(arrays, metadata)
    checksum = savefile._checksum(arrays, metadata)
    savefile.save_arrays(path, arrays, metadata | {"sha256": checksum})
    with pytest.raises(SaveFileError, match="memory of book.pdf is damaged"):
        load_memory(path, model, BOOK)


def test_a_memory_that_broke_off_inside_a_segment_is_not_saved(tmp_path):
    model, memory = after_reading(40)
    memory.cache[0].local.offset += 1
    with pytest.raises(SaveFileError, match="book.pdf broke off inside a segment"):
        save_memory(tmp_path / "memory", model, memory)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fails_while_reading_is_no_reason_to_give_a_memory_up(tmp_path, monkeypatch):
    """MLX has one word for whatever goes wrong with a file."""
    model, memory = after_reading(40)
    path = tmp_path / "memory"
    save_memory(path, model, memory)

    def failing(*_, **__):
        raise RuntimeError("[load_safetensors] failed")

    def unread(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(savefile.mx, "load", failing)
    with pytest.raises(SaveFileError, match="damaged"):
        load_memory(path, model, BOOK)
    monkeypatch.setattr(Path, "read_bytes", unread)
    with pytest.raises(OSError, match="Input/output error"):
        load_memory(path, model, BOOK)
