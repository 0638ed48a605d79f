"""What the gates are trained on, one segment at a time.

Next-token loss says what the text goes on with; distillation says what full attention would
have said of it. The first is the goal, the second the far less noisy way to it: the frozen
model's own forecast differs from the memory path's by what the memory lacks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..fastmath import exp

# Tokens whose logits are held at a time (Mini-Sequence Transformer, arXiv 2407.15892): the logits
# of a segment, and all that is computed from them, outweigh everything else of a small model.
CHUNK = 128


@dataclass(frozen=True)
class Objective:
    """(1 - distill) * next-token loss + distill * KL(full attention || memory path), nats per token.

    chunk: tokens whose logits are held at a time.
    """

    distill: float = 0.0
    chunk: int = CHUNK

    def __call__(
        self, model: nn.Module, hidden: mx.array, targets: mx.array, teacher: mx.array | None
    ) -> mx.array:
        """Last hidden states (L, D) of the memory path, and of full attention if distilled -> (L,)."""

        def chunk(hidden: mx.array, part: slice) -> mx.array:
            log_p = log_softmax(head(model, hidden))
            # Closed over: mx.checkpoint differentiates with respect to all it is passed.
            loss = -mx.take_along_axis(log_p, targets[part, None], axis=-1)[:, 0]
            if not self.distill:
                return loss
            told = log_softmax(head(model, teacher[part].astype(hidden.dtype)))
            divergence = (exp(told) * (told - log_p)).sum(axis=-1)
            return (1 - self.distill) * loss + self.distill * divergence

        parts = [slice(start, start + self.chunk) for start in range(0, targets.size, self.chunk)]
        losses = [mx.checkpoint(lambda h, part=part: chunk(h, part))(hidden[part]) for part in parts]
        return mx.concatenate(losses)


def token_losses(model: nn.Module, tokens: mx.array, targets: mx.array, cache: list) -> mx.array:
    """NLL in nats of the targets (n,) after the last n of tokens (L,), which are read into `cache`."""
    hidden = model.model(tokens[None], cache=cache)[0, -targets.size :]
    return Objective()(model, hidden, targets, None)


def head(model: nn.Module, hidden: mx.array) -> mx.array:
    """Hidden states (..., D) -> logits (..., vocabulary)."""
    if model.args.tie_word_embeddings:
        return model.model.embed_tokens.as_linear(hidden)
    return model.lm_head(hidden)


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """(L, vocabulary), (L,) -> (L,) in float32, with the vectorised exponential."""
    return -mx.take_along_axis(log_softmax(logits), targets[:, None], axis=-1)[:, 0]


def log_softmax(logits: mx.array) -> mx.array:
    """Over the last axis, in float32."""
    logits = logits.astype(mx.float32)
    logits = logits - mx.stop_gradient(mx.max(logits, axis=-1, keepdims=True))
    return logits - mx.log(mx.sum(exp(logits), axis=-1, keepdims=True))
