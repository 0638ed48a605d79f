"""A document's memory as a file: saved once, opened in a moment, forked per question."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from .adapter import digest, fingerprint, gate_parameters, save_arrays
from .cache import EdgeCache

FORMAT = "2"


class SaveFileError(ValueError):
    """A saved memory that cannot be used; the message says why."""


def save_memory(path: Path, model: nn.Module, cache: list[EdgeCache]) -> None:
    """Write the state of all layers to a safetensors file, replaced atomically."""
    arrays, counts = {}, []
    for number, layer in enumerate(cache):
        keys, values = layer.local.keys_and_values()
        parts = {"keys": keys, "values": values, **layer.memory}
        if layer.received is not None:
            parts["received"] = layer.received
        arrays.update({f"{number}.{name}": array for name, array in parts.items()})
        counts.append([layer.folded, layer.exact_limit])
    save_arrays(path, arrays, {"counts": json.dumps(counts), **_identity(model)})


def load_memory(path: Path, model: nn.Module) -> list[EdgeCache]:
    """Read a saved memory for the model it was made with.

    Raises:
        SaveFileError: not such a file, or made with another model or other gates.
    """
    try:
        arrays, metadata = mx.load(str(path), return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise SaveFileError(f"{path.name} is not a saved memory, or it is damaged.") from error
    identity = _identity(model)
    different = [name for name, value in identity.items() if metadata.get(name) != value]
    if different:
        raise SaveFileError(
            f"{path.name} was made with another {' and other '.join(different)}: "
            "open it with the model it was made with, or read the document again."
        )
    cache = model.make_cache()
    for number, (layer, (folded, exact_limit)) in enumerate(zip(cache, json.loads(metadata["counts"]))):
        prefix = f"{number}."
        parts = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        keys, values = parts.pop("keys"), parts.pop("values")
        layer.state = [keys, values, keys.shape[2], parts.pop("received", None), folded, exact_limit, parts]
    mx.eval([layer.state for layer in cache])
    return cache


def _identity(model: nn.Module) -> dict[str, str]:
    """What must be the same for a saved memory to mean anything."""
    return {
        "format": FORMAT,
        "base model": fingerprint(model),
        "gates": digest(gate_parameters(model).values()),
        "layout": str(model.make_cache()[0].layout),
        "size of memory": str(model.layers[0].self_attn.memory_gate.memory.features),
    }
