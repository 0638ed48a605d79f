"""What it takes to train the gates on an excerpt, beside stock mlx-lm reading the same tokens.

The ratio is what carries over to another machine and another model: measure how fast mlx-lm reads
there, and multiply.
"""

from __future__ import annotations

import time
from statistics import median

import mlx.core as mx

from ..training.blocks import chunked, kept, recomputed
from ..training.bptt import excerpt_gradients
from ..training.excerpts import Excerpt
from ..training.loss import Objective
from .sides import Ours, Stock, prefill
from .tables import markdown

# Segments that read memory, and readings of each way in turn.
SEGMENTS, ROUNDS = 2, 3
READING = "mlx-lm reads it"
WAYS = {
    "trained, every layer kept": kept,
    "trained, MLP in chunks": chunked,
    "trained, layers computed again": recomputed,
}


def learning(edge: Ours, stock: Stock, tokens: list[int]) -> dict[str, dict]:
    """By way: tokens read or trained on, seconds of each round, and the peak of memory in bytes.

    tokens: an excerpt at their beginning is taken.
    """
    layout = edge.make_cache()[0].layout
    length = layout.capacity + SEGMENTS * layout.segment
    excerpt = Excerpt(tokens[: length + 1])
    measured = {name: {"tokens": length, "peak_bytes": 0, "seconds": []} for name in (READING, *WAYS)}
    for _ in range(ROUNDS):
        for name, entry in measured.items():
            mx.clear_cache()
            mx.reset_peak_memory()
            began = time.perf_counter()
            if name == READING:
                prefill(stock, excerpt.tokens[:-1], stock.make_cache())
            else:
                mx.eval(excerpt_gradients(edge.model, excerpt, Objective(), WAYS[name])[1])
            entry["seconds"].append(time.perf_counter() - began)
            entry["peak_bytes"] = max(entry["peak_bytes"], mx.get_peak_memory())
    return measured


def learning_table(measured: dict[str, dict]) -> str:
    """Markdown: peak memory and speed of each way, and how many times the reading it takes."""
    reading = median(measured[READING]["seconds"])
    tokens = measured[READING]["tokens"]
    lines = [[f"an excerpt of {tokens:,} tokens", "peak memory, GB", "tokens/s", "times the reading"]]
    for name in (READING, *WAYS):
        seconds, peak = median(measured[name]["seconds"]), measured[name]["peak_bytes"] / 1e9
        lines.append([name, f"{peak:.2f}", f"{tokens / seconds:.0f}", f"{seconds / reading:.1f}"])
    return markdown(lines)
