"""Gates on disk: an adapter in mlx-lm's format, a few hundred kilobytes.

`adapters.safetensors` holds the trained parameters of every layer's memory
gate, `recall.safetensors` those of the gates of exact recall where they are trained,
`adapter_config.json` what they were trained for. After `retrofit`, mlx-lm's own
`load_adapters` accepts the folder as well (`fine_tune_type: full`), for the memory.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from .atomic import replace_text, replacing
from .basemodel import fingerprint
from .beside import CONFIG
from .cache import Layout
from .gate import FORMS
from .kinds import KINDS

FORMAT = 3
WEIGHTS = "adapters.safetensors"
RECALL = "recall.safetensors"


class AdapterError(ValueError):
    """An adapter that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class AdapterConfig:
    """What a set of gates was trained for.

    base_model: name of the base model, for people.
    fingerprint: `fingerprint(base model)`, which quantisation does not change.
    kind, features: of the memory. sinks, window, segment: in tokens. gate: its form.
    """

    base_model: str
    fingerprint: str
    kind: str = "centroids"
    features: int = 500
    sinks: int = 4
    window: int = 512
    segment: int = 512
    gate: str = "full"
    fine_tune_type: str = "full"
    format: int = FORMAT

    @property
    def layout(self) -> Layout:
        return Layout(self.sinks, self.window, self.segment)


def gate_parameters(model: nn.Module) -> dict[str, mx.array]:
    """The memory gates' parameters by their path in the model: all that a reading depends on."""
    return _parameters(model, ".memory_gate.")


def recall_parameters(model: nn.Module) -> dict[str, mx.array]:
    """The same of the gates of exact recall."""
    return _parameters(model, ".recall_gate.")


def untrained_recall(model: nn.Module) -> dict[str, mx.array]:
    """The same, as before any training: what comes back has its share by its mass."""
    parameters = recall_parameters(model)
    return {k: (mx.ones if k.endswith(".mass") else mx.zeros)(v.shape) for k, v in parameters.items()}


def trained_recall(model: nn.Module) -> dict[str, mx.array]:
    """The same; none if they are as before any training."""
    now, before = recall_parameters(model), untrained_recall(model)
    return {} if all(mx.array_equal(now[path], before[path]).item() for path in now) else now


def _parameters(model: nn.Module, part: str) -> dict[str, mx.array]:
    return {k: v for k, v in tree_flatten(model.parameters()) if part in k}


def save_adapter(model: nn.Module, config: AdapterConfig, folder: Path) -> None:
    """Write the gates of a retrofitted model, each file replaced atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    save_arrays(folder / WEIGHTS, gate_parameters(model))
    if gates := trained_recall(model):
        save_arrays(folder / RECALL, gates)
    else:
        (folder / RECALL).unlink(missing_ok=True)
    replace_text(folder / CONFIG, json.dumps(asdict(config), indent=2) + "\n")


def read_config(folder: Path) -> AdapterConfig:
    """The configuration of the adapter in a folder.

    Raises:
        AdapterError: no adapter there, or one of another format.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise AdapterError(f"No adapter found: {path} does not exist.")
    try:
        fields = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise AdapterError(f"{path} is damaged: it is not a JSON object.") from error
    if fields.get("format") != FORMAT:
        raise AdapterError(
            f"{path} is an adapter of format {fields.get('format')}, this version reads format "
            f"{FORMAT}. Train it again with `python -m mlx_edgeinf.finetune`."
        )
    known = AdapterConfig.__dataclass_fields__
    if fields.keys() != set(known) or fields["kind"] not in KINDS or fields["gate"] not in FORMS:
        raise AdapterError(f"{path} is damaged: its fields are not those of gates. Train them again.")
    return AdapterConfig(**fields)


def load_weights(model: nn.Module, config: AdapterConfig, folder: Path) -> None:
    """Load an adapter's gates into a model retrofitted for `config`; those of recall too, if there are any.

    Raises:
        AdapterError: the gates were trained for another base model, do not fit, or are damaged.
    """
    if config.fingerprint != fingerprint(model):
        raise AdapterError(
            f"The gates in {folder} were trained for {config.base_model}, not for this model. "
            "Choose that model, or train gates for this one with `python -m mlx_edgeinf.finetune`."
        )
    recall = load_arrays(folder / RECALL)[0] if (folder / RECALL).exists() else untrained_recall(model)
    found = [
        (load_arrays(folder / WEIGHTS)[0], gate_parameters(model)), (recall, recall_parameters(model)),
    ]  # fmt: skip
    for weights, expected in found:
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in expected.items()}:
            raise AdapterError(f"The gates in {folder} do not match their own configuration file.")
    model.update(tree_unflatten([each for weights, _ in found for each in weights.items()]))
    mx.eval(model.parameters())
    model.gates_folder = folder


def swap_gates(model: nn.Module, adapter_path: str | Path) -> None:
    """Put other trained gates in place of a loaded model's, between two requests, in milliseconds.

    So one base model in memory serves several tasks, each with gates of its own. A text that was
    read before keeps the memory that the gates of that time wrote.

    Raises:
        AdapterError: they are for another base model, layout, kind of memory or form of the gate.
    """
    folder = Path(adapter_path)
    config, gate = read_config(folder), model.layers[0].self_attn.memory_gate
    own = (model.layout, gate.form, type(gate.memory))
    if own != (config.layout, config.gate, KINDS[config.kind]):
        raise AdapterError(
            f"The gates in {folder} are for {config.kind} and {config.layout}, which this model was not "
            "loaded for: load it again with these gates."
        )
    load_weights(model, config, folder)


def load_arrays(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Read a safetensors file of a training run, with its metadata.

    Raises:
        AdapterError: it is missing or damaged.
    """
    try:
        return mx.load(str(path), return_metadata=True)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise AdapterError(
            f"{path} is missing or damaged. Train these gates again, into another folder, with "
            "`python -m mlx_edgeinf.finetune`."
        ) from error


def save_arrays(
    path: Path, arrays: dict[str, mx.array], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, replaced atomically.

    Raises:
        SaveError: as `atomic.replacing`.
    """
    with replacing(path) as file:
        mx.save_safetensors(file, arrays, metadata)
