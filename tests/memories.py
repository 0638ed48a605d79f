"""Memories with tokens in them, for tests."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.memory import Heads, Memory, State
from mlx_edgeinf.rotation import Rotation
from mlx_edgeinf.sources import Source

B, H, G, D, M, T = 2, 4, 2, 8, 5, 12
OMEGA = 100.0 ** (-np.arange(0, D, 2) / D)


def heads(omega: np.ndarray = OMEGA, farthest: float = 1e4) -> Heads:
    rotation = Rotation(mx.array(omega, dtype=mx.float32), False)
    return Heads(H, G, D, D**-0.5, rotation, nearest=12.0, farthest=farthest)


def normal(seed: int, *shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def trained(kind: str, features: int = M, **shape) -> Memory:
    """A memory whose parameters are as random as training could leave them."""
    mx.random.seed(0)
    memory = KINDS[kind](heads(**shape), features)
    for name, parameter in memory.parameters().items():
        memory[name] = parameter + 0.3 * mx.random.normal(parameter.shape)
    return memory


def written(
    memory: Memory, keys: mx.array, values: mx.array, received: mx.array | None = None, folds: int = 3
) -> dict:
    """The state after keys and values were folded in so many parts of one length; equals if not told."""
    received = mx.ones(keys.shape[:3]) if received is None else received
    state = memory.empty(keys.shape[0])
    for part in zip(*(mx.split(whole, folds, axis=2) for whole in (keys, values, received))):
        state = memory.write(state, *part)
    return state


def answered(memory: Memory, state: State, queries: mx.array) -> Source:
    return memory.read(memory.entries(state), queries)


@pytest.fixture
def keys() -> mx.array:
    return normal(1, B, G, 3 * T, D)


@pytest.fixture
def values() -> mx.array:
    return normal(2, B, G, 3 * T, D)


@pytest.fixture
def received() -> mx.array:
    """Some keys get a hundred times as much as others."""
    return mx.exp(normal(4, B, G, 3 * T))


@pytest.fixture
def queries() -> mx.array:
    return normal(3, B, H, 4, D)
