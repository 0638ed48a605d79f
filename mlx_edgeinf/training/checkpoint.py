"""A training run on disk: gates, optimizer, progress and card, so that a stopped run goes on."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from ..adapter import (
    AdapterConfig,
    AdapterError,
    load_weights,
    read_config,
    replace_text,
    save_adapter,
    save_arrays,
)
from ..models import parameter_budget
from .card import write_card

OPTIMIZER, PROGRESS, CARD = "optimizer.safetensors", "training.json", "README.md"


@dataclass
class Progress:
    """What a training run has done so far; saved beside the adapter.

    command, data, documents, length: what it was asked to do. seconds: spent
    training. losses, validation: (iteration, nats per token). earlier: the runs
    that made the gates this one started from.
    """

    command: str
    data: str
    documents: int
    length: int
    iteration: int = 0
    seconds: float = 0.0
    tokens: int = 0
    peak_bytes: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    earlier: list[dict] = field(default_factory=list)


def runs_before(folder: Path | None) -> list[dict]:
    """The runs that made the gates in a folder, the first one first."""
    if folder is None or not (folder / PROGRESS).is_file():
        return []
    last = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return [*last.pop("earlier"), last]


def save(
    model: nn.Module, optimizer: optim.Optimizer, progress: Progress, config: AdapterConfig, folder: Path
) -> None:
    """Write the checkpoint and its card; each file is replaced atomically."""
    save_adapter(model, config, folder)
    save_arrays(folder / OPTIMIZER, dict(tree_flatten(optimizer.state)))
    record = asdict(progress)
    replace_text(folder / PROGRESS, json.dumps(record) + "\n")
    device = "Metal" if mx.metal.is_available() else f"{os.cpu_count()} CPU cores"
    machine = f"{platform.system()} {platform.machine()}, {device}"
    runs = [*record["earlier"], record]
    replace_text(folder / CARD, write_card(config, parameter_budget(model), runs, machine))


def resume(
    model: nn.Module, optimizer: optim.Optimizer, folder: Path, config: AdapterConfig
) -> Progress | None:
    """Continue from the checkpoint in the folder, if there is one for the same configuration.

    Raises:
        AdapterError: the folder holds gates of another configuration, which would be overwritten.
    """
    if not (folder / PROGRESS).is_file():
        return None
    if read_config(folder) != config:
        raise AdapterError(
            f"{folder} holds gates of another configuration. Choose another --adapter-path."
        )
    fields = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    load_weights(model, config, folder)
    optimizer.state = tree_unflatten(list(mx.load(str(folder / OPTIMIZER)).items()))
    return Progress(**fields)
