"""The memory gate: the only trained part of the model.

EdgeInfinite (arXiv 2503.22196), memory gate:

    A = g * A_mem + (1 - g) * A_local,    g in (0, 1) per query and head.

The paper leaves the gate's form open. Ours starts from the exact answer for
calibrated sources, the mass ratio, and learns a correction to it:

    logit g = a_h * (log_mass_mem - log_mass_local) + b_h + u_h . q

Two lesser forms are kept to be compared with it: without the mass, and b_h alone, the scalar
gate of Infini-attention (arXiv 2404.07143).
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .kinds import KINDS
from .memory import Entries, Heads
from .sources import Source
from .watch import Watch

# The terms of logit g beside b_h, by the form of the gate.
FORMS = {"full": ("mass", "query"), "query": ("query",), "scalar": ()}

# Without the mass the gate starts at a tenth: half open it spoils what the layers above read, and all
# but shut, as at -8, it takes hundreds of steps to open.
WITHOUT_MASS = -2.0
# Log mass below which a memory holds nothing.
EMPTY = -1e8


class MemoryGate(nn.Module):
    """The gate of one attention layer, with the feature maps of its memory.

    mass (H,) a_h: trust in the mass ratio; 1 untrained.
    bias (H,) b_h, and query (H, d) u_h: what the query says beyond it; 0 untrained.
    A form of the gate (a key of FORMS) has no parameters for the terms it leaves out.
    """

    def __init__(self, heads: Heads, kind: str, features: int, form: str = "full"):
        super().__init__()
        self.form = form
        with_mass = "mass" in FORMS[form]
        self.bias = mx.full((heads.queries,), KINDS[kind].initial_bias if with_mass else WITHOUT_MASS)
        if with_mass:
            self.mass = mx.ones((heads.queries,))
        if "query" in FORMS[form]:
            self.query = mx.zeros((heads.queries, heads.size))
        self.memory = KINDS[kind](heads, features)
        self.rotation = heads.rotation

    def __call__(
        self, queries: mx.array, entries: Entries, local: Source, watch: Watch | None = None,
        closed: float = 0.0,
    ) -> mx.array:  # fmt: skip
        """Mix the memory's answer into the local one.

        queries (B, H, L, d) carry no position; entries are the memory's; local is the exact source over
        sinks, window and segment. Returns A (B, H, L, d) in the dtype of `local`. watch: told of g.
        closed: nats that are taken off logit g.
        """
        remembered = self.memory.read(entries, queries)
        opening = self.opening(queries, remembered, local, closed)
        if watch:
            watch.opening(opening)
        opening = opening.astype(local.output.dtype)
        return local.output + opening[..., None] * (remembered.output - local.output)

    def opening(
        self, queries: mx.array, remembered: Source, local: Source, closed: float = 0.0
    ) -> mx.array:
        """g (B, H, L) in float32: how much of the output comes from memory."""
        logit = mx.broadcast_to(self.bias[:, None] - closed, queries.shape[:3])
        if "mass" in self:
            logit = logit + self.mass[:, None] * (remembered.log_mass - local.log_mass)
        if "query" in self:
            logit = logit + (queries.astype(mx.float32) * self.query[:, None]).sum(axis=-1)
        # Where nothing is left in memory, no gate is open, whatever it says without the mass.
        return mx.where(remembered.log_mass > EMPTY, mx.sigmoid(logit), 0)
