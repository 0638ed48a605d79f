"""The memory gate: the only trained part of the model.

EdgeInfinite (arXiv 2503.22196), memory gate:

    A = g * A_mem + (1 - g) * A_local,    g in (0, 1) per query and head.

The paper leaves the gate's form open. Ours starts from the exact answer for
calibrated sources, the mass ratio, and learns a correction to it:

    logit g = a_h * (log_mass_mem - log_mass_local) + b_h + u_h . q
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .memory import KINDS, Heads, State
from .sources import Source

# Features that are not trained yet answer with noise: their gate starts all but shut.
INITIAL_BIAS = {"centroids": 0.0, "exponential": -8.0, "linear": -8.0}


class MemoryGate(nn.Module):
    """The gate of one attention layer, with the feature maps of its memory.

    mass (H,) a_h: trust in the mass ratio; 1 untrained.
    bias (H,) b_h, and query (H, d) u_h: what the query says beyond it; 0 untrained.
    """

    def __init__(self, heads: Heads, kind: str, features: int):
        super().__init__()
        self.mass = mx.ones((heads.queries,))
        self.bias = mx.full((heads.queries,), INITIAL_BIAS[kind])
        self.query = mx.zeros((heads.queries, heads.size))
        self.memory = KINDS[kind](heads, features)
        self.rotation = heads.rotation

    def __call__(self, queries: mx.array, state: State, local: Source) -> mx.array:
        """Mix the memory's answer into the local one.

        queries (B, H, L, d) carry no position; local is the exact source over
        sinks, window and segment. Returns A (B, H, L, d) in the dtype of `local`.
        """
        memory = self.memory.read(state, queries)
        opening = self.opening(queries, memory, local).astype(local.output.dtype)
        return local.output + opening[..., None] * (memory.output - local.output)

    def opening(self, queries: mx.array, memory: Source, local: Source) -> mx.array:
        """g (B, H, L) in float32: how much of the output comes from memory."""
        ratio = memory.log_mass - local.log_mass
        asked = (queries.astype(mx.float32) * self.query[:, None]).sum(axis=-1)
        return mx.sigmoid(self.mass[:, None] * ratio + self.bias[:, None] + asked)
