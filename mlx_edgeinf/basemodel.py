"""What a base model is: how it is shaped, what it computes in, how long it stays itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

# Bytes a full KV cache may take on the base path: an eighth of the smallest machine's memory.
EXACT_BUDGET = 1 << 30


class UnsupportedModel(ValueError):
    """This base model's attention cannot carry a memory gate."""


def head_size(attention: nn.Module) -> int:
    """d of an attention layer, quantised or not."""
    return attention.k_proj.weight.shape[0] // attention.n_kv_heads


def trained_context(model: nn.Module) -> int:
    """Longest input in tokens the base model was trained on."""
    return model.args.max_position_embeddings or 8192


def dtype_of(model: nn.Module) -> mx.Dtype:
    """Of what the model computes, keys and values among it."""
    return model.model.norm.weight.dtype


def kv_bytes_per_token(model: nn.Module) -> int:
    """What each token adds to a full KV cache, in bytes: keys and values of all layers."""
    attention = model.layers[0].self_attn
    numbers = 2 * len(model.layers) * attention.k_proj.weight.shape[0]
    return numbers * dtype_of(model).size


def base_path_limit(model: nn.Module) -> int:
    """Tokens up to which the base path runs: the trained context, as far as the budget allows."""
    return min(trained_context(model), EXACT_BUDGET // kv_bytes_per_token(model))


def digest(arrays: Iterable[mx.array]) -> str:
    """A short name for the values of some arrays; of floats in half precision, whatever they are held in."""
    state = hashlib.sha256()
    for array in arrays:
        packed = array.dtype == mx.uint32
        state.update(np.array(array if packed else array.astype(mx.float16)).tobytes())
    return state.hexdigest()[:16]


def fingerprint(model: nn.Module) -> str:
    """What gates are trained for: a base model by its norms, which no quantisation touches.

    Models that were trained apart differ in them; quantised or merged with a LoRA, a model keeps them, and
    its gates still serve.
    """
    return digest(
        [model.model.norm.weight] + [layer.input_layernorm.weight for layer in model.layers]
    )


def weights_digest(model: nn.Module) -> str:
    """What a saved memory is bound to: the weights that its keys and values were computed with.

    Of each some rows, evenly spread: quantising, merging and editing a matrix change all or most of it.
    """
    base = (v for path, v in tree_flatten(model.parameters()) if "_gate." not in path)
    return digest(weight[:: max(weight.shape[0] // 8, 1)] for weight in base)
