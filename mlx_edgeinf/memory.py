"""The compressive memory: write and read, one interface for all kinds.

EdgeInfinite (arXiv 2503.22196), compression and decompression, per kv head:

    write:  M += phi_k(K)^T V,   z += sum phi_k(K)
    read:   A_mem = phi_q(q) M / (phi_q(q) . z),   log_mass = log(phi_q(q) . z)

`write` makes a state of a state. Whatever of a read is the same for all queries is worked out by
`entries`, and `read` answers queries from that.

The paper does not fix the feature maps phi. The kinds (see `kinds.py`) differ in them alone:
`linear` has Infini-attention's ELU + 1 (arXiv 2404.07143), `exponential` learns
them, `centroids` (the default, our own design) adapts them to the keys seen, and
`bank` to their places in the text; `retained` keeps the tokens that were asked for most.

A state is a dict of float32 arrays with fixed shapes, so that memory never
grows: M (B, G, m, d), z (B, G, m) and what the kind adds. Keys and queries come
without position (before RoPE). B batch, G kv heads, H query heads, T tokens
written, L queries, d head size, m features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from .rotation import Rotation
from .sources import Source, grouped, log_mass_of, weigh

State = dict[str, mx.array]


@dataclass(frozen=True)
class Heads:
    """The shape of the attention layer that a memory serves.

    n_heads, n_kv_heads, head_dim, scale, rotation: of its attention.
    nearest: distance in tokens from a query to the closest token in memory, on average.
    farthest: longest distance the base model was trained on; reads expect no longer one.
    """

    n_heads: int
    n_kv_heads: int
    head_dim: int
    scale: float
    rotation: Rotation
    nearest: float
    farthest: float


class Entries(NamedTuple):
    """A state made ready to be read, as attention over m entries: for all queries up to the next fold.

    M: (B, G, m, d). z: (B, G, m). log_masses: (B, G, m), log z; or (n, G, m) of n states of one text
    that differ in this alone.
    keys: (B, G, m, d); cos, sin: (B or 1, H, 1, d), which turn queries towards them. Of kinds that keep keys.
    """

    M: mx.array
    z: mx.array
    log_masses: mx.array
    keys: mx.array | None = None
    cos: mx.array | None = None
    sin: mx.array | None = None

    @property
    def values(self) -> mx.array:
        """M / z, (B, G, m, d); not held, because it is as large as half a state."""
        return averages(self.M, self.z)

    @property
    def several(self) -> bool:
        """Whether they are of several states of one text."""
        return len(self.log_masses) != len(self.M)


class Memory(nn.Module):
    """One kind of compressive memory: its feature maps and their trained parameters.

    initial_bias: of its gate, which starts all but shut where untrained features answer with noise.
    """

    initial_bias = -8.0

    def __init__(self, heads: Heads, features: int):
        super().__init__()
        self.features = features
        self.heads = heads

    @staticmethod
    def feature_size(head_size: int) -> int:
        """Numbers that one feature takes in the state of a kv head: a row of M, one of z."""
        return head_size + 1

    def empty(self, batch: int) -> State:
        """The state that holds nothing: all zero."""
        G, m, d = self.heads.n_kv_heads, self.features, self.heads.head_dim
        return {"M": mx.zeros((batch, G, m, d)), "z": mx.zeros((batch, G, m))}

    def write(self, state: State, keys: mx.array, values: mx.array, received: mx.array) -> State:
        """Fold keys and values (B, G, T, d) into the state: M += phi_k(K)^T V, z += sum phi_k(K).

        received (B, G, T): attention that each key got while it was exact, up to a common factor.
        """
        phi = self.key_features(keys.astype(mx.float32))
        return {
            "M": state["M"] + phi.swapaxes(-1, -2) @ values.astype(mx.float32),
            "z": state["z"] + phi.sum(axis=-2),
        }

    def read(self, entries: Entries, queries: mx.array) -> Source:
        """Answer queries (B, H, L, d): phi_q(q) M / (phi_q(q) . z) and log(phi_q(q) . z).

        log phi_q + log z are scores over the m features and M / z their values,
        so the read is attention over m entries, in the same stable arithmetic.
        """
        scores = self.log_query_features(entries, queries.astype(mx.float32))
        source = weigh(scores + entries.log_masses[:, :, None], entries.values, queries.shape)
        return source._replace(output=source.output.astype(queries.dtype))

    def entries(self, state: State) -> Entries:
        """What `read` attends to."""
        return Entries(state["M"], state["z"], log_mass_of(state["z"]))

    def without(self, state: State, keys: mx.array, values: mx.array, taken: mx.array) -> Entries:
        """The state of one text less what answers elsewhere, for n blocks of queries: entries of n states.

        Of keys and values (1, G, T, d) those where taken (n, G, T) is 1. With 1e-4 left, all is gone.
        """
        phi, values = self.key_features(keys.astype(mx.float32))[0], values[0].astype(mx.float32)
        z = state["z"] - mx.stack([(each[:, None] @ phi)[:, 0] for each in taken])
        M = state["M"] - mx.stack([(phi * each[..., None]).swapaxes(-1, -2) @ values for each in taken])
        left = z > 1e-4 * state["z"]
        return self.entries({"M": mx.where(left[..., None], M, 0), "z": mx.where(left, z, 0)})

    def held(self, state: State, keys: mx.array) -> mx.array:
        """Values (B, G, T, d) that the state holds where keys (B, G, T, d) would be written; 0 if none.

        phi_k(k) M / (phi_k(k) . z), what Infini-attention's delta rule takes off a value before writing.
        """
        phi = self.key_features(keys.astype(mx.float32))
        mass = (phi * state["z"][:, :, None]).sum(axis=-1, keepdims=True)
        return phi @ state["M"] / mx.maximum(mass, 1e-30)

    def key_features(self, keys: mx.array) -> mx.array:
        """phi_k: (B, G, T, d) -> (B, G, T, m), positive."""
        raise TypeError(f"{type(self).__name__} has no fixed key features.")

    def log_query_features(self, entries: Entries, queries: mx.array) -> mx.array:
        """log phi_q: (B, H, L, d) -> (B, G, r * L, m)."""
        raise TypeError(f"{type(self).__name__} has no query features.")


class LinearMemory(Memory):
    """phi_k = phi_q = ELU + 1, m = d: the memory of Infini-attention, kept as the reference."""

    def __init__(self, heads: Heads, features: int):
        super().__init__(heads, heads.head_dim)

    def key_features(self, keys: mx.array) -> mx.array:
        return nn.elu(keys) + 1

    def log_query_features(self, entries: Entries, queries: mx.array) -> mx.array:
        queries = grouped(queries, self.heads.n_kv_heads)
        # log(ELU(q) + 1), which below zero is q itself: no logarithm of what rounds to nothing.
        return mx.where(queries > 0, mx.log1p(mx.maximum(queries, 0)), queries)


class ExponentialMemory(Memory):
    """phi(x) = exp(+/-(x W + c) - s |x|^2 / 2), W and c learned; the two signs cost no parameters.

    s is the scale of attention: with W drawn from N(0, s), phi_q(q) . phi_k(k) / m is exp(s q . k) on
    average (Performer, arXiv 2009.14794). Without the norm the mass of real keys is out by e^40.
    """

    def __init__(self, heads: Heads, features: int):
        super().__init__(heads, features // 2 * 2)
        shape = (heads.n_kv_heads, heads.head_dim, features // 2)
        # Random features of the softmax kernel: exp(w . q) exp(w . k) averages to exp(q . k).
        projection = mx.random.normal(shape) * math.sqrt(heads.scale)
        self.key_projection = projection
        self.query_projection = mx.array(projection)
        self.key_bias = mx.zeros((heads.n_kv_heads, 1, features // 2))
        self.query_bias = mx.zeros((heads.n_kv_heads, 1, features // 2))

    def key_features(self, keys: mx.array) -> mx.array:
        exponents = _both_signs(keys @ self.key_projection + self.key_bias) - self._norm(keys)
        return mx.exp(mx.clip(exponents, -80, 20))

    def log_query_features(self, entries: Entries, queries: mx.array) -> mx.array:
        queries = grouped(queries, self.heads.n_kv_heads)
        exponents = _both_signs(queries @ self.query_projection + self.query_bias)
        return exponents - self._norm(queries) - math.log(self.features)

    def _norm(self, x: mx.array) -> mx.array:
        return self.heads.scale / 2 * mx.square(x).sum(axis=-1, keepdims=True)


def averages(M: mx.array, z: mx.array) -> mx.array:
    """M / z, (B, G, m, d); 0 for a feature that holds nothing."""
    return M / mx.maximum(z, 1e-30)[..., None]


def _both_signs(x: mx.array) -> mx.array:
    return mx.concatenate([x, -x], axis=-1)
