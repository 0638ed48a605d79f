"""A llama-type Q4_1 GGUF rewritten as an mlx-lm model folder, tokenizer included.

Q4_1 and Q8_0 blocks (a scale and a minimum for 32 weights) are MLX's affine layout with
group size 32, so the packed weights are kept as they are and nothing is quantised twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LINEARS = {"group_size": 32, "bits": 4}
EMBEDDING = {"group_size": 32, "bits": 8}
CONTROL_TOKEN = 3  # GGUF's token type

MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf: Path, folder: Path) -> None:
    """Write the llama-type Q4_1 `gguf` as an mlx-lm model into the existing `folder`."""
    tensors, metadata = mx.load(str(gguf), return_metadata=True)
    config = _config(metadata)
    weights = _weights(tensors, config)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    _write_json(folder / "config.json", config)
    _tokenizer(metadata).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(metadata))


def _config(metadata: dict[str, Any]) -> dict[str, Any]:
    def number(key: str) -> int | float:
        return metadata[f"llama.{key}"].item()

    quantization = {**LINEARS, "model.embed_tokens": EMBEDDING}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "rope_theta": number("rope.freq_base"),
        "max_position_embeddings": number("context_length"),
        "vocab_size": number("vocab_size"),
        "tie_word_embeddings": True,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"].item(),
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"].item(),
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"].item(),
        "quantization": quantization,
        "quantization_config": quantization,
    }


def _weights(tensors: dict[str, mx.array], config: dict[str, Any]) -> dict[str, mx.array]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for name, tensor in tensors.items():
        *block, module, leaf = name.split(".")
        layer = [f"model.layers.{block[1]}"] if block else []
        rows = _unpermute(tensor, heads[module]) if module in heads else tensor
        weights[".".join([*layer, MODULES[module], leaf])] = _half(rows)
    return weights


def _unpermute(rows: mx.array, heads: int) -> mx.array:
    """Undo GGUF's row order of q and k, where the two rows of each rotation are neighbours.

    MLX and the original weights keep the first rows of all rotations before the second.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _half(tensor: mx.array) -> mx.array:
    """The float32 norms in float16, or Metal would run the whole model in float32.

    Nothing is lost: they were trained in bfloat16, whose mantissa is shorter.
    """
    return tensor.astype(mx.float16) if tensor.dtype == mx.float32 else tensor


def _tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    """The "smollm" byte-level BPE: every digit is a word of its own."""
    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"].tolist()
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    return tokenizer


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]

    def token(role: str) -> str:
        return tokens[metadata[f"tokenizer.ggml.{role}_token_id"].item()]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "pad_token": token("padding"),
        "unk_token": token("unknown"),
        "chat_template": metadata["tokenizer.chat_template"],
        "model_max_length": metadata["llama.context_length"].item(),
        "clean_up_tokenization_spaces": False,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
