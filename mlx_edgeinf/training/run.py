"""A training run: one excerpt in each process and one update a step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from ..adapter import AdapterConfig
from .blocks import Block
from .bptt import TrainingDiverged, excerpt_gradients, update, validation_loss
from .checkpoint import Progress, save
from .excerpts import Excerpt, Lessons
from .loss import Objective
from .sharing import shared


@dataclass
class Training:
    """What is trained, on what, how, and how far it is.

    folder: of the adapter. iters: iterations of the whole run. learning_rate: its peak.
    block: how layers are read for their gradients. share: what gates have in common, of
    `sharing.WAYS`.
    """

    model: nn.Module
    optimizer: optim.Optimizer
    lessons: Lessons
    progress: Progress
    config: AdapterConfig
    folder: Path
    iters: int
    learning_rate: float
    objective: Objective
    block: Block
    share: str | None

    def __post_init__(self) -> None:
        self._saved = self.progress.iteration

    @property
    def chief(self) -> bool:
        """Whether this is the process that prints and saves."""
        return mx.distributed.init().rank() == 0

    def validate(self, examples: list[Excerpt]) -> None:
        """Measure the held-out loss, of all processes together."""
        loss = validation_loss(self.model, examples)
        self.progress.validation.append((self.progress.iteration, loss))
        if self.chief:
            print(f"Iter {self.progress.iteration}: Val loss {loss:.4f}", flush=True)

    def save(self) -> None:
        """Have the checkpoint written, by one process for all."""
        if self.chief:
            save(self.model, self.optimizer, self.progress, self.config, self.folder)
        self._saved = self.progress.iteration

    def step(self) -> str:
        """One excerpt in each process, one update, one line of progress.

        Raises:
            TrainingDiverged: before the update, saying what was saved.
        """
        started = time.perf_counter()
        excerpt = self.lessons[self.progress.iteration]
        loss, gradients = excerpt_gradients(self.model, excerpt, self.objective, self.block)
        if self.share:
            gradients = shared(gradients, self.share)
        # Of all processes: what one of them reports, and what all of them stop at.
        total, tokens = mx.distributed.all_sum(mx.array([loss, float(excerpt.size)])).tolist()
        loss, tokens = total / mx.distributed.init().size(), int(tokens)
        try:
            norm = update(self.model, self.optimizer, loss, gradients)
        except TrainingDiverged as error:
            kept = f"{self.folder} keeps iteration {self._saved}" if self._saved else "Nothing was saved yet"
            lower = f"run again with a --learning-rate below {self.learning_rate}"
            raise TrainingDiverged(f"{error} {kept}: {lower}.") from error
        return self._report(loss, norm, tokens, time.perf_counter() - started)

    def _report(self, loss: float, norm: float, tokens: int, seconds: float) -> str:
        progress = self.progress
        progress.iteration += 1
        progress.seconds += seconds
        progress.tokens += tokens
        progress.peak_bytes = max(progress.peak_bytes, mx.get_peak_memory())
        progress.losses.append((progress.iteration, loss))
        left = (self.iters - progress.iteration) * progress.seconds / progress.iteration
        return (
            f"Iter {progress.iteration}: Train loss {loss:.4f}, gradient norm {norm:.3f}, "
            f"{tokens / seconds:.0f} tokens/s, peak memory {progress.peak_bytes / 1e9:.2f} GB, "
            f"{left / 60:.0f} min left"
        )
