"""How a segment is read for its gradients: what each layer keeps for the way back, or computes again.

All ways give the same output, and gates the same gradients (mx.checkpoint gives none to what a function
only closes over, such as the frozen MLP). What a layer keeps is of the size of the segment:
its attention's scores, and in its MLP (usually three times as wide as the model, and more) several
arrays of all tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..cache import EdgeCache
from .loss import CHUNK

Block = Callable[[nn.Module, mx.array, EdgeCache], mx.array]


def hidden_states(model: nn.Module, tokens: mx.array, cache: list[EdgeCache], block: Block) -> mx.array:
    """Last hidden states (L, D) of tokens (L,), each layer read by `block`."""
    hidden = model.model.embed_tokens(tokens[None])
    for layer, layer_cache in zip(model.layers, cache):
        hidden = block(layer, hidden, layer_cache)
    return model.model.norm(hidden)[0]


def kept(layer: nn.Module, hidden: mx.array, cache: EdgeCache) -> mx.array:
    """(B, L, D) -> (B, L, D) as mlx-lm does it: everything is kept."""
    return layer(hidden, cache=cache)


def chunked(layer: nn.Module, hidden: mx.array, cache: EdgeCache) -> mx.array:
    """The MLP a few tokens at a time, of which only its input is kept.

    Mini-Sequence Transformer (arXiv 2407.15892), section 3: an MLP looks at each token by itself.
    """
    hidden = hidden + layer.self_attn(layer.input_layernorm(hidden), None, cache)
    mlp = mx.checkpoint(lambda chunk: layer.mlp(layer.post_attention_layernorm(chunk)))
    chunks = [hidden[:, start : start + CHUNK] for start in range(0, hidden.shape[1], CHUNK)]
    return hidden + mx.concatenate([mlp(chunk) for chunk in chunks], axis=1)


def recomputed(layer: nn.Module, hidden: mx.array, cache: EdgeCache) -> mx.array:
    """Only the layer's input is kept.

    Of the layer itself everything: with its MLP in chunks, one segment of the starter model would peak at
    1.08 GB above the weights instead of 1.24 (2.56 with all layers kept), and the MLP run three times.
    """
    before, after = cache.state, []

    def run(parameters: dict, hidden: mx.array) -> mx.array:
        cache.state = before
        layer.update(parameters)
        output = kept(layer, hidden, cache)
        # Called again on the way back. What that leaves in the cache would hold on to the scores of all
        # layers until it is evaluated, so the cache goes on from the first time.
        if after:
            cache.state = after[0]
        else:
            after.append(cache.state)
        return output

    return mx.checkpoint(run)(layer.trainable_parameters(), hidden)
