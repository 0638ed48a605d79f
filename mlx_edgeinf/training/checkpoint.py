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
    gate_parameters,
    load_arrays,
    read_config,
    recall_parameters,
    save_adapter,
    save_arrays,
    trained_recall,
)
from ..atomic import replace_text
from ..beside import CONFIG, PROGRESS
from ..models import parameter_budget
from .card import write_card
from .sharing import independent

CHECKPOINT, CARD = "checkpoint.safetensors", "README.md"
OPTIMIZER = "optimizer."  # begins the names of its arrays in the checkpoint


@dataclass
class Progress:
    """What a training run has done so far; saved beside the adapter.

    command, data, documents, length, counted, share: what it was asked to do; if it went on to another
    end or at another rate, each command on a line of its own. seconds: spent training. losses,
    validation: (iteration, nats per token). earlier: the runs that made the gates this one started from.
    """

    command: str
    data: str
    documents: int
    length: int
    counted: int | None = None
    share: str | None = None
    iteration: int = 0
    seconds: float = 0.0
    tokens: int = 0
    peak_bytes: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    earlier: list[dict] = field(default_factory=list)


def trained_share(model: nn.Module, share: str | None, gates: dict[str, mx.array] | None = None) -> float:
    """Numbers that are trained, as a share of the base model's parameters.

    share: see `sharing.WAYS`. gates: their parameters by path; those that are trained now if not given.
    """
    gates = dict(tree_flatten(model.trainable_parameters())) if gates is None else gates
    every = sum(value.size for value in gates.values())
    return parameter_budget(model, gates) * independent(gates, share) / every


def trains_memory(run: dict) -> bool:
    """Whether a run, by the fields of its `Progress`, trained the memory's gates, not those of recall."""
    return "--recall" not in run["command"].split()


def runs_before(folder: Path | None) -> list[dict]:
    """The runs that made the gates in a folder, the first one first.

    Raises:
        AdapterError: their record is damaged.
    """
    if folder is None or not (folder / PROGRESS).is_file():
        return []
    try:
        last = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        return [*last.pop("earlier"), last]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{folder / PROGRESS} is damaged: delete it to go on without it.") from error


def save(
    model: nn.Module, optimizer: optim.Optimizer, progress: Progress, config: AdapterConfig, folder: Path
) -> None:
    """Write the checkpoint, all of it in one file, and from it the adapter and its card.

    Each file is replaced atomically.
    """
    record, state = asdict(progress), tree_flatten(optimizer.state)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = gate_parameters(model) | recall_parameters(model)
    arrays |= {f"{OPTIMIZER}{path}": value for path, value in state}
    save_arrays(folder / CHECKPOINT, arrays, {"progress": json.dumps(record)})
    save_adapter(model, config, folder)
    replace_text(folder / PROGRESS, json.dumps(record) + "\n")
    device = "Metal" if mx.metal.is_available() else f"{os.cpu_count()} CPU cores"
    machine = f"{platform.system()} {platform.machine()}, {device}"
    runs = [*record["earlier"], record]
    share = trained_share(model, progress.share, gate_parameters(model) | trained_recall(model))
    replace_text(folder / CARD, write_card(config, share, runs, machine))


def resume(
    model: nn.Module, optimizer: optim.Optimizer, folder: Path, config: AdapterConfig
) -> Progress | None:
    """Continue from the checkpoint in the folder, if there is one for the same configuration.

    Raises:
        AdapterError: the folder holds other gates, which would be overwritten, or the checkpoint is damaged.
    """
    if not (folder / CONFIG).is_file():
        return None
    if read_config(folder) != config:
        raise AdapterError(
            f"{folder} holds gates of another configuration. Choose another --adapter-path."
        )
    if not (folder / CHECKPOINT).is_file():
        raise AdapterError(
            f"{folder} holds gates, but not the checkpoint of their training: go on from them with "
            "--resume-adapter-file, into another --adapter-path."
        )
    arrays, metadata = load_arrays(folder / CHECKPOINT)
    state = {path: value for path, value in arrays.items() if path.startswith(OPTIMIZER)}
    model.update(tree_unflatten([(path, value) for path, value in arrays.items() if path not in state]))
    optimizer.state = tree_unflatten([(path.removeprefix(OPTIMIZER), v) for path, v in state.items()])
    return Progress(**json.loads(metadata["progress"]))
