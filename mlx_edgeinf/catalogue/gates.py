"""Gates trained for a model, by the run that `python -m mlx_edgeinf.finetune` makes.

Everything MLX happens on a thread of its own here, which ends with the training: no other model
is in memory meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import mlx.core as mx

from ..beside import GATES, trained_on
from ..finetune import FAILURES, parse, prepare
from ..worker import MLXThread
from .lessons import ITERATIONS, LENGTH, Textbook
from .refusal import ModelRefused
from .shape import Shape

SAVE_EVERY = 4
# Multiplications and additions that a token takes: forwards twice, as layers are recomputed, and backwards.
WORK_PER_PARAMETER = 6
# Of the speed of large matrix products. The starter model's gates were trained at 85 tokens a second on
# two cores, so at 69 GFLOP/s, where such products reach 160 to 215.
SHARE_OF_PEAK = 1 / 3
MATRIX = 1024


@dataclass(frozen=True)
class Lesson:
    """Where a training stands. loss: nats per token; seconds_left: measured from the steps so far."""

    step: int
    loss: float
    seconds_left: float


def train_gates(model: Path, textbook: Textbook, note: Callable[[Lesson], None], stop: Event) -> bool:
    """Train gates into the folder `gates` beside a model, or train those there on; whether to the end.

    Stopped, it keeps the checkpoint of its last step, from which the next call goes on.

    Raises:
        ModelRefused: the texts, the model or a checkpoint cannot be used, or the training diverged.
    """
    with MLXThread() as thread:
        try:
            return thread.submit(_train, model, textbook, note, stop).result()
        except FAILURES as error:
            raise ModelRefused(f"The gates could not be trained: {error}") from error


def _train(model: Path, textbook: Textbook, note: Callable[[Lesson], None], stop: Event) -> bool:
    options = parse([
        "--train", "--model", str(model), "--data", textbook.source, "--adapter-path", str(model / GATES),
        "--iters", str(ITERATIONS), "--max-seq-length", str(LENGTH), "--val-batches", "0",
        "--grad-checkpoint",
    ])  # fmt: skip
    begun_on = trained_on(model / GATES)
    if begun_on not in (None, textbook.source):
        raise ModelRefused(
            f"The gates of this model were begun on other texts ({begun_on}): train on with those, or delete "
            f"{model / GATES} to begin anew."
        )
    training, _, _ = prepare(options, textbook.texts)
    progress = training.progress
    while progress.iteration < ITERATIONS and not stop.is_set():
        training.step()
        if progress.iteration % SAVE_EVERY == 0:
            training.save()
        left = (ITERATIONS - progress.iteration) * progress.seconds / progress.iteration
        note(Lesson(progress.iteration, progress.losses[-1][1], left))
    if progress.iteration % SAVE_EVERY:
        training.save()
    return progress.iteration == ITERATIONS


def rough_seconds(shape: Shape) -> float:
    """How long a training may take, before its first step: from the speed of one matrix product here."""
    with MLXThread() as thread:
        speed = SHARE_OF_PEAK * thread.submit(_operations_per_second).result()
    # A multiplication and an addition for each parameter.
    return ITERATIONS * LENGTH * WORK_PER_PARAMETER * shape.parameters / speed


def _operations_per_second() -> float:
    matrix = mx.ones((MATRIX, MATRIX))
    mx.eval(matrix @ matrix)
    started = time.perf_counter()
    mx.eval(matrix @ matrix)
    return 2 * MATRIX**3 / (time.perf_counter() - started)
