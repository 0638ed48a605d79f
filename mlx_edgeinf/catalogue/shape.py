"""What config.json tells of a model before a byte of its weights is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .refusal import ModelRefused

# What `attention.retrofit` can give a memory; there it is checked again, on the model itself.
SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
ROPES = (None, "default", "linear", "llama3")
NEEDED = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size")

# Weights in half precision, and a scale and a bias in half precision for each group of quantised ones.
HALF = 16
PER_GROUP = 2 * HALF


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    width: of its hidden states. matrices, rest: parameters that quantisation reaches (linears and
    embeddings) and those that it leaves.
    bits: of a parameter of the matrices, its share of scales and biases included.
    kv_width: numbers that a token adds to a full KV cache, keys and values of all layers.
    context: the longest input in tokens that it was trained on.
    """

    width: int
    matrices: int
    rest: int
    bits: float
    kv_width: int
    context: int

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> Shape:
        """Read a config.json.

        Raises:
            ModelRefused: it is not a language model's, or its architecture is not supported.
        """
        _require_supported(config, name)
        type, hidden, layers, inner, heads, vocabulary = (
            config["model_type"], *(config[field] for field in NEEDED)
        )  # fmt: skip
        size = config.get("head_dim") or hidden // heads
        wide, narrow = heads * size, (config.get("num_key_value_heads") or heads) * size
        tied = config.get("tie_word_embeddings", True)
        layer = 2 * hidden * (wide + narrow) + 3 * hidden * inner
        norms = 2 * hidden + (2 * size if type == "qwen3" else 0)
        quantised = config.get("quantization") or {}
        return cls(
            width=hidden,
            matrices=vocabulary * hidden * (1 if tied else 2) + layers * layer,
            rest=layers * (norms + _biases(config, hidden, wide, narrow, inner)) + hidden,
            bits=quantised["bits"] + PER_GROUP / quantised["group_size"] if quantised else HALF,
            kv_width=2 * layers * narrow,
            context=config.get("max_position_embeddings") or 8192,
        )

    @property
    def parameters(self) -> int:
        return self.matrices + self.rest

    @property
    def weight_bytes(self) -> int:
        """Of the weights on disk."""
        return round((self.matrices * self.bits + self.rest * HALF) / 8)


def _biases(config: Mapping[str, Any], hidden: int, wide: int, narrow: int, inner: int) -> int:
    """Of one layer's linears, as mlx-lm's classes have them."""
    attention = wide + 2 * narrow
    if config["model_type"] == "qwen2":
        return attention
    of_attention = attention + hidden if config.get("attention_bias") else 0
    return of_attention + (2 * inner + hidden if config.get("mlp_bias") else 0)


def _require_supported(config: Mapping[str, Any], name: str) -> None:
    type = config.get("model_type")
    if not isinstance(type, str):
        raise ModelRefused(f"{name} is no model for mlx-lm: its config.json does not name its architecture.")
    if type not in SUPPORTED:
        raise ModelRefused(
            f"{name} is a {type} model, which cannot be given a memory: choose a model of the types "
            f"{', '.join(SUPPORTED[:-1])} or {SUPPORTED[-1]}."
        )
    if not all(isinstance(config.get(field), int) for field in NEEDED):
        raise ModelRefused(
            f"{name} has a config.json without the sizes of a {type} model: download it again."
        )
    scaling = config.get("rope_scaling") or {}
    rope = scaling.get("type") or scaling.get("rope_type")
    if rope not in ROPES:
        raise ModelRefused(
            f"{name} has positions of the kind {rope}, which its memory could not carry on: choose another "
            "model."
        )
    # mlx-lm's llama alone goes by this field.
    if type in ("llama", "mistral") and "sliding_attention" in (config.get("layer_types") or ()):
        raise ModelRefused(
            f"{name} has layers with a sliding window of their own, which cannot be given a memory: choose "
            "another model."
        )
