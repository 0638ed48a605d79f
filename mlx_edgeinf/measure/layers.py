"""What the memory of each layer buys, and whether bytes are better spent by that.

Half of the documents tell: each is read with one layer after the other that forgets what leaves its
window. What is lost is what that layer's memory buys, g. If what a memory buys grows with the logarithm
of its size m, then sum g log m, under a given sum of all m, is greatest where m is in proportion to g;
a few entries each layer has in any case. The other documents are read with that split, of as many
entries together as all layers have alike.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product

import mlx.nn as nn
import numpy as np

from ..cache import EdgeCache, Layout
from ..centroids import CentroidMemory
from ..wording import count, counted
from .gap import OURS, WINDOW, check_finished, mean_nll
from .perplexity import measure_more_rows
from .readings import Reader, memory_gates
from .results import Results, described
from .tables import folded, markdown, with_interval

SPLIT = "split by what layers buy"
LEAST = 16  # entries of a layer that buys nothing


def without(layer: int) -> str:
    """The row in which a layer forgets."""
    return f"without layer {layer}"


def measure_layers(reader: Reader, results: Results) -> None:
    """Read half of the reader's documents without each layer's memory, the others with the split."""
    alike = [gate.memory.features for gate in memory_gates(reader.model)]
    sizes = {without(at): [*alike[:at], 0, *alike[at + 1 :]] for at in range(len(alike))}

    def caches(row: str) -> AbstractContextManager[list[EdgeCache]]:
        return nullcontext(_split(reader.model, reader.layout, sizes[row]))

    def measure(half: Results, *rows: str) -> None:
        documents = {name: reader.documents[name] for name in half.setup["documents"]}
        measure_more_rows(replace(reader, documents=documents), rows, results, caches)

    telling, testing = _halves(results)
    measure(telling, OURS, *sizes)
    sizes[SPLIT] = split(bought(results), alike[0])
    measure(testing, WINDOW, OURS, SPLIT)


def bought(results: Results) -> np.ndarray:
    """Nats a token that the memory of each layer saves, on the documents that tell (layers, documents)."""
    telling, _ = _halves(results)
    ours = mean_nll(telling, OURS, slice(None))
    return np.array([mean_nll(telling, row, slice(None)) - ours for row in _rows(results)])


def split(gains: np.ndarray, features: int) -> list[int]:
    """Entries of each layer, together as many as `features` in each, in proportion to its mean gain.

    gains (layers, documents): as `bought` gives them. A layer has at least LEAST, or `features` if fewer.
    """
    worth = np.maximum(gains.mean(axis=1), 0)
    least = min(LEAST, features)
    free = (features - least) * len(worth)
    shares = worth / worth.sum() if worth.any() else np.full(len(worth), 1 / len(worth))
    ends = np.round(np.cumsum(shares) * free).astype(int)
    return (least + np.diff(ends, prepend=0)).tolist()


def summary(results: Results) -> str:
    """Markdown: what each layer buys, what the split does, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    telling, testing = _halves(results)
    told, tested = telling.setup["documents"], testing.setup["documents"]
    pairs = [*product(told, (OURS, *_rows(results))), *product(tested, (WINDOW, OURS, SPLIT))]
    check_finished(results, pairs)
    gains = bought(results)
    sizes = split(gains, results.setup["config"]["features"])
    lines = [["layer", "lost without its memory, nats", "entries by that"]]
    lines += [[str(at), with_interval(gains[at], 4), count(size)] for at, size in enumerate(sizes)]
    window, ours, spent = (mean_nll(testing, row, slice(None)) for row in (WINDOW, OURS, SPLIT))
    outcome = [["saved over sinks + window, nats", "all layers alike", SPLIT, "alike minus split"]]
    saved = map(with_interval, (window - ours, window - spent, spent - ours))
    outcome += [[counted(len(tested), "other document"), *saved]]
    each = folded(f"Layer by layer, {counted(len(told), 'document')}", markdown(lines))
    return "\n\n".join([markdown(outcome), each, described(results.setup)])


def _halves(results: Results) -> tuple[Results, Results]:
    """Of the documents that tell what layers buy, and of those that test the split."""
    names = list(results.setup["documents"])
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    setups = (results.setup | {"documents": half} for half in halves)
    telling, testing = (Results(results.path, setup, results.entries) for setup in setups)
    return telling, testing


def _rows(results: Results) -> list[str]:
    return [without(layer) for layer in range(results.setup["layers"])]


def _split(model: nn.Module, layout: Layout, sizes: list[int]) -> list[EdgeCache]:
    """Empty caches with so many centres in each layer; none where it has 0."""
    return [
        EdgeCache(layout, CentroidMemory(gate.memory._heads, size) if size else None, gate.rotation)
        for gate, size in zip(memory_gates(model), sizes)
    ]
