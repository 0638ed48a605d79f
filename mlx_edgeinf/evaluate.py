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
from dataclasses import asdict
from itertools import product
from pathlib import Path

import mlx.core as mx
import numpy as np

from .adapter import WEIGHTS, AdapterConfig, AdapterError, gate_parameters, load_weights, read_config
from .attention import UnsupportedModel
from .measure.gap import FULL, LONGER, OURS, ROWS, UNTRAINED, WINDOW, ZEROED, documents_table, finished, table
from .measure.readings import Reader, shut_when_empty, tally
from .measure.results import FOLDER, Results, ResultsError, command, described, surroundings
from .models import equip, load_base, shipped_gates
from .starter import StarterModelError
from .terminal import run
from .training.corpus import CorpusError, read_corpus

# In the order they are read; `ours` also yields the row `memory shuffled`.
PASSES = (FULL, WINDOW, LONGER, OURS, ZEROED, UNTRAINED)
START = 0.2  # of a document's text: past title pages, tables of contents and prefaces


def evaluate(args: argparse.Namespace) -> Results:
    """Measure what the results file does not hold yet, one (document, row) at a time."""
    model, tokenizer = load_base(args.model)
    folder = args.adapter_path or shipped_gates(model)
    if folder is None:
        raise AdapterError("No gates ship for this model: name trained ones with --adapter-path.")
    config = read_config(folder)
    mx.random.seed(0)
    equip(model, config, exact_limit=0)
    untrained = gate_parameters(model)
    load_weights(model, config, folder)
    documents = passages(args.data, tokenizer, args.documents, args.length)
    edges = [2 * config.window, args.length // 2, args.length]
    if not edges[0] < edges[1]:
        raise CorpusError(f"--length must be more than {2 * edges[0]}, four windows of these gates.")
    results = Results.resume(args.output, _setup(args, config, folder, documents, edges))
    reader = Reader(model, untrained, documents, edges[0])
    for name, row in product(documents, PASSES):
        if not results.has(name, row):
            _measure(reader, name, row, results)
            print(_progress(results, name, row), flush=True)
    return results


def _progress(results: Results, name: str, row: str) -> str:
    entry = results.entries[name][row]
    done, total = sum(map(len, results.entries.values())), len(results.setup["documents"]) * len(ROWS)
    nll = sum(entry["nats"]) / sum(entry["tokens"])
    return f"{done} of {total}: {name}, {row}: {nll:.4f} nats, {entry['seconds']:.0f} s"


def _measure(reader: Reader, name: str, row: str, results: Results) -> None:
    if row == ZEROED and shut_when_empty(reader.model):
        # The same numbers to the last bit: tests/test_evaluate.py reads both.
        results.add({(name, row): results.entries[name][WINDOW]})
        return
    counts = np.diff(results.setup["edges"]).tolist()
    results.add({key: tally(pieces, counts) for key, pieces in reader.measure(name, row).items()})


def passages(folder: Path, tokenizer, documents: int, length: int) -> dict[str, list[int]]:
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
    return {name: _passage(name, texts[name], tokenizer, length) for name in chosen}


def _passage(name: str, text: str, tokenizer, length: int) -> list[int]:
    earliest = int(START * len(text))
    start = max(text.find("\n\n", earliest), earliest)
    # No text runs at more than 8 characters a token for long.
    tokens = tokenizer.encode(text[start:][: 8 * length].lstrip(), add_special_tokens=False)
    if len(tokens) < length:
        raise CorpusError(f"{name} is too short to read {length} tokens of it: lower --length.")
    return tokens[:length]


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


FAILURES = (AdapterError, CorpusError, ResultsError, StarterModelError, UnsupportedModel, OSError)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv)

    def work() -> None:
        print("", summary(evaluate(args)), sep="\n")

    return run("evaluate", work, FAILURES, "Stopped. What was measured is saved; run again to go on.")


def summary(results: Results) -> str:
    """Markdown: both tables, and where they were measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    if not finished(results):
        raise ResultsError(f"{results.path} is not finished: run its command again.")
    return "\n\n".join([table(results), documents_table(results), described(results.setup)])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options."""
    description = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.evaluate", description=description)
    parser.add_argument("--data", type=Path, required=True, help="Folder of held-out documents.")
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--adapter-path", type=Path, help="Trained gates; those shipped if not given.")
    parser.add_argument("--documents", type=int, default=6, help="How many, evenly from the sorted names.")
    parser.add_argument("--length", type=int, default=8192, help="Tokens read of each document.")
    parser.add_argument("--output", type=Path, default=FOLDER / "evaluate.json", help="Results file.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
