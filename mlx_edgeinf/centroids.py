"""Memories whose feature maps follow the text: clusters of like keys, and runs of neighbours.

Both are read as attention over m entries, each an average of tokens with their number as its mass.
B batch, G kv heads, H query heads, m features, T tokens written, L queries, d head size.
"""

from __future__ import annotations

import mlx.core as mx

from .clusters import closeness, key_weights, member_means, members, run_sums
from .memory import Entries, Heads, Memory, State, averages
from .sources import Source, grouped, in_a_row, in_batch, log_mass_of, weigh

# Keys that `without` takes for one: looking for each by itself takes longer than all else in a segment.
AS_ONE = 4
# Of the length of a bank's runs: enough for more tokens than float32 counts.
MOST_DOUBLINGS = 24


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
    initial_bias = 0.0

    def __init__(self, heads: Heads, features: int):
        super().__init__(heads, features)
        self.log_scale = mx.zeros((heads.n_heads, heads.head_dim // 2))
        self.angle = mx.zeros((heads.n_heads, heads.head_dim // 2))

    @staticmethod
    def feature_size(head_size: int) -> int:
        return 2 * head_size + 2

    def empty(self, batch: int) -> State:
        state = super().empty(batch)
        return {**state, "centres": mx.zeros(state["M"].shape), "weight": mx.zeros(state["z"].shape)}

    def write(self, state: State, keys: mx.array, values: mx.array, received: mx.array) -> State:
        """Cluster the present centres and the new keys together, weighted (online k-means).

        Tried on two novels (next-token loss of tokens 1,024 to 4,095): nearness of values as well, half as
        important as that of keys: 3.210 nats instead of 3.212, untrained 3.257 instead of 3.256, at twice the
        work. Entries that know the deviation of their keys too, as the index of pages does, 335 of them in
        the same bytes: 3.707, untrained 3.944. So many keys of a cluster are from no normal distribution.
        At every fold up to 128 of the new keys, those farthest from all centres, made centres of their own in
        place of the ones that cost least to merge with another: better, and not done yet. The same gates lost
        3.3989 nats at tokens 1,024 to 8,191 of six novels instead of 3.4024, less in each, at a tenth more
        work; but behind 30,000 tokens of one as much as before, 3.308 and 3.309.

        Nothing fades with time. With states that held 16,384 tokens at most, what came first fading, people's
        answers about stories read 27,000 to 48,000 tokens ago gained 0.078 nats a token by the memory instead
        of 0.102, those about stories of the last 15,000 tokens 0.111 instead of 0.086, and those about
        stories that were not read 0.063 both times: the same memory, spent on the end of a document.
        """
        points = mx.concatenate([state["centres"], keys.astype(mx.float32)], axis=2)
        means = mx.concatenate([averages(state["M"], state["z"]), values.astype(mx.float32)], axis=2)
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

    def without(self, state: State, keys: mx.array, values: mx.array, taken: mx.array) -> Entries:
        """Centres lose the keys that are nearest to them now, AS_ONE neighbours at a time.

        Which centre a key went to is not known any more: centres move, and merge. So a centre may be
        asked for more than it has; all together lose as many as there are, and none is left of all.
        """
        metric, ones = self._metric(state, 0), mx.ones((1, 1, keys.shape[2], 1))
        means = run_sums(keys.astype(mx.float32), AS_ONE) / run_sums(ones, AS_ONE)
        nearest = members(means * metric, state["centres"] * metric)
        lost = nearest @ run_sums(taken.transpose(1, 2, 0)[None], AS_ONE)
        rest = state["z"] - lost[0].transpose(2, 0, 1)
        left, tokens = mx.maximum(rest, 0), mx.maximum(rest.sum(axis=-1, keepdims=True), 0)
        left = left * tokens / mx.maximum(left.sum(axis=-1, keepdims=True), 1e-9)
        # Averages and centres stay as they are, so n states are one but for this.
        return self.entries(state)._replace(log_masses=self._log_masses(state, left))

    def read(self, entries: Entries, queries: mx.array) -> Source:
        """As `Memory.read`; of what `without` left, for n states at once."""
        if not entries.several:
            return super().read(entries, queries)
        row = in_a_row(queries)
        scores = self.log_query_features(entries, row.astype(mx.float32))
        (n, H, L, _), (_, G, _, m) = queries.shape, scores.shape
        left = entries.log_masses.swapaxes(0, 1)[:, None, :, None]
        scores = (scores.reshape(G, H // G, n, L, m) + left).reshape(scores.shape)
        source = weigh(scores, entries.values, row.shape)
        output, log_mass = in_batch(source.output, n), in_batch(source.log_mass[..., None], n)[..., 0]
        return source._replace(output=output.astype(queries.dtype), log_mass=log_mass)

    def entries(self, state: State) -> Entries:
        """Averages of values and of keys, and the rotation of queries towards these.

        The same rotation for all centres of a kv head: so the queries are turned, which are fewer.
        """
        angle, length = self._expected(state)
        angle, length = self.angle + angle, self.heads.scale * mx.exp(self.log_scale) * length
        turns = (length * mx.cos(angle), length * mx.sin(angle))
        cos, sin = (self.heads.rotation.expand(turn)[:, :, None] for turn in turns)
        log_masses = self._log_masses(state, state["z"])
        return Entries(state["M"], state["z"], log_masses, self._placed(state), cos, sin)

    def _expected(self, state: State) -> tuple[mx.array, mx.array]:
        """Angle and length (B, H, d/2) of the rotation expected over the distances of the memory."""
        heads, rotation = self.heads, self.heads.rotation
        spread = mx.minimum(state["z"].sum(axis=-1), heads.farthest)
        middle = (heads.nearest + spread / 2)[..., None] * rotation.omega
        return tuple(mx.repeat(each, heads.n_heads // heads.n_kv_heads, axis=1)
                     for each in (middle, rotation.attenuation(spread)))  # fmt: skip

    def _placed(self, state: State) -> mx.array:
        """Keys of the entries (B, G, m, d)."""
        return state["centres"]

    def _log_masses(self, state: State, z: mx.array) -> mx.array:
        """log z, less where the state has more tokens than the base model was trained on: as if of so many.

        No head ever shared its attention among more, and a long past would drown what recall brings back:
        single facts among a million tokens got -1.27 nats a token without this, and -0.62 with it. For
        running text it hardly matters: 2,048 tokens of two novels lost 3.259 and 3.255 nats behind 63k
        others, 3.379 and 3.386 behind 129k.
        """
        tokens = state["z"].sum(axis=-1, keepdims=True)
        return log_mass_of(z) - mx.log(mx.maximum(tokens / self.heads.farthest, 1))

    def held(self, state: State, keys: mx.array) -> mx.array:
        metric = self._metric(state, 0)
        close = closeness(keys.astype(mx.float32) * metric, state["centres"] * metric, state["z"] > 0)
        nearest = mx.argmax(close, axis=-1)
        return mx.take_along_axis(averages(state["M"], state["z"]), nearest[..., None], axis=2)

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
        spread = mx.minimum(state["z"].sum(axis=-1), self.heads.farthest) + new
        rotation = self.heads.rotation
        return rotation.expand(rotation.attenuation(spread))[:, :, None]

    def log_query_features(self, entries: Entries, queries: mx.array) -> mx.array:
        """Scores of the entries' keys for queries that are turned towards them."""
        across = self.heads.rotation.across(queries)
        turned = queries * entries.cos + across * entries.sin
        return grouped(turned, self.heads.n_kv_heads) @ entries.keys.swapaxes(-1, -2)


class BankMemory(CentroidMemory):
    """m runs of neighbours per kv head: a bank of pooled summaries of the text, in its order.

    After the memory bank of the Augmented Memory Transformer (arXiv 2005.08042), a summary of each segment,
    here made constant in size: when the bank is full, neighbours are pooled and runs are twice as long. An
    entry is the mean of its run, weighted as in clusters, and is read at the distance of the run's middle.

    `held` and `without` find a token by its key, as in clusters: where it stood they are not told.
    """

    def _cluster(self, state: State, points: mx.array, weights: mx.array) -> mx.array:
        """One-hot (B, G, m, m + T): runs of 2^n tokens, the least n for which m of them are enough."""
        z, new = state["z"], points.shape[2] - self.features
        past = z.sum(axis=-1, keepdims=True)
        starts = mx.concatenate([mx.cumsum(z, axis=-1) - z, past + mx.arange(new)], axis=-1)
        # By comparison: what a logarithm rounds down would have no place.
        lengths = 2.0 ** mx.arange(MOST_DOUBLINGS)
        doublings = (past + new > self.features * lengths).sum(axis=-1, keepdims=True)
        run = mx.floor(starts / 2.0**doublings)
        return (run[:, :, None] == mx.arange(self.features)[:, None]).astype(mx.float32)

    def _expected(self, state: State) -> tuple[mx.array, mx.array]:
        """No common rotation, angle 0 and length 1: each entry is placed at its own distance."""
        nothing = mx.zeros((1, *self.angle.shape))
        return nothing, nothing + 1

    def _placed(self, state: State) -> mx.array:
        """Keys (B, G, m, d) as seen from where the next tokens stand."""
        rotation, ends = self.heads.rotation, mx.cumsum(state["z"], axis=-1)
        away = self.heads.nearest + ends[..., -1:] - ends + state["z"] / 2
        away = mx.minimum(away, self.heads.farthest)
        turned = rotation.turn(state["centres"], -away[..., None] * rotation.omega)
        return turned * rotation.expand(rotation.attenuation(state["z"] - 1))
