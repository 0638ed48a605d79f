"""The whole method once more, in NumPy and float64: one head and one token at a time.

Slow and plain, and it shares no line with the package: what both agree on is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float
) -> tuple[np.ndarray, float, np.ndarray]:
    """Output (d,) of a query (d,) over keys and values (N, d), its log mass, and each key's weight (N,)."""
    weights = np.exp(scale * (k @ q))
    total = weights.sum()
    return weights @ v / total, np.log(total), weights / total


def mix(sources: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (..., d) weighted by the masses whose logarithms (...) come with them; their log sum."""
    masses = np.exp([np.array(log_mass, dtype=float) for _, log_mass in sources])
    outputs = [np.array(output, dtype=float) for output, _ in sources]
    shares = masses / masses.sum(axis=0)
    return (shares[..., None] * outputs).sum(axis=0), np.log(masses.sum(axis=0))


def rotate(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """x (..., d) with its pairs (f, f + d/2) turned by angles (..., d/2)."""
    pairs = np.split(x, 2, axis=-1)
    turned = (pairs[0] + 1j * pairs[1]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


class Memory(Protocol):
    def write(self, k: np.ndarray, v: np.ndarray, received: np.ndarray) -> None: ...

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]: ...


@dataclass
class FeatureMemory:
    """M += phi_k(K)^T V, z += sum phi_k(K); phi_q(q) M / (phi_q(q) . z), for fixed features."""

    phi_k: Callable[[np.ndarray], np.ndarray]
    phi_q: Callable[[np.ndarray], np.ndarray]
    M: np.ndarray | float = 0.0
    z: np.ndarray | float = 0.0

    def write(self, k: np.ndarray, v: np.ndarray, received: np.ndarray) -> None:
        for key, value in zip(k, v):
            self.M = self.M + np.outer(self.phi_k(key), value)
            self.z = self.z + self.phi_k(key)

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]:
        mass = self.phi_q(q) @ self.z
        return self.phi_q(q) @ self.M / mass, np.log(mass)


def elu_plus_one(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def exponentials(x: np.ndarray, scale: float, w: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.exp(np.concatenate([x @ w + c, -x @ w - c]) - scale * x @ x / 2)


@dataclass
class CentroidMemory:
    """Clusters of keys by Lloyd's algorithm in the metric that the expected rotation leaves over.

    The memory of one query head: a token weighs more, the more attention its key received.
    """

    features: int
    omega: np.ndarray
    scale: float
    nearest: float
    farthest: float
    log_scale: np.ndarray
    angle: np.ndarray
    lloyd_steps: int = 2
    centres: np.ndarray = field(init=False)
    means: np.ndarray = field(init=False)
    counts: np.ndarray = field(init=False)
    weights: np.ndarray = field(init=False)

    def __post_init__(self):
        self.centres, self.means = np.zeros((2, self.features, 2 * len(self.omega)))
        self.counts, self.weights = np.zeros((2, self.features))

    def write(self, k: np.ndarray, v: np.ndarray, received: np.ndarray) -> None:
        metric = np.tile(self.attenuation(min(self.counts.sum(), self.farthest) + len(k)), 2)
        asked = received / received.mean() if received.any() else received
        held = self.counts > 0
        points = np.concatenate([self.centres[held], k])
        values = np.concatenate([self.means[held], v])
        counts = np.concatenate([self.counts[held], np.ones(len(k))])
        weights = np.concatenate([self.weights[held], asked**2 + 0.01])
        centres = self.centres.copy()
        for c in np.flatnonzero(~held):
            centres[c] = k[c * len(k) // self.features]
        for _ in range(self.lloyd_steps):
            members = self.members(points, centres, metric)
            for c in range(self.features):
                if np.any(members == c):
                    centres[c] = np.average(points[members == c], axis=0, weights=weights[members == c])
        members = self.members(points, centres, metric)
        for c in range(self.features):
            mine = members == c
            self.counts[c], self.weights[c] = counts[mine].sum(), weights[mine].sum()
            for kept, new in ((self.centres, points), (self.means, values)):
                kept[c] = np.average(new[mine], axis=0, weights=weights[mine]) if mine.any() else 0

    def members(self, points: np.ndarray, centres: np.ndarray, metric: np.ndarray) -> np.ndarray:
        distances = (((points[:, None] - centres) * metric) ** 2).sum(axis=-1)
        return distances.argmin(axis=1)

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]:
        spread = min(self.counts.sum(), self.farthest)
        turned = rotate(self.centres, -(self.nearest + spread / 2) * self.omega)
        expected = turned * np.tile(self.attenuation(spread) * np.exp(self.log_scale), 2)
        masses = self.counts * np.exp(self.scale * (expected @ rotate(q, self.angle)))
        masses *= min(1, self.farthest / self.counts.sum())
        return masses @ self.means / masses.sum(), np.log(masses.sum())

    def attenuation(self, spread: float) -> np.ndarray:
        return np.sinc(self.omega * spread / 2 / np.pi)


@dataclass
class BankMemory(CentroidMemory):
    """All tokens are kept, and averaged over runs of neighbours when the memory is read."""

    def __post_init__(self):
        self.tokens = []

    def write(self, k: np.ndarray, v: np.ndarray, received: np.ndarray) -> None:
        asked = received / received.mean() if received.any() else received
        self.tokens += zip(k, v, asked**2 + 0.01)

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]:
        total, run = len(self.tokens), 1
        while -(-total // run) > self.features:
            run *= 2
        means, scores = [], []
        for start in range(0, total, run):
            keys, values, weights = zip(*self.tokens[start : start + run])
            middle = self.nearest + total - start - len(keys) / 2
            centre = np.average(keys, axis=0, weights=weights)
            expected = rotate(centre, -min(middle, self.farthest) * self.omega)
            expected *= np.tile(self.attenuation(len(keys) - 1) * np.exp(self.log_scale), 2)
            scores.append(np.log(len(keys)) + self.scale * expected @ rotate(q, self.angle))
            means.append(np.average(values, axis=0, weights=weights))
        masses = np.exp(scores) * min(1, self.farthest / total)
        return masses @ means / masses.sum(), np.log(masses.sum())


@dataclass
class RetainedMemory(CentroidMemory):
    """The tokens whose keys weigh most, as they are."""

    def write(self, k: np.ndarray, v: np.ndarray, received: np.ndarray) -> None:
        asked = received / received.mean() if received.any() else received
        held = self.counts > 0
        points = np.concatenate([self.centres[held], k])
        values = np.concatenate([self.means[held], v])
        weights = np.concatenate([self.weights[held], asked**2 + 0.01])
        best = np.argsort(-weights)[: self.features]
        for kept, new in ((self.centres, points), (self.means, values), (self.weights, weights)):
            kept[: len(best)] = new[best]
        self.counts[: len(best)] = 1


def memory_of(memory, h: int) -> Memory:
    """An empty memory with the parameters that one of the package's has for query head h."""
    heads = memory.heads
    if type(memory).__name__ == "LinearMemory":
        return FeatureMemory(elu_plus_one, elu_plus_one)
    kinds = {kind.__name__: kind for kind in (CentroidMemory, BankMemory, RetainedMemory)}
    entries = kinds.get(type(memory).__name__)
    own = h if entries else h * heads.n_kv_heads // heads.n_heads
    p = {name: np.array(value[own], dtype=float) for name, value in memory.parameters().items()}
    if type(memory).__name__ == "ExponentialMemory":
        of_keys, of_queries = ((p[f"{x}_projection"], p[f"{x}_bias"][0]) for x in ("key", "query"))
        return FeatureMemory(
            lambda k: exponentials(k, heads.scale, *of_keys),
            lambda q: exponentials(q, heads.scale, *of_queries) / memory.features,
        )
    omega = np.array(heads.rotation.omega, dtype=float)
    return entries(memory.features, omega, heads.scale, heads.nearest, heads.farthest, **p)


@dataclass
class Gate:
    """logit g = a (log_mass_mem - log_mass_local) + b + u . q, of one head."""

    mass: float
    bias: float
    query: np.ndarray

    def mix(self, q: np.ndarray, memory: tuple, local: tuple) -> np.ndarray:
        logit = self.mass * (memory[1] - local[1]) + self.bias + self.query @ q
        g = 1 / (1 + np.exp(-logit))
        return g * memory[0] + (1 - g) * local[0]


def read_token_by_token(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, layout, omega: np.ndarray, scale: float,
    memories: Sequence[Memory] = (), gates: Sequence[Gate] = (),
) -> np.ndarray:  # fmt: skip
    """What the r query heads of one kv head answer (r, L, d) to queries without position (r, L, d).

    Sinks, window and segment stand at positions 0, 1, 2, ... however long the past. What is folded
    takes along the attention that all r heads gave it since the last fold.
    """
    outputs, exact, received = np.zeros(q.shape), [], np.zeros(len(k))
    for t in range(len(k)):
        if len(exact) == layout.capacity:
            folded = exact[layout.sinks : -layout.window]
            exact = exact[: layout.sinks] + exact[-layout.window :]
            for memory in memories:
                memory.write(k[folded], v[folded], received[folded])
            received[:] = 0
        exact.append(t)
        keys = rotate(k[exact], np.arange(len(exact))[:, None] * omega)
        for h, query in enumerate(q[:, t]):
            output, mass, weights = attend(rotate(query, (len(exact) - 1) * omega), keys, v[exact], scale)
            received[exact] += weights
            if memories and t >= layout.capacity:
                output = gates[h].mix(query, memories[h].read(query), (output, mass))
            outputs[h, t] = output
    return outputs
