"""What the memory of each kv head buys, and whether bytes are better spent by that.

Half of the documents tell. Between gates that are shut and gates as trained the odds of every g grow from
0 to all of what they are, by a factor s that is the same for all. What the loss falls by on that way is the
sum of what it falls by for each head's odds, the integral of -dL/ds_h over s (integrated gradients, arXiv
1703.01365): that is what the head's memory buys. s is a shift of the gate's bias by log s. As in training,
gradients end with their segment, so what a memory does for later segments is left out.

If what a memory buys grows with the logarithm of its size m, then sum g log m, under a given sum of all m,
is greatest where m is in proportion to g; a few entries each head has in any case. The other documents are
read with that split, by layer and by head, of as many entries together as all heads have alike.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..adapter import gate_parameters
from ..cache import EdgeCache, Layout
from ..centroids import CentroidMemory
from ..memory import Heads, State
from ..training.bptt import excerpt_gradients
from ..training.excerpts import Excerpt
from ..training.loss import Objective
from ..wording import count, counted
from .gap import OURS, WINDOW, check_finished, mean_nll
from .perplexity import measure_more_rows
from .readings import Reader, gates, memory_gates
from .results import Results, described
from .tables import folded, markdown, with_interval
from .work import Entries, measure_missing

BY_LAYER, BY_HEAD = "split by what layers buy", "split by what heads buy"
TESTED = (WINDOW, OURS, BY_LAYER, BY_HEAD)
LEAST = 16  # entries of a head that buys nothing
# Gauss-Legendre quadrature over the root of s, dense where s is small: gates that hardly let anything in do
# most already. Of 0.0884 nats that one novel saved, four points of the root find 0.0808, four of s 0.0558.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_ROOTS = (1 + _POINTS) / 2
ODDS, SHARES = _ROOTS**2, _WEIGHTS * _ROOTS


class UnevenMemory(CentroidMemory):
    """Centroids of another number for each kv head.

    All heads have the arrays of the largest, whose last entries stay empty: that costs room here, and
    nothing but memory, so such a memory is for measuring.
    """

    def __init__(self, heads: Heads, sizes: list[int]):
        super().__init__(heads, max(sizes))
        one = replace(heads, n_kv_heads=1, n_heads=heads.n_heads // heads.n_kv_heads)
        self._each = [CentroidMemory(one, size) for size in sizes]

    def write(self, state: State, keys: mx.array, values: mx.array, received: mx.array) -> State:
        parts = []
        for at, memory in enumerate(self._each):
            head = slice(at, at + 1)
            own = {name: part[:, head, : memory.features] for name, part in state.items()}
            parts.append(memory.write(own, keys[:, head], values[:, head], received[:, head]))
        return {name: mx.concatenate([self._filled(part[name]) for part in parts], axis=1) for name in state}

    def _filled(self, part: mx.array) -> mx.array:
        """(B, 1, m, ...) with as many entries as the largest head has."""
        rest = [(0, 0), (0, 0), (0, self.features - part.shape[2])]
        return mx.pad(part, rest + [(0, 0)] * (part.ndim - 3))


def measure_heads(reader: Reader, results: Results) -> None:
    """Differentiate half of the reader's documents by the gates, read the others with both splits."""
    telling, testing = _halves(results)
    odds = {_row(s): s for s in ODDS}

    def differentiate(name: str, row: str) -> Entries:
        return {(name, row): {"slopes": _slopes(reader.model, reader.documents[name], odds[row]).tolist()}}

    pairs = list(product(telling.setup["documents"], odds))
    measure_missing(results, pairs, {}, differentiate, lambda name, row: f"{name}: differentiated with {row}")
    sizes: dict[str, list[list[int]]] = {}

    def caches(row: str) -> AbstractContextManager[list[EdgeCache]]:
        return nullcontext(_split(reader.model, reader.model.layout, sizes[row]))

    def measure(half: Results, *rows: str) -> None:
        documents = {name: reader.documents[name] for name in half.setup["documents"]}
        measure_more_rows(replace(reader, documents=documents), rows, results, caches)

    measure(telling, WINDOW, OURS)
    sizes |= splits(bought(results), memory_gates(reader.model)[0].memory.features)
    measure(testing, *TESTED)


def bought(results: Results) -> np.ndarray:
    """Nats a token that the memory of each kv head saves, (layers, kv heads, documents that tell)."""
    telling, _ = _halves(results)
    each = [[results.entries[name][_row(s)]["slopes"] for s in ODDS] for name in telling.setup["documents"]]
    return -np.einsum("dslg,s->lgd", np.array(each), SHARES)


def splits(gains: np.ndarray, features: int) -> dict[str, list[list[int]]]:
    """Entries of each kv head of each layer, by the name of the split. gains: as `bought` gives them."""
    layers, heads, _ = gains.shape
    by_layer = split(gains.sum(axis=1), heads * features, heads * LEAST)
    by_head = split(gains.reshape(layers * heads, -1), features, LEAST)
    even = [[(size + at) // heads for at in range(heads)] for size in by_layer]
    return {BY_LAYER: even, BY_HEAD: np.reshape(by_head, (layers, heads)).tolist()}


def split(gains: np.ndarray, features: int, least: int) -> list[int]:
    """Entries of each part, together as many as `features` in each, in proportion to its mean gain.

    gains (parts, documents). A part has at least `least`, or `features` if fewer.
    """
    worth = np.maximum(gains.mean(axis=1), 0)
    least = min(least, features)
    free = (features - least) * len(worth)
    shares = worth / worth.sum() if worth.any() else np.full(len(worth), 1 / len(worth))
    ends = np.round(np.cumsum(shares) * free).astype(int)
    return (least + np.diff(ends, prepend=0)).tolist()


def summary(results: Results) -> str:
    """Markdown: what the splits do, what each head buys, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    telling, testing = _halves(results)
    told, tested = telling.setup["documents"], testing.setup["documents"]
    pairs = [*product(told, (WINDOW, OURS, *map(_row, ODDS))), *product(tested, TESTED)]
    check_finished(results, pairs)
    window, *others = (mean_nll(testing, row, slice(None)) for row in TESTED)
    outcome = [["entries", "saved over sinks + window, nats", "more than all alike"]]
    for name, nll in zip(("all alike", BY_LAYER, BY_HEAD), others):
        more = "" if nll is others[0] else with_interval(others[0] - nll)
        outcome.append([name, with_interval(window - nll), more])
    each = folded(f"Head by head, {counted(len(told), 'document')}", markdown(_lines(results, telling)))
    title = f"{counted(len(tested), 'other document')}:"
    return "\n\n".join([title, markdown(outcome), each, described(results.setup)])


def _lines(results: Results, telling: Results) -> list[list[str]]:
    """Of each layer what its heads' memories save, and how many entries they would have for it."""
    gains = bought(results)
    sizes = splits(gains, results.setup["config"]["features"])[BY_HEAD]
    lines = [["layer", "saved by its memory, nats", "by its heads", "entries by that"]]
    for layer, heads in enumerate(gains):
        by_head = ", ".join(f"{gain:.4f}" for gain in heads.mean(axis=1))
        entries = ", ".join(map(count, sizes[layer]))
        lines.append([str(layer), with_interval(heads.sum(axis=0), 4), by_head, entries])
    window, ours = (mean_nll(telling, row, slice(None)) for row in (WINDOW, OURS))
    lines.append(["all", with_interval(gains.sum(axis=(0, 1)), 4), "", count(sum(map(sum, sizes)))])
    return [*lines, ["measured", with_interval(window - ours, 4), "", ""]]


def _row(odds: float) -> str:
    return f"odds times {odds:.3f}"


def _slopes(model: nn.Module, tokens: list[int], odds: float) -> np.ndarray:
    """dL/ds (layers, kv heads) where the odds of all gates are `odds` times what they are."""
    shifted = {
        name: value + math.log(odds) if name.endswith("memory_gate.bias") else value
        for name, value in gate_parameters(model).items()
    }
    with gates(model, shifted):
        _, gradients = excerpt_gradients(model, Excerpt(tokens), Objective())
    layers = gradients["model"]["layers"]
    by_query_head = np.array([layer["self_attn"]["memory_gate"]["bias"] for layer in layers])
    heads = memory_gates(model)[0].memory.heads
    return by_query_head.reshape(len(layers), heads.n_kv_heads, -1).sum(axis=-1) / odds


def _halves(results: Results) -> tuple[Results, Results]:
    """Of the documents that tell what heads buy, and of those that test the splits."""
    names = list(results.setup["documents"])
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    setups = (results.setup | {"documents": half} for half in halves)
    telling, testing = (Results(results.path, setup, results.entries) for setup in setups)
    return telling, testing


def _split(model: nn.Module, layout: Layout, sizes: list[list[int]]) -> list[EdgeCache]:
    """Empty caches with so many centres for each kv head of each layer."""
    return [
        EdgeCache(layout, UnevenMemory(gate.memory.heads, each), gate.rotation)
        for gate, each in zip(memory_gates(model), sizes)
    ]
