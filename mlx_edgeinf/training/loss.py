"""Next-token loss, one segment at a time."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..fastmath import exp


def token_losses(model: nn.Module, tokens: mx.array, targets: mx.array, cache: list) -> mx.array:
    """Negative log-likelihood in nats of each target (L,) after tokens (L,), read into `cache`."""
    hidden = model.model(tokens[None], cache=cache)
    return cross_entropy(head(model, hidden)[0], targets)


def head(model: nn.Module, hidden: mx.array) -> mx.array:
    """Hidden states (..., D) -> logits (..., vocabulary)."""
    if model.args.tie_word_embeddings:
        return model.model.embed_tokens.as_linear(hidden)
    return model.lm_head(hidden)


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """(L, vocabulary), (L,) -> (L,) in float32, with the vectorised exponential."""
    logits = logits.astype(mx.float32)
    top = mx.stop_gradient(mx.max(logits, axis=-1, keepdims=True))
    total = mx.log(mx.sum(exp(logits - top), axis=-1)) + top[:, 0]
    return total - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
