"""Whether a model fits into this machine's memory, said in words."""

from __future__ import annotations

import os
import sys
from enum import Enum

from .shape import Shape

# Of MLX on Metal; on the CPU weights are made float32 and so is the cache (`models.to_float32`).
ON_METAL = sys.platform == "darwin"
# A KV cache on the base path takes this at most (`basemodel.EXACT_BUDGET`), and a memory less.
MOST_STATE = 1 << 30
# Python, the page and the libraries: what the program takes before there is a model, rounded up.
PROGRAM = 600e6
# What a segment of 512 tokens needs on its way through the widest layer. The starter model, of a width
# of 576, was measured at 0.17 GB; what is largest in it grows with the width.
WORK_PER_WIDTH = 0.17e9 / 576
# Shares of the machine's memory: other programs need some, and macOS lends the GPU three quarters.
COMFORTABLE, MOST = 0.5, 0.75


class Fit(Enum):
    """How a model goes with this machine."""

    FITS = "fits"
    TIGHT = "tight"
    TOO_LARGE = "too large for this machine"


def memory_need(shape: Shape, weight_bytes: int, on_metal: bool = ON_METAL) -> int:
    """Bytes at most while a document is read or asked about: weights, state, one segment's work, program.

    weight_bytes: of the weights on disk.
    """
    weights, number = (weight_bytes, 2) if on_metal else (4 * shape.parameters, 4)
    state = min(shape.context * shape.kv_width * number, MOST_STATE)
    return round(weights + state + WORK_PER_WIDTH * shape.width + PROGRAM)


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fit(need: int, memory: int | None = None) -> Fit:
    """How a need in bytes goes with `memory`, this machine's if not given."""
    memory = machine_memory() if memory is None else memory
    if need <= COMFORTABLE * memory:
        return Fit.FITS
    return Fit.TIGHT if need <= MOST * memory else Fit.TOO_LARGE
