"""The compressive memory: write and read, three kinds behind one interface.

EdgeInfinite (arXiv 2503.22196), compression and decompression, per kv head:

    write:  M += phi_k(K)^T V,   z += sum phi_k(K)
    read:   A_mem = phi_q(q) M / (phi_q(q) . z),   log_mass = log(phi_q(q) . z)

The paper does not fix the feature maps phi. The kinds differ in them alone:
`linear` has Infini-attention's ELU + 1 (arXiv 2404.07143), `exponential` learns
them, `centroids` (the default, our own design) adapts them to the keys seen.

A state is a dict of float32 arrays with fixed shapes, so that memory never
grows: M (B, G, m, d), z (B, G, m) and what the kind adds. Keys and queries come
without position (before RoPE). B batch, G kv heads, H query heads, T tokens
written, L queries, d head size, m features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .clusters import closeness, key_weights, member_means, members, run_sums
from .rotation import Rotation
from .sources import Source, grouped, in_a_row, in_batch, log_mass_of, weigh

State = dict[str, mx.array]

# Keys that `without` takes for one: looking for each by itself takes longer than all else in a segment.
TOGETHER = 4


@dataclass(frozen=True)
class Heads:
    """The shape of the attention layer that a memory serves.

    nearest: distance in tokens from a query to the closest token in memory, on average.
    farthest: longest distance the base model was trained on; reads expect no longer one.
    """

    queries: int
    keys: int
    size: int
    scale: float
    rotation: Rotation
    nearest: float
    farthest: float


class Memory(nn.Module):
    """One kind of compressive memory: its feature maps and their trained parameters."""

    def __init__(self, heads: Heads, features: int):
        super().__init__()
        self.features = features
        self._heads = heads

    @staticmethod
    def feature_size(head_size: int) -> int:
        """Numbers that one feature takes in the state of a kv head: a row of M, one of z."""
        return head_size + 1

    def empty(self, batch: int) -> State:
        """The state that holds nothing: all zero."""
        G, m, d = self._heads.keys, self.features, self._heads.size
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

    def read(self, state: State, queries: mx.array) -> Source:
        """Answer queries (B, H, L, d): phi_q(q) M / (phi_q(q) . z) and log(phi_q(q) . z).

        log phi_q + log z are scores over the m features and M / z their values,
        so the read is attention over m entries, in the same stable arithmetic.
        """
        filled = log_mass_of(state["z"])[:, :, None]
        scores = self.log_query_features(state, queries.astype(mx.float32)) + filled
        source = weigh(scores, self._values(state), queries.shape)
        return source._replace(output=source.output.astype(queries.dtype))

    @staticmethod
    def _values(state: State) -> mx.array:
        """M / z, (B, G, m, d)."""
        return state["M"] / mx.maximum(state["z"], 1e-30)[..., None]

    def without(self, state: State, keys: mx.array, values: mx.array, taken: mx.array) -> State:
        """The state of one text less what answers elsewhere, for n blocks of queries: n states.

        Of keys and values (1, G, T, d) those where taken (n, G, T) is 1. With 1e-4 left, all is gone.
        """
        phi, values = self.key_features(keys.astype(mx.float32))[0], values[0].astype(mx.float32)
        z = state["z"] - mx.stack([(each[:, None] @ phi)[:, 0] for each in taken])
        M = state["M"] - mx.stack([(phi * each[..., None]).swapaxes(-1, -2) @ values for each in taken])
        left = z > 1e-4 * state["z"]
        return {"M": mx.where(left[..., None], M, 0), "z": mx.where(left, z, 0)}

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

    def log_query_features(self, state: State, queries: mx.array) -> mx.array:
        """log phi_q: (B, H, L, d) -> (B, G, r * L, m)."""
        raise TypeError(f"{type(self).__name__} has no query features.")


class LinearMemory(Memory):
    """phi_k = phi_q = ELU + 1, m = d: the memory of Infini-attention, kept as the reference."""

    def __init__(self, heads: Heads, features: int):
        super().__init__(heads, heads.size)

    def key_features(self, keys: mx.array) -> mx.array:
        return nn.elu(keys) + 1

    def log_query_features(self, state: State, queries: mx.array) -> mx.array:
        queries = grouped(queries, self._heads.keys)
        # log(ELU(q) + 1), which below zero is q itself: no logarithm of what rounds to nothing.
        return mx.where(queries > 0, mx.log1p(mx.maximum(queries, 0)), queries)


class ExponentialMemory(Memory):
    """phi(x) = exp(+/-(x W + c) - s |x|^2 / 2), W and c learned; the two signs cost no parameters.

    s is the scale of attention: with W drawn from N(0, s), phi_q(q) . phi_k(k) / m is exp(s q . k) on
    average (Performer, arXiv 2009.14794). Without the norm the mass of real keys is out by e^40.
    """

    def __init__(self, heads: Heads, features: int):
        super().__init__(heads, features // 2 * 2)
        shape = (heads.keys, heads.size, features // 2)
        # Random features of the softmax kernel: exp(w . q) exp(w . k) averages to exp(q . k).
        projection = mx.random.normal(shape) * math.sqrt(heads.scale)
        self.key_projection = projection
        self.query_projection = mx.array(projection)
        self.key_bias = mx.zeros((heads.keys, 1, features // 2))
        self.query_bias = mx.zeros((heads.keys, 1, features // 2))

    def key_features(self, keys: mx.array) -> mx.array:
        exponents = _both_signs(keys @ self.key_projection + self.key_bias) - self._norm(keys)
        return mx.exp(mx.clip(exponents, -80, 20))

    def log_query_features(self, state: State, queries: mx.array) -> mx.array:
        queries = grouped(queries, self._heads.keys)
        exponents = _both_signs(queries @ self.query_projection + self.query_bias)
        return exponents - self._norm(queries) - math.log(self.features)

    def _norm(self, x: mx.array) -> mx.array:
        return self._heads.scale / 2 * mx.square(x).sum(axis=-1, keepdims=True)


class CentroidMemory(Memory):
    """m cluster centres per kv head: phi_k = one-hot of the nearest centre, phi_q = exp(q . c).

    So z is the number of the keys at each centre and M / z the average of their
    values: outputs are averages of true values, and the mass is calibrated.
    What queries asked for while it was exact stays sharp: centres and averages
    are weighted by the attention that each key received. A centre has no
    position, so it is read with the rotation expected over the distances of
    everything in memory; what rotation averages away is ignored by the
    clustering too.

    The state adds centres (B, G, m, d) and weight (B, G, m), the sum of their keys' weights.
    log_scale, angle: (H, d/2) trained correction to the length and the angle of the expected
    rotation, for each query head.
    """

    lloyd_steps = 2

    def __init__(self, heads: Heads, features: int):
        super().__init__(heads, features)
        self.log_scale = mx.zeros((heads.queries, heads.size // 2))
        self.angle = mx.zeros((heads.queries, heads.size // 2))

    @staticmethod
    def feature_size(head_size: int) -> int:
        return 2 * head_size + 2

    def empty(self, batch: int) -> State:
        state = super().empty(batch)
        return {**state, "centres": mx.zeros(state["M"].shape), "weight": mx.zeros(state["z"].shape)}

    def write(self, state: State, keys: mx.array, values: mx.array, received: mx.array) -> State:
        """Cluster the present centres and the new keys together, weighted (online k-means)."""
        points = mx.concatenate([state["centres"], keys.astype(mx.float32)], axis=2)
        means = state["M"] / mx.maximum(state["z"], 1)[..., None]
        means = mx.concatenate([means, values.astype(mx.float32)], axis=2)
        counts = mx.concatenate([state["z"], mx.ones(received.shape)], axis=2)[..., None]
        weights = mx.concatenate([state["weight"], key_weights(received)], axis=2)[..., None]
        nearest = self._cluster(state, points, weights)
        z = nearest @ counts
        return {
            "M": member_means(nearest, means, weights) * z,
            "z": z[..., 0],
            "centres": member_means(nearest, points, weights),
            "weight": (nearest @ weights)[..., 0],
        }

    def without(self, state: State, keys: mx.array, values: mx.array, taken: mx.array) -> State:
        """Centres lose the keys that are nearest to them now, TOGETHER neighbours at a time.

        Which centre a key went to is not known any more: centres move, and merge. So a centre may be
        asked for more than it has; all together lose as many as there are, and none is left of all.
        """
        metric, ones = self._metric(state, 0), mx.ones((1, 1, keys.shape[2], 1))
        means = run_sums(keys.astype(mx.float32), TOGETHER) / run_sums(ones, TOGETHER)
        nearest = members(means * metric, state["centres"] * metric)
        lost = nearest @ run_sums(taken.transpose(1, 2, 0)[None], TOGETHER)
        rest = state["z"] - lost[0].transpose(2, 0, 1)
        left, tokens = mx.maximum(rest, 0), mx.maximum(rest.sum(axis=-1, keepdims=True), 0)
        # Averages and centres stay as they are, so n states are one but for this.
        return {**state, "left": left * tokens / mx.maximum(left.sum(axis=-1, keepdims=True), 1e-9)}

    def read(self, state: State, queries: mx.array) -> Source:
        """As `Memory.read`; of what `without` left, for n states at once."""
        if "left" not in state:
            return super().read(state, queries)
        row = in_a_row(queries)
        scores = self.log_query_features(state, row.astype(mx.float32))
        (B, H, L, _), (_, G, _, m) = queries.shape, scores.shape
        left = log_mass_of(state["left"]).swapaxes(0, 1)[:, None, :, None]
        scores = (scores.reshape(G, H // G, B, L, m) + left).reshape(scores.shape)
        source = weigh(scores, self._values(state), row.shape)
        output, log_mass = in_batch(source.output, B), in_batch(source.log_mass[..., None], B)[..., 0]
        return source._replace(output=output.astype(queries.dtype), log_mass=log_mass)

    def held(self, state: State, keys: mx.array) -> mx.array:
        metric = self._metric(state, 0)
        close = closeness(keys.astype(mx.float32) * metric, state["centres"] * metric, state["z"] > 0)
        nearest = mx.argmax(close, axis=-1)
        means = state["M"] / mx.maximum(state["z"], 1)[..., None]
        return mx.take_along_axis(means, nearest[..., None], axis=2)

    def _cluster(self, state: State, points: mx.array, weights: mx.array) -> mx.array:
        """Lloyd's algorithm from the present centres; those still empty start at new keys.

        points (B, G, m + T, d) with weights (B, G, m + T, 1) -> one-hot (B, G, m, m + T).
        """
        keys = points[:, :, self.features :]
        metric = self._metric(state, keys.shape[2])
        seeds = keys[:, :, mx.arange(self.features) * keys.shape[2] // self.features]
        centres = mx.where(state["z"][..., None] > 0, state["centres"], seeds)
        measured = points * metric
        for _ in range(self.lloyd_steps):
            nearest = members(measured, centres * metric)
            taken = (nearest @ weights) > 0
            centres = mx.where(taken, member_means(nearest, points, weights), centres)
        return members(measured, centres * metric)

    def _metric(self, state: State, new: int) -> mx.array:
        """(B, G, 1, d): what the expected rotation will leave of each component."""
        spread = mx.minimum(state["z"].sum(axis=-1), self._heads.farthest) + new
        rotation = self._heads.rotation
        return rotation.expand(rotation.attenuation(spread))[:, :, None]

    def log_query_features(self, state: State, queries: mx.array) -> mx.array:
        rotation = self._heads.rotation
        queries = rotation.turn(queries, self.angle[:, None])
        queries = queries * rotation.expand(self._heads.scale * mx.exp(self.log_scale))[:, None]
        return grouped(queries, self._heads.keys) @ self._expected(state).swapaxes(-1, -2)

    def _expected(self, state: State) -> mx.array:
        """Centres (B, G, m, d) under the rotation expected over the distances of the memory."""
        rotation, past = self._heads.rotation, state["z"].sum(axis=-1)
        spread = mx.minimum(past, self._heads.farthest)
        middle = self._heads.nearest + spread / 2
        turned = rotation.turn(state["centres"], -(middle[..., None] * rotation.omega)[:, :, None])
        return turned * rotation.expand(rotation.attenuation(spread))[:, :, None]


def _both_signs(x: mx.array) -> mx.array:
    return mx.concatenate([x, -x], axis=-1)


KINDS: dict[str, type[Memory]] = {
    "linear": LinearMemory,
    "exponential": ExponentialMemory,
    "centroids": CentroidMemory,
}
