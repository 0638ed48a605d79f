"""Sources and their masses: the one idea that carries the whole method.

Softmax attention over a union of token sets is the mixture of the attention
over each set, weighted by each set's mass, the sum of its exponentiated
scores. So every part of the past answers a query with a `Source`, and

    A = sum_i w_i A_i,    w = softmax_i(log_mass_i).

Shapes: B batch, H query heads, G kv heads, r = H / G, L queries, N keys, d head size.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from .fastmath import exp

# Queries are taken in blocks of this many, so that the part of the causal
# triangle that is masked anyway is not exponentiated. Exponentials, not matrix
# products, bound the CPU (12 ns each against 0.2 ns for a multiply).
QUERY_BLOCK = 128


class Source(NamedTuple):
    """What one part of the past answers to each query.

    output: (B, H, L, d) attention output over this part alone.
    log_mass: (B, H, L) float32, log of the sum of its exponentiated scores.
    received: (B, G, N) attention that each of its N entries got from all queries together.
    """

    output: mx.array
    log_mass: mx.array
    received: mx.array


def attend(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> Source:
    """Exact causal attention that also returns its mass.

    queries (B, H, L, d) belong to the last L of the N keys and values (B, G, N, d);
    query i sees the keys 0 .. N - L + i.
    """
    length, total = queries.shape[2], keys.shape[2]
    blocks = []
    for start in range(0, length, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, length)
        seen = total - length + stop
        blocks.append(
            _attend_block(
                queries[:, :, start:stop], keys[:, :, :seen], values[:, :, :seen], scale
            )
        )
    if len(blocks) == 1:
        return blocks[0]
    outputs, masses, received = zip(*blocks)
    return Source(
        mx.concatenate(outputs, axis=2),
        mx.concatenate(masses, axis=2),
        sum(lengthened(part, total) for part in received),
    )


def _attend_block(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> Source:
    """The queries of one block against all keys up to the block's last query."""
    length, total = queries.shape[2], keys.shape[2]
    scores = _scores(queries, keys, scale)
    if length > 1:
        future = mx.arange(total) > mx.arange(total - length, total)[:, None]
        mask = mx.where(future, -mx.inf, 0.0)
        scores = (scores.reshape(*scores.shape[:2], -1, length, total) + mask).reshape(scores.shape)
    return weigh(scores, values, queries.shape)


def weigh(scores: mx.array, values: mx.array, shape: tuple[int, ...]) -> Source:
    """Softmax of float32 scores (B, G, r * L, N) over values (B, G, N, d) -> Source of `shape` (B, H, L, d).

    One exponential serves both the softmax and the mass; the division comes
    after the product with the values, on d instead of N numbers per query, but
    not in float16, which ends at 65,504: a thousand values of 70 are more.
    """
    top = mx.stop_gradient(mx.max(scores, axis=-1, keepdims=True))
    weights = exp(scores - top)
    total = mx.sum(weights, axis=-1, keepdims=True)
    if values.dtype == mx.float16:
        output = (weights / total).astype(values.dtype) @ values
    else:
        output = (weights.astype(values.dtype) @ values) / total.astype(values.dtype)
    received = (1 / total).swapaxes(-1, -2) @ weights
    return Source(
        output.reshape(shape), (top + mx.log(total)).reshape(shape[:3]), mx.stop_gradient(received[:, :, 0])
    )


def attend_to_all(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> Source:
    """Exact attention of queries (B, H, L, d) to keys and values (B, G, N, d) that all of them see."""
    return weigh(_scores(queries, keys, scale), values, queries.shape)


def _scores(queries: mx.array, keys: mx.array, scale: float) -> mx.array:
    """Of queries (B, H, L, d) against keys (B, G, N, d): (B, G, r * L, N)."""
    # float32: half precision would round a score of 50 to a multiple of 0.03, bfloat16 of 0.25.
    queries, keys = queries.astype(mx.float32) * scale, keys.astype(mx.float32)
    return grouped(queries, keys.shape[1]) @ keys.swapaxes(-1, -2)


def joined(first: Source, second: Source, share: mx.array) -> Source:
    """Two sources that share no token, as one that keeps what the entries of the first received.

    share (B, H, L): how much of the output is the second's.
    """
    return first._replace(
        output=mixed(first.output, second.output, share),
        log_mass=mx.logaddexp(first.log_mass, second.log_mass),
    )


def mixed(first: mx.array, second: mx.array, share: mx.array) -> mx.array:
    """Outputs (B, H, L, d), of which the second has a share (B, H, L); in the dtype of the first."""
    return first + share.astype(first.dtype)[..., None] * (second - first)


def lengthened(received: mx.array, total: int) -> mx.array:
    """(B, G, N) -> (B, G, total): later entries received nothing."""
    return mx.pad(received, [(0, 0), (0, 0), (0, total - received.shape[-1])])


def grouped(queries: mx.array, kv_heads: int) -> mx.array:
    """(B, H, L, d) -> (B, G, r * L, d): the queries that share a kv head, side by side."""
    B, H, L, d = queries.shape
    return queries.reshape(B, kv_heads, (H // kv_heads) * L, d)


def in_a_row(batch: mx.array) -> mx.array:
    """(n, H, L, d) -> (1, H, n * L, d): blocks of one text, one behind the other."""
    n, heads, length, size = batch.shape
    return batch.swapaxes(0, 1).reshape(1, heads, n * length, size)


def in_batch(row: mx.array, n: int) -> mx.array:
    """(1, H, n * L, d) -> (n, H, L, d): a text as n blocks of the same length."""
    _, heads, length, size = row.shape
    return row.reshape(heads, n, length // n, size).swapaxes(0, 1)


def log_mass_of(z: mx.array) -> mx.array:
    """log z; of nothing, what no score makes up for."""
    return mx.where(z > 0, mx.log(mx.maximum(z, 1e-30)), -1e9)
