"""What it takes to train the gates on a token, beside stock mlx-lm reading one of the same text.

The ratio is what carries over to another machine and another model: measure how fast mlx-lm reads
there, and divide. What comes before the first fold is only read, so it is measured and taken off.
"""

from __future__ import annotations

import time
from functools import partial
from statistics import median

import mlx.core as mx

from ..training.blocks import Block, chunked, kept, recomputed
from ..training.bptt import excerpt_gradients
from ..training.excerpts import Excerpt
from ..training.loss import CHUNK, Objective
from .sides import Ours, Stock, prefill
from .tables import markdown

# Segments that read memory, and rounds of all ways in turn.
SEGMENTS, ROUNDS = 2, 3
READING, BEGINNING = "read by mlx-lm", "read by ours, before the first fold"
# Layers are read by a block, and of so many tokens the logits are held at a time; None for a whole segment.
WAYS: dict[str, tuple[Block, int | None]] = {
    "trained, logits of a segment at once": (kept, None),
    "trained, logits in chunks": (kept, CHUNK),
    "trained, MLP in chunks too": (chunked, CHUNK),
    "trained, layers computed again": (recomputed, CHUNK),
}


def learning(edge: Ours, stock: Stock, tokens: list[int]) -> dict[str, dict]:
    """By way: tokens, seconds of each round, and the peak of memory in bytes.

    tokens: an excerpt at their beginning is taken.
    """
    layout = edge.model.layout
    beginning = layout.capacity
    length = beginning + SEGMENTS * layout.segment
    excerpt = Excerpt(tokens[: length + 1])

    def train(block: Block, chunk: int | None) -> None:
        objective = Objective(chunk=chunk or layout.segment)
        mx.eval(excerpt_gradients(edge.model, excerpt, objective, block)[1])

    work = {
        READING: (length, lambda: prefill(stock, tokens[:length], stock.make_cache())),
        BEGINNING: (beginning, lambda: prefill(edge, tokens[:beginning], edge.make_cache())),
        **{name: (length - beginning, partial(train, *way)) for name, way in WAYS.items()},
    }
    measured = {name: {"tokens": count, "peak_bytes": 0, "seconds": []} for name, (count, _) in work.items()}
    for _ in range(ROUNDS):
        for name, entry in measured.items():
            mx.clear_cache()
            mx.reset_peak_memory()
            began = time.perf_counter()
            work[name][1]()
            entry["seconds"].append(time.perf_counter() - began)
            entry["peak_bytes"] = max(entry["peak_bytes"], mx.get_peak_memory())
    return measured


def learning_table(measured: dict[str, dict]) -> str:
    """Markdown: peak memory and tokens/s of each way, and how many tokens mlx-lm reads meanwhile."""
    beginning, reading = (median(measured[name]["seconds"]) for name in (BEGINNING, READING))
    read = measured[READING]["tokens"] / reading
    lines = [["", "peak memory, GB", "tokens/s", "mlx-lm reads meanwhile"]]
    for name in (READING, *WAYS):
        seconds = median(measured[name]["seconds"]) - (0 if name == READING else beginning)
        speed = measured[name]["tokens"] / seconds
        lines.append([
            name, f"{measured[name]['peak_bytes'] / 1e9:.2f}", f"{speed:.0f}", f"{read / speed:.1f} tokens",
        ])  # fmt: skip
    return markdown(lines)
