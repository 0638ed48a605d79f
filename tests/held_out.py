"""Books nobody trained on, and gates as if they had been trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
from tiny import LAYOUT, learnt_recall, llama_model, with_memory

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig, save_adapter
from mlx_edgeinf.basemodel import fingerprint


def save_trained(folder: Path, seed: int = 1, recall: bool = False) -> Path:
    """Gates of a tiny model, as if they had been trained; recall: those of recall too."""
    model = with_memory(llama_model())
    for layer in model.layers:
        gate = layer.self_attn.memory_gate
        gate.mass = 0.5 + mx.random.uniform(shape=gate.mass.shape, key=mx.random.key(seed))
    if recall:
        learnt_recall(model)
    config = AdapterConfig("tiny", fingerprint(model), "centroids", 4, *LAYOUT.__dict__.values())
    save_adapter(model, config, folder)
    return folder


def evaluating(folder: Path, measurement: str, output: str, *usual: str) -> Callable[..., int]:
    """`evaluate` with options, of two books and trained gates in a folder; later options win."""
    books, gates = write_books(folder / "books"), save_trained(folder / "gates")
    usual = ("--data", str(books), "--documents", "2", "--adapter-path", str(gates), *usual)
    return lambda *options: evaluate.main([measurement, *usual, "--output", str(folder / output), *options])


def write_books(folder: Path, length: int = 20) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.md", "b.txt", "c.md", "README.md"):
        paragraphs = (" ".join(map(str, numbers)) for numbers in rng.integers(0, 99, (length, 20)))
        (folder / name).write_text("\n\n".join(paragraphs))
    return folder
