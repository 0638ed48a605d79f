"""Gates: the only trained part of the model.

EdgeInfinite (arXiv 2503.22196), memory gate:

    A = g * A_mem + (1 - g) * A_local,    g in (0, 1) per query and head.

The paper leaves the gate's form open. Ours starts from the exact answer for
calibrated sources, the mass ratio, and learns a correction to it:

    logit g = a_h * (log_mass_mem - log_mass_local) + b_h + u_h . q

A gate of the same form mixes in what exact recall brings back throughout running text, before the memory
does. Where a document that was read is asked (`cache.forked`) what comes back has its share by its mass: what
serves the next word of a book is not what serves an answer.
Two lesser forms are kept to be compared with it: without the mass, and b_h alone, the scalar
gate of Infini-attention (arXiv 2404.07143).
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .kinds import KINDS
from .memory import Entries, Heads
from .sources import Source, joined, mixed
from .watch import Watch

# The terms of logit g beside b_h, by the form of the gate.
FORMS = {"full": ("mass", "query"), "query": ("query",), "scalar": ()}

# Without the mass the gate starts at a tenth: half open it spoils what the layers above read, and all
# but shut, as at -8, it takes hundreds of steps to open.
WITHOUT_MASS = -2.0
# Log mass below which a memory holds nothing.
EMPTY = -1e8


class Gate(nn.Module):
    """How far another source is let into the exact one; of one attention layer.

    mass (H,) a_h: trust in the mass ratio.
    bias (H,) b_h, and query (H, d) u_h: what the query says beyond it; 0 untrained.
    A form of the gate (a key of FORMS) has no parameters for the terms it leaves out.
    """

    def __init__(self, heads: Heads, form: str = "full", bias: float = 0.0):
        super().__init__()
        self.form = form
        self.bias = mx.full((heads.n_heads,), bias)
        if "mass" in FORMS[form]:
            self.mass = mx.ones(heads.n_heads)
        if "query" in FORMS[form]:
            self.query = mx.zeros((heads.n_heads, heads.head_dim))

    def logit(self, queries: mx.array, other: Source, local: Source) -> mx.array:
        """logit g, (B, H, L) in float32; queries (B, H, L, d) carry no position."""
        logit = mx.broadcast_to(self.bias[:, None], queries.shape[:3])
        if "mass" in self:
            logit = logit + self.mass[:, None] * (other.log_mass - local.log_mass)
        if "query" in self:
            logit = logit + (queries.astype(mx.float32) * self.query[:, None]).sum(axis=-1)
        return logit


def opened(logit: mx.array, other: Source) -> mx.array:
    """g (B, H, L): how much of the output comes from the other source."""
    # To a memory that holds nothing no gate is open, whatever it says without the mass.
    return mx.where(other.log_mass > EMPTY, mx.sigmoid(logit), 0)


class MemoryGate(Gate):
    """The gate of one attention layer's memory, with the feature maps of that memory."""

    def __init__(self, heads: Heads, kind: str, features: int, form: str = "full"):
        super().__init__(heads, form, KINDS[kind].initial_bias if "mass" in FORMS[form] else WITHOUT_MASS)
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
        opening = opened(self.logit(queries, remembered, local) - closed, remembered)
        if watch:
            watch.opening(opening)
        return mixed(local.output, remembered.output, opening)


class RecallGate(Gate):
    """The gate of what comes back from disk: exact tokens as well, so untrained their mass alone decides.

    Trained, it makes up for what the model never learned: what comes back are the few tokens that a
    query would most attend to, standing where they did not stand.
    """

    def __call__(self, queries: mx.array, recalled: Source, local: Source) -> Source:
        """Both as one source, with the mass of all their tokens; queries (B, H, L, d) carry no position."""
        return joined(local, recalled, opened(self.logit(queries, recalled, local), recalled))


def by_mass(recalled: Source, local: Source) -> Source:
    """The same with no gate: each has the share that exact attention over all of their tokens gives it."""
    return joined(local, recalled, opened(recalled.log_mass - local.log_mass, recalled))
