"""Base models: from a hub id, a local folder or the starter model to a model with a memory.

`load` has the shape of mlx-lm's: it returns `(model, tokenizer)`, usable with
mlx-lm's own functions, because the cache follows mlx-lm's protocol.
"""

from __future__ import annotations

import gc
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from huggingface_hub.errors import LocalEntryNotFoundError
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import get_total_parameters

from .adapter import AdapterConfig, gate_parameters, load_weights, read_config
from .attention import retrofit
from .basemodel import UnsupportedModel, base_path_limit, digest, fingerprint, head_size, kv_bytes_per_token
from .beside import gates_beside
from .centroids import CentroidMemory
from .generation import REPETITION_PENALTY, REPETITION_TOKENS
from .kinds import KINDS
from .settings import Settings
from .starter import NAME, starter_model

# Of a model's gates what mlx-lm counts as the model's own.
SEEN = re.compile(r"\.memory_gate\.memory\.|\.recall_gate\.")
# Longer inputs than the base model's context are this project's purpose, not worth a warning.
UNLIMITED = {"model_max_length": sys.maxsize}

# In a checkout, and in an installed package.
SHIPPED_GATES = (Path(__file__).parent.parent / "assets" / "gates", Path(__file__).parent / "gates")


def load(
    path_or_hf_repo: str | None = None,
    adapter_path: str | None = None,
    exact_limit: int | None = None,
    memory_mb: float | None = None,
) -> tuple[nn.Module, TokenizerWrapper]:
    """Load a base model and give it a memory.

    Args:
        path_or_hf_repo: a local mlx-lm folder or a hub id; None is the starter model.
        adapter_path: folder of trained gates. None takes the gates beside the model, or else
            those shipped for it, or else the untrained mass-ratio gate.
        exact_limit: tokens up to which the base path runs, bit for bit mlx-lm's.
            None is the base model's trained context, as far as a gigabyte of KV cache goes.
        memory_mb: megabytes (10^6 bytes) that the state of a long text may take, exact part
            and memory of all layers together. None takes what the gates were trained with.

    Raises:
        BudgetError: the exact part alone takes more, or gates of this kind have the one size.
        AdapterError: the gates belong to another base model.
        UnsupportedModel: mlx-lm cannot load it, or its attention cannot carry a memory gate.
        StarterModelError: the starter model could not be fetched.
    """
    model, tokenizer = load_base(path_or_hf_repo)
    folder = Path(adapter_path) if adapter_path else found_gates(model, path_or_hf_repo)
    config = read_config(folder) if folder else untrained_config(model, base_name(path_or_hf_repo))
    if memory_mb is not None:
        config = replace(config, features=features_within(model, config, memory_mb * 1e6))
    equip(model, config, folder, exact_limit)
    return model, tokenizer


def load_base(path_or_hf_repo: str | None = None) -> tuple[nn.Module, TokenizerWrapper]:
    """The base model as mlx-lm loads it, in the number format this machine is fast in.

    Raises:
        UnsupportedModel: mlx-lm does not know this type of model, its files are damaged, or it is
            neither on this machine nor to be had from the hub.
    """
    path = path_or_hf_repo or str(starter_model())
    # Models refer to themselves, and MLX keeps buffers: one that was let go of would still take its room.
    gc.collect()
    mx.clear_cache()
    try:
        model, tokenizer = mlx_lm.load(path, tokenizer_config=UNLIMITED)
    except LocalEntryNotFoundError as error:
        raise UnsupportedModel(
            f"The model {path} is not on this machine, and the hub cannot be reached: connect to the "
            "internet, or give the folder of a model."
        ) from error
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        # mlx-lm's for a type it does not know, or a configuration that lacks something; the hub's for a path
        # taken as a name; MLX's for weights that were cut short.
        reason = str(error).partition("\n")[0].rstrip(":. ")
        raise UnsupportedModel(
            f"The model {path} cannot be loaded: {reason}. If its files may be damaged, download it again; "
            "if not, choose another one."
        ) from error
    if mx.default_device() == mx.Device(mx.cpu):
        to_float32(model)
    return model, tokenizer


def equip(
    model: nn.Module, config: AdapterConfig, weights: Path | None = None, exact_limit: int | None = None
) -> None:
    """Retrofit a base model for `config`, with the trained gates of a folder if one is given."""
    limit = base_path_limit(model) if exact_limit is None else exact_limit
    retrofit(model, config.layout, config.kind, config.features, limit, config.gate)
    if weights:
        load_weights(model, config, weights)


class BudgetError(ValueError):
    """A budget in bytes that cannot be kept; the message says which can."""


def features_within(model: nn.Module, config: AdapterConfig, budget: float) -> int:
    """m of the largest memory of its kind whose state, exact part included, fits in `budget` bytes.

    Raises:
        BudgetError: not a single feature fits, or gates of this kind have the one size.
    """
    if not issubclass(KINDS[config.kind], CentroidMemory):
        raise BudgetError(
            f"A memory of kind {config.kind} has the size that its gates were trained for: give no budget."
        )
    attention, layers = model.layers[0].self_attn, len(model.layers)
    kv_heads, size = attention.n_kv_heads, head_size(attention)
    exact = config.layout.capacity * kv_bytes_per_token(model)
    # In float32 whatever the model's own precision: what the next fold weighs by, and the features.
    noted = 4 * layers * kv_heads * config.segment
    feature = 4 * layers * kv_heads * KINDS[config.kind].feature_size(size)
    features = int((budget - exact - noted) // feature)
    if features < 1:
        least = math.ceil((exact + noted + feature) / 1e6)
        raise BudgetError(
            f"{budget / 1e6:g} MB cannot hold a memory of this model: allow {least} MB or more."
        )
    return features


def found_gates(model: nn.Module, path_or_hf_repo: str | None) -> Path | None:
    """Folder of the gates for a loaded model: those beside it, or those that ship for it, if any."""
    beside = gates_beside(path_or_hf_repo) if path_or_hf_repo else None
    return beside or shipped_gates(model)


def shipped_gates(model: nn.Module) -> Path | None:
    """Folder of the gates that ship for this base model, if any; of several the first by name."""
    own = fingerprint(model)
    configs = (path for home in SHIPPED_GATES for path in sorted(home.glob("*/adapter_config.json")))
    return next((path.parent for path in configs if read_config(path.parent).fingerprint == own), None)


def settings_of(model: nn.Module) -> Settings:
    """What a loaded model reads and writes with."""
    layout, memory = model.layout, model.layers[0].self_attn.memory_gate.memory
    return Settings(
        gates=model.gates_folder.resolve().name if model.gates_folder else "untrained",
        fingerprint=digest(gate_parameters(model).values()),
        memory=next(name for name, kind in KINDS.items() if kind is type(memory)),
        features=memory.features,
        sinks=layout.sinks,
        window=layout.window,
        segment=layout.segment,
        repetition_penalty=REPETITION_PENALTY,
        repetition_tokens=REPETITION_TOKENS,
    )


def base_name(path_or_hf_repo: str | None) -> str:
    """The base model for people: a folder's name without where it lies on this machine."""
    if path_or_hf_repo is None:
        return NAME
    path = Path(path_or_hf_repo)
    return path.resolve().name if path.is_dir() else path_or_hf_repo


def untrained_config(model: nn.Module, name: str, **sizes) -> AdapterConfig:
    """The mass-ratio gate over centroids, which needs no training."""
    return AdapterConfig(base_model=name, fingerprint=fingerprint(model), **sizes)


def to_float32(model: nn.Module) -> None:
    """Dequantise in place.

    On MLX's CPU back end only float32 reaches the BLAS: 4-bit products run at
    1.9 GFLOP/s and half precision at 0.2, where float32 runs at 200.
    """
    replaced = []
    for path, module in model.named_modules():
        if isinstance(module, nn.QuantizedLinear):
            replaced.append((path, _plain(module, nn.Linear)))
        elif isinstance(module, nn.QuantizedEmbedding):
            replaced.append((path, _plain(module, nn.Embedding)))
    model.update_modules(tree_unflatten(replaced))
    model.set_dtype(mx.float32)
    mx.eval(model.parameters())


def _plain(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    weight = mx.dequantize(
        module.weight, module.scales, module.get("biases"), module.group_size, module.bits, module.mode
    )
    plain = kind(1, 1)
    plain.weight = weight.astype(mx.float32)
    if kind is nn.Linear:
        del plain["bias"]
        if "bias" in module:
            plain.bias = module.bias
    return plain


def parameter_budget(model: nn.Module, gates: dict[str, mx.array]) -> float:
    """Parameters of gates, by their path, as a share of the base model's, quantised or not."""
    # mlx-lm's count, which knows how many weights a quantised word holds, sees modules without
    # children alone: of a memory gate, its memory.
    seen = sum(value.size for path, value in tree_flatten(model.parameters()) if SEEN.search(path))
    return sum(value.size for value in gates.values()) / (get_total_parameters(model) - seen)
