"""A question put to a fork of a reading, and how likely the right answer is behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..cache import EdgeCache, forked
from ..generation import read_on
from ..training.loss import cross_entropy
from ..training.recalling import check_recall, forget_pages
from .gap import OFF, WINDOW


class Predicted(NamedTuple):
    """Of an answer's tokens: nats per token, and whether each of them is the likeliest."""

    log_probability: float
    exact: bool


@dataclass(frozen=True)
class Asked:
    """A question that was read into a fork, but for its last token."""

    model: nn.Module
    last: int
    cache: list[EdgeCache]

    def predicted(self, answer: list[int]) -> Predicted:
        """How likely the tokens of an answer are.

        Raises:
            StoreError: recall failed.
        """
        inputs, targets = mx.array([self.last, *answer[:-1]]), mx.array(answer)
        fork = forked(self.cache, causal=True)
        logits = self.model(inputs[None], cache=fork)[0]
        mean_loss, exact = cross_entropy(logits, targets).mean(), (logits.argmax(axis=-1) == targets).all()
        mx.eval(mean_loss, exact)
        check_recall(fork)
        return Predicted(-mean_loss.item(), exact.item())


def ask(model: nn.Module, prompt: list[int], cache: list[EdgeCache], named: np.ndarray | None) -> Asked:
    """Put a question to a fork; named: pages on disk that come back for it first (see `forked`)."""
    *before, last = prompt
    fork = forked(cache, named=named)
    read_on(model, mx.array(before), fork)
    return Asked(model, last, fork)


def fork_of(cache: list[EdgeCache], row: str) -> list[EdgeCache]:
    """A fork of a reading with pages, as a row has it: those without recall have forgotten the pages."""
    fork = forked(cache)
    if row in (OFF, WINDOW):
        forget_pages(fork)
    return fork
