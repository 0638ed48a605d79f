"""The kinds of compressive memory, by the name that a configuration gives them."""

from __future__ import annotations

from .centroids import BankMemory, CentroidMemory
from .memory import ExponentialMemory, LinearMemory, Memory
from .retained import RetainedMemory

KINDS: dict[str, type[Memory]] = {
    "linear": LinearMemory,
    "exponential": ExponentialMemory,
    "centroids": CentroidMemory,
    "bank": BankMemory,
    "retained": RetainedMemory,
}
