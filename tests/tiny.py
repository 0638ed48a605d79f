"""Tiny random models of the supported classes, sharp enough for mistakes to show."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.models import llama, qwen2, qwen3
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mlx_edgeinf.adapter import save_adapter
from mlx_edgeinf.attention import retrofit
from mlx_edgeinf.cache import EdgeCache, Layout
from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.models import equip, load_base, untrained_config

LAYOUT = Layout(sinks=2, window=8, segment=8)
VOCABULARY = 257
END = 256

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0,
}  # fmt: skip


def llama_model(**changes) -> nn.Module:
    return _sharpened(llama.Model(llama.ModelArgs(model_type="llama", **SIZES | changes)))


def qwen2_model(**changes) -> nn.Module:
    return _sharpened(qwen2.Model(qwen2.ModelArgs(model_type="qwen2", **SIZES | changes)))


def qwen3_model(**changes) -> nn.Module:
    own = {"head_dim": 16, "tie_word_embeddings": False, "rope_theta": 1e4}
    return _sharpened(qwen3.Model(qwen3.ModelArgs(model_type="qwen3", **SIZES | own | changes)))


def llama3_rope_model(**changes) -> nn.Module:
    return llama_model(rope_scaling=LLAMA3_ROPE, **changes)


def interleaved_rope_model(**changes) -> nn.Module:
    return llama_model(rope_traditional=True, **changes)


MODELS = [llama_model, qwen2_model, qwen3_model, llama3_rope_model, interleaved_rope_model]


def without_positions(model: nn.Module) -> nn.Module:
    """The same model with a rotary embedding that does not turn."""
    for layer in model.layers:
        layer.self_attn.rope.scale = 0.0
    return model


def without_end(model: nn.Module) -> nn.Module:
    """The same model, to whose answers only the limit of tokens puts an end."""
    embedding = model.model.embed_tokens.weight
    embedding[END] = 0.0
    return model


def with_memory(
    model: nn.Module,
    kind: str = "centroids",
    features: int = 4,
    exact_limit: int = 0,
    layout: Layout = LAYOUT,
) -> nn.Module:
    """Retrofit the model, with gates as if they had been trained."""
    retrofit(model, layout, kind, features, exact_limit)
    mx.random.seed(1)
    for layer in model.layers:
        gate = layer.self_attn.memory_gate
        gate.update(tree_map(lambda p: p + 0.3 * mx.random.normal(p.shape), gate.parameters()))
        gate.bias = 0.5 * mx.random.normal(gate.bias.shape)
    return model


def learnt_recall(model: nn.Module) -> nn.Module:
    """Its gates of recall as if they had been trained."""
    mx.random.seed(2)
    for layer in model.layers:
        gate = layer.self_attn.recall_gate
        gate.update(tree_map(lambda p: p + 0.3 * mx.random.normal(p.shape), gate.parameters()))
    return model


def sequence(length: int, seed: int = 0) -> mx.array:
    """Token ids, none of them twice: equal keys in one fold would be ties for the clustering."""
    mx.random.seed(seed)
    return mx.random.permutation(END)[:length]


def byte_tokenizer() -> TokenizerWrapper:
    """One token a byte, and an end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)} | {"<end>": END}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return TokenizerWrapper(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>"))


def save_model(model: nn.Module, folder: Path) -> Path:
    """Write the model, with a tokenizer of bytes, as a folder that mlx-lm loads."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {name: value for name, value in vars(model.args).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    byte_tokenizer()._tokenizer.save_pretrained(folder)
    return folder


def save_gates(model_folder: Path, folder: Path, **sizes) -> Path:
    """Write untrained gates for a saved model."""
    model, _ = load_base(str(model_folder))
    config = untrained_config(model, model_folder.name, **sizes)
    equip(model, config)
    save_adapter(model, config, folder)
    return folder


def document(*texts: str) -> Document:
    """A document of pages with these texts."""
    return Document("book.pdf", "0" * 64, tuple(Page(n, text) for n, text in enumerate(texts, start=1)))


def book(pages: int) -> Document:
    """A document of pages of 62 letters, so of 64 tokens each."""
    return document(*(bytes((97 + sequence(62, seed) % 26).tolist()).decode() for seed in range(pages)))


def read(model: nn.Module, tokens: mx.array, cache: list | None, pieces: list[int]) -> mx.array:
    """Logits (1, L, V) of tokens read in pieces of these lengths."""
    logits, start = [], 0
    for length in pieces:
        logits.append(model(tokens[None, start : start + length], cache=cache))
        start += length
    assert start == tokens.size
    return mx.concatenate(logits, axis=1)


def cut(total: int, size: int) -> list[int]:
    """Lengths of the pieces of `size` that `total` is cut into."""
    return [min(size, total - start) for start in range(0, total, size)]


def forgetting(model: nn.Module) -> list[EdgeCache]:
    """Caches of sinks and window alone."""
    gates = [layer.self_attn.memory_gate for layer in model.layers]
    return [EdgeCache(LAYOUT, None, gate.rotation) for gate in gates]


def close(a: mx.array, b: mx.array, tolerance: float = 1e-4) -> bool:
    return mx.allclose(a, b, rtol=tolerance, atol=tolerance).item()


def _sharpened(model: nn.Module) -> nn.Module:
    """Weights that make attention choose, and norms that tell one model from another."""
    mx.random.seed(0)
    weights = []
    for path, weight in tree_flatten(model.parameters()):
        spread = 0.5 if "proj" in path else 1.0
        centre = 1.0 if "norm" in path else 0.0
        weights.append((path, centre + (0.2 if centre else spread) * mx.random.normal(weight.shape)))
    model.update(tree_unflatten(weights))
    mx.eval(model.parameters())
    return model
