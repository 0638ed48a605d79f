"""python -m mlx_edgeinf.evaluate: how much of full attention's advantage the memory keeps.

Held-out documents are read from the same place by every row, and the negative
log-likelihood (NLL, nats) of their tokens beyond the window is compared:

    gap closed = (NLL of sinks + window - NLL of the row) / (NLL of sinks + window - NLL of full attention)

0 is a model that forgets what leaves the window, 1 is one that forgets nothing.

    python -m mlx_edgeinf.evaluate --data FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .adapter import WEIGHTS, AdapterConfig, AdapterError, read_config
from .attention import UnsupportedModel
from .cache import EdgeCache
from .corpus import CorpusError, read_corpus
from .gap import FULL, LONGER, OURS, SHUFFLED, UNTRAINED, WINDOW, ZEROED, documents_table, table
from .gate import MemoryGate
from .loss import cross_entropy, head
from .models import equip, load_base, shipped_gates
from .results import Results, ResultsError, command, described, surroundings
from .rotation import Rotation
from .starter import StarterModelError
from .training import segments

PASSES = (FULL, WINDOW, LONGER, OURS, ZEROED, UNTRAINED)

START = 0.2  # of a document's text: past title pages, tables of contents and prefaces


class Piece(NamedTuple):
    """Losses (nats, one per token that counts) of one segment, and the seconds it took."""

    losses: np.ndarray
    seconds: float


class ExactCache(EdgeCache):
    """Keeps everything, and reads it through `attend`: MLX's softmax is slow on the CPU."""

    def on_base_path(self, length: int) -> bool:
        return False


@dataclass
class Reader:
    """Reads token lists, all of one length, in each of the ways that are compared.

    first: position of the first token whose loss counts.
    """

    model: nn.Module
    config: AdapterConfig
    documents: dict[str, list[int]]
    first: int

    def measure(self, name: str, row: str) -> dict[tuple[str, str], list[Piece]]:
        """Read a document; the pieces by (document, row).

        The row `ours` also lends its memory to the document before it, for `memory shuffled`.
        """
        tokens = self.documents[name]
        if row == OURS:
            names = list(self.documents)
            before = names[names.index(name) - 1]
            own, lent = self._read_and_lend(tokens, self.documents[before])
            return {(name, OURS): own, (before, SHUFFLED): lent}
        if row == UNTRAINED:
            with untrained_gates(self.model, self.config):
                return {(name, row): list(self.read(tokens, self.model.make_cache()))}
        return {(name, row): list(self.read(tokens, self.caches(row, len(tokens))))}

    def read(self, tokens: list[int], cache: list[EdgeCache]) -> Iterator[Piece]:
        """Read segment by segment; the vocabulary is only weighed where losses count."""
        position = 1
        for inputs, targets in segments(tokens, cache[0].layout):
            began = time.perf_counter()
            skipped = min(max(self.first - position, 0), targets.size)
            hidden = self.model.model(inputs[None], cache=cache)[0, skipped:]
            losses = cross_entropy(head(self.model, hidden), targets[skipped:])
            mx.eval(losses, [layer.state for layer in cache])
            yield Piece(np.array(losses, dtype=np.float64), time.perf_counter() - began)
            position += targets.size

    def caches(self, row: str, length: int) -> list[EdgeCache]:
        """Empty caches of a row without a memory of its own."""
        layout, gates = self.config.layout, memory_gates(self.model)
        if row == FULL:
            return [ExactCache(layout, None, _rotation(gate), length) for gate in gates]
        if row == LONGER:
            layout = replace(layout, window=layout.window + tokens_worth(gates[0]))
        caches = [EdgeCache(layout, None, _rotation(gate)) for gate in gates]
        if row == ZEROED:
            for cache, gate in zip(caches, gates):
                cache.memory = gate.memory.empty(1)
        return caches

    def _read_and_lend(
        self, tokens: list[int], others: list[int]
    ) -> tuple[list[Piece], list[Piece]]:
        """Read two documents side by side, both with the memory of the first."""
        lenders, borrowers = self.model.make_cache(), self.caches(SHUFFLED, len(others))
        own, lent = [], []
        reading = self.read(others, borrowers)
        for piece in self.read(tokens, lenders):
            for borrower, lender in zip(borrowers, lenders):
                borrower.memory = lender.memory
            own.append(piece)
            lent.append(next(reading))
        return own, lent


def memory_gates(model: nn.Module) -> list[MemoryGate]:
    """The memory gates of a retrofitted model, by layer."""
    return [layer.self_attn.memory_gate for layer in model.layers]


def tokens_worth(gate: MemoryGate) -> int:
    """Tokens whose exact keys and values take as many numbers as the gate's memory."""
    heads = gate.memory._heads
    numbers = sum(part.size for part in gate.memory.empty(1).values())
    return -(-numbers // (heads.keys * 2 * heads.size))


@contextmanager
def untrained_gates(model: nn.Module, config: AdapterConfig) -> Iterator[None]:
    """Fresh gates in place of a model's trained ones, for a while."""
    mx.random.seed(0)
    trained = memory_gates(model)
    try:
        for layer, gate in zip(model.layers, trained):
            fresh = MemoryGate(gate.memory._heads, config.kind, config.features)
            layer.self_attn.memory_gate = fresh
        yield
    finally:
        for layer, gate in zip(model.layers, trained):
            layer.self_attn.memory_gate = gate


def shut_when_empty(model: nn.Module) -> bool:
    """Whether an empty memory, whose mass is all but 0, leaves every head as it was: a_h > 0."""
    return all(gate.mass.min().item() > 0 for gate in memory_gates(model))


def excerpts(folder: Path, tokenizer, documents: int, length: int) -> dict[str, list[int]]:
    """`length` tokens of some documents of a folder, from a paragraph a fifth into each text.

    Raises:
        CorpusError: too few documents, or one that is too short.
    """
    texts = read_corpus([folder])
    if not 2 <= documents <= len(texts):
        raise CorpusError(
            f"{folder} holds {len(texts)} documents and --documents asks for {documents}: at least 2 "
            "are needed, so that a memory can be shuffled."
        )
    names = sorted(texts)
    chosen = [names[index * len(names) // documents] for index in range(documents)]
    return {name: _excerpt(name, texts[name], tokenizer, length) for name in chosen}


def _excerpt(name: str, text: str, tokenizer, length: int) -> list[int]:
    start = text.find("\n\n", int(START * len(text)))
    # No text runs at more than 8 characters a token for long.
    tokens = tokenizer.encode(text[start:][: 8 * length].lstrip(), add_special_tokens=False)
    if start < 0 or len(tokens) < length:
        raise CorpusError(f"{name} is too short to read {length} tokens of it: lower --length.")
    return tokens[:length]


def tally(pieces: Iterable[Piece], counts: list[int]) -> dict:
    """Sums of the losses of the first counts[0] tokens, the next counts[1], and so on."""
    pieces = list(pieces)
    parts = np.split(np.concatenate([piece.losses for piece in pieces]), np.cumsum(counts)[:-1])
    return {
        "nats": [part.sum() for part in parts],
        "tokens": [part.size for part in parts],
        "seconds": round(sum(piece.seconds for piece in pieces), 1),
    }


def evaluate(args: argparse.Namespace) -> Results:
    """Measure what the results file does not hold yet, one (document, row) at a time."""
    model, tokenizer = load_base(args.model)
    folder = args.adapter_path or shipped_gates(model)
    if folder is None:
        raise AdapterError("No gates ship for this model: name trained ones with --adapter-path.")
    config = read_config(folder)
    equip(model, config, folder, exact_limit=0)
    documents = excerpts(args.data, tokenizer, args.documents, args.length)
    edges = [2 * config.window, args.length // 2, args.length]
    if not edges[0] < edges[1]:
        raise CorpusError(f"--length must be more than {2 * edges[0]}, four windows of these gates.")
    results = Results.resume(args.output, _setup(args, config, folder, documents, edges))
    reader = Reader(model, config, documents, edges[0])
    for number, name in enumerate(documents, start=1):
        for row in PASSES:
            if not results.has(name, row):
                _measure(reader, name, row, results)
                entry = results.entries[name][row]
                nll = sum(entry["nats"]) / sum(entry["tokens"])
                print(f"{number}/{len(documents)} {name}: {row} {nll:.4f} nats, "
                      f"{entry['seconds']:.0f} s", flush=True)  # fmt: skip
    return results


def _measure(reader: Reader, name: str, row: str, results: Results) -> None:
    if row == ZEROED and shut_when_empty(reader.model):
        # The same numbers to the last bit: tests/test_evaluate.py reads both.
        results.add({(name, row): results.entries[name][WINDOW]})
        return
    counts = np.diff(results.setup["edges"]).tolist()
    results.add({key: tally(pieces, counts) for key, pieces in reader.measure(name, row).items()})


def _setup(
    args: argparse.Namespace, config: AdapterConfig, folder: Path, documents: dict, edges: list[int]
) -> dict:
    return {
        "command": command("evaluate", args),
        "base_model": config.base_model,
        "gates": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16],
        "config": asdict(config),
        "edges": edges,
        "documents": {name: _digest(tokens) for name, tokens in documents.items()},
        **surroundings(),
    }


def _digest(tokens: list[int]) -> str:
    return hashlib.sha256(np.array(tokens, dtype=np.int64).tobytes()).hexdigest()[:16]


def _rotation(gate: MemoryGate) -> Rotation:
    return gate.memory._heads.rotation


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    try:
        results = evaluate(parse(argv))
    except (AdapterError, CorpusError, ResultsError, StarterModelError, UnsupportedModel, OSError) as error:
        print(f"mlx_edgeinf.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was measured is saved; run again to go on.", file=sys.stderr)
        return 130
    print(table(results), documents_table(results), described(results.setup), sep="\n\n")
    return 0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder of held-out documents.")
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--adapter-path", type=Path, help="Trained gates; those shipped if not given.")
    parser.add_argument("--documents", type=int, default=6, help="How many, evenly from the sorted names.")
    parser.add_argument("--length", type=int, default=8192, help="Tokens read of each document.")
    parser.add_argument("--output", type=Path, default=Path("results/evaluate.json"), help="Results file.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
