"""The whole method once more, in NumPy and float64: one head and one token at a time.

Slow and plain, and it shares no line with the package: what both agree on is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    """Attention output (d,) of a query (d,) over keys and values (N, d), and its log mass."""
    weights = np.exp(scale * (k @ q))
    return weights @ v / weights.sum(), np.log(weights.sum())


def rotate(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """x (..., d) with its pairs (f, f + d/2) turned by angles (..., d/2)."""
    pairs = np.split(x, 2, axis=-1)
    turned = (pairs[0] + 1j * pairs[1]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


class Memory(Protocol):
    def write(self, k: np.ndarray, v: np.ndarray) -> None: ...

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]: ...


@dataclass
class FeatureMemory:
    """M += phi_k(K)^T V, z += sum phi_k(K); phi_q(q) M / (phi_q(q) . z), for fixed features."""

    phi_k: Callable[[np.ndarray], np.ndarray]
    phi_q: Callable[[np.ndarray], np.ndarray]
    M: np.ndarray | float = 0.0
    z: np.ndarray | float = 0.0

    def write(self, k: np.ndarray, v: np.ndarray) -> None:
        for key, value in zip(k, v):
            self.M = self.M + np.outer(self.phi_k(key), value)
            self.z = self.z + self.phi_k(key)

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]:
        mass = self.phi_q(q) @ self.z
        return self.phi_q(q) @ self.M / mass, np.log(mass)


def elu_plus_one(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def exponentials(x: np.ndarray) -> np.ndarray:
    return np.exp(np.concatenate([x, -x]))


@dataclass
class CentroidMemory:
    """Clusters of keys by Lloyd's algorithm in the metric that the expected rotation leaves over."""

    features: int
    omega: np.ndarray
    scale: float
    nearest: float
    farthest: float
    log_scale: np.ndarray
    lloyd_steps: int = 3
    centres: np.ndarray = field(init=False)
    counts: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)

    def __post_init__(self):
        d = 2 * len(self.omega)
        self.centres, self.sums = np.zeros((2, self.features, d))
        self.counts = np.zeros(self.features)

    def write(self, k: np.ndarray, v: np.ndarray) -> None:
        spread = min(self.counts.sum(), self.farthest) + len(k)
        metric = np.tile(self.attenuation(spread), 2)
        points = np.concatenate([self.centres[self.counts > 0], k])
        counts = np.concatenate([self.counts[self.counts > 0], np.ones(len(k))])
        sums = np.concatenate([self.sums[self.counts > 0], v])
        centres = self.centres.copy()
        for c in np.flatnonzero(self.counts == 0):
            centres[c] = k[c * len(k) // self.features]
        for _ in range(self.lloyd_steps):
            members = self.members(points, centres, metric)
            for c in range(self.features):
                if np.any(members == c):
                    centres[c] = np.average(points[members == c], axis=0, weights=counts[members == c])
        members = self.members(points, centres, metric)
        for c in range(self.features):
            mine = members == c
            self.counts[c] = counts[mine].sum()
            self.sums[c] = sums[mine].sum(axis=0)
            self.centres[c] = np.average(points[mine], axis=0, weights=counts[mine]) if mine.any() else 0

    def members(self, points: np.ndarray, centres: np.ndarray, metric: np.ndarray) -> np.ndarray:
        distances = (((points[:, None] - centres) * metric) ** 2).sum(axis=-1)
        return distances.argmin(axis=1)

    def read(self, q: np.ndarray) -> tuple[np.ndarray, float]:
        spread = min(self.counts.sum(), self.farthest)
        turned = rotate(self.centres, -(self.nearest + spread / 2) * self.omega)
        expected = turned * np.tile(self.attenuation(spread) * np.exp(self.log_scale), 2)
        phi = np.exp(self.scale * (expected @ q))
        return phi @ self.sums / (phi @ self.counts), np.log(phi @ self.counts)

    def attenuation(self, spread: float) -> np.ndarray:
        return np.sinc(self.omega * spread / 2 / np.pi)


def memory_of(memory, g: int) -> Memory:
    """An empty memory with the parameters that one of the package's has for kv head g."""
    p = {name: np.array(value[g], dtype=float) for name, value in memory.parameters().items()}
    if type(memory).__name__ == "LinearMemory":
        return FeatureMemory(elu_plus_one, elu_plus_one)
    if type(memory).__name__ == "ExponentialMemory":
        return FeatureMemory(
            lambda k: exponentials(k @ p["key_projection"] + p["key_bias"][0]),
            lambda q: exponentials(q @ p["query_projection"] + p["query_bias"][0]),
        )
    heads = memory._heads
    omega = np.array(heads.rotation.omega, dtype=float)
    return CentroidMemory(memory.features, omega, heads.scale, heads.nearest, heads.farthest, **p)


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
    memory: Memory | None = None, gate: Gate | None = None,
) -> np.ndarray:  # fmt: skip
    """What one head answers (L, d) to queries without position (L, d), and where tokens stand meanwhile.

    Sinks, window and segment stand at positions 0, 1, 2, ... however long the past.
    """
    outputs, exact = [], []
    for t in range(len(q)):
        if len(exact) == layout.capacity:
            folded = exact[layout.sinks : -layout.window]
            exact = exact[: layout.sinks] + exact[-layout.window :]
            if memory:
                memory.write(k[folded], v[folded])
        exact.append(t)
        positions = np.arange(len(exact))[:, None]
        keys = rotate(k[exact], positions * omega)
        local = attend(rotate(q[t], (len(exact) - 1) * omega), keys, v[exact], scale)
        remembers = memory and t >= layout.capacity
        outputs.append(gate.mix(q[t], memory.read(q[t]), local) if remembers else local[0])
    return np.array(outputs)
