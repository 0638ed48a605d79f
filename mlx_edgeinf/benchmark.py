"""python -m mlx_edgeinf.benchmark: memory and speed against length, beside stock mlx-lm.

All sides read the same tokens with the same weight arrays in one run. Ours
takes the memory path from the first token, once without and once with exact
recall; stock is the model as mlx-lm loads it, with its KVCache and its default
prefill chunks. Each side reads the text once, and is measured where it passes
each length. What exact recall costs is measured once more, by turns.

    python -m mlx_edgeinf.benchmark --text FILE
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from itertools import product
from pathlib import Path
from statistics import median

import mlx.nn as nn
from mlx.utils import tree_flatten

from .adapter import AdapterError
from .basemodel import UnsupportedModel
from .measure import stored
from .measure.learning import BEGINNING, READING, WAYS, learning, learning_table
from .measure.results import FOLDER, Results, ResultsError, command, described, surroundings
from .measure.sides import (
    DECODED,
    PAIRS,
    SHORT,
    SWAPS,
    UNTIMED,
    Ours,
    Recalling,
    Stock,
    measure,
    short_path,
    swaps,
    with_weights_of,
)
from .measure.tables import markdown
from .models import load, load_base
from .pagestore import StoreError
from .starter import StarterModelError
from .terminal import run
from .training.recalling import temporary_pages

# In the results, and in the table.
STOCK, OURS, RECALL, STORED = "stock", "ours", "recall", "recall costs"
SIDES = {STOCK: "mlx-lm", OURS: "ours", RECALL: "ours with recall"}
# In the results: what training is told by.
LEARNING = [("training", way) for way in (READING, BEGINNING, *WAYS)]
# Of the table: name, key, unit, digits.
COLUMNS = (
    ("peak memory, GB", "peak_bytes", 1e9, 2), ("state, MB", "state_bytes", 1e6, 0),
    ("time to first token, s", "ttft", 1, 1), ("prefill, tokens/s", "prefill", 1, 0),
    ("decode, tokens/s", "decode", 1, 1),
)  # fmt: skip


class TextTooShort(ValueError):
    """The text has fewer tokens than the longest length asks for."""


def benchmark(args: argparse.Namespace) -> Results:
    """Measure what the results file does not hold yet: the short path, stock, ours, ours with recall."""
    model, tokenizer = load(args.model, args.adapter_path, exact_limit=0)
    base = with_weights_of(model, load_base(args.model)[0])
    lengths = sorted(args.lengths)
    tokens = read_text(args.text, tokenizer, max(lengths[-1], stored.READ))
    results = Results.resume(args.output, _setup(args, tokens, model))
    edge, plain = Ours(model), Stock(base)
    if not results.has("short", "path"):
        results.add({("short", "path"): short_path(edge, plain, tokens[:SHORT])})
        print(short_line(results), flush=True)
    if model.gates_folder and not results.has("gates", "swap"):
        results.add({("gates", "swap"): {"seconds": list(swaps(model, model.gates_folder))}})
        print(swap_line(results), flush=True)
    if not all(results.has(*each) for each in LEARNING):
        measured = learning(edge, plain, tokens)
        results.add({("training", way): entry for way, entry in measured.items()})
        print(learning_table(measured), flush=True)
    upto = [length for length in lengths if length <= args.stock_up_to]
    _read(results, STOCK, plain, tokens, upto)
    _read(results, OURS, edge, tokens, lengths)
    with temporary_pages(model) as pages:
        _read(results, RECALL, Recalling(model, pages), tokens, lengths)
    if not all(results.has(STORED, name) for name in _stored(args.stored)):
        with temporary_pages(model) as pages:
            for name, entry in stored.costs(Recalling(model, pages), edge, tokens, args.stored):
                results.add({(STORED, name): entry})
                told = name if name == stored.AT_FIRST else f"{name} tokens on disk"
                print(f"{told}: {entry['with']:.1f} tokens/s, {entry['without']:.1f} without", flush=True)
    return results


def _read(results: Results, name: str, side: Stock, tokens: list[int], lengths: list[int]) -> None:
    """Measure one side at all lengths, unless that was done before."""
    if all(results.has(name, str(length)) for length in lengths):
        return
    for length, measured in measure(side, tokens, lengths):
        results.add({(name, str(length)): measured})
        print(_progress(SIDES[name], length, measured), flush=True)


def _stored(lengths: list[int]) -> list[str]:
    """Names of the entries that tell what recall costs."""
    return [stored.AT_FIRST, *map(str, lengths)]


def _progress(name: str, length: int, measured: dict) -> str:
    return (
        f"{name}, {length} tokens: peak {measured['peak_bytes'] / 1e9:.2f} GB, first token after "
        f"{measured['ttft']:.1f} s, prefill {measured['prefill']:.0f} tokens/s, "
        f"decode {measured['decode']:.1f} tokens/s"
    )


def read_text(path: Path, tokenizer, length: int) -> list[int]:
    """The first `length` tokens of a text file.

    Raises:
        TextTooShort: there are fewer.
    """
    # No text runs at more than 8 characters a token for long.
    text = path.read_text(encoding="utf-8", errors="replace")[: 8 * length]
    tokens = tokenizer.encode(text, add_special_tokens=False)
    if len(tokens) < length:
        raise TextTooShort(
            f"{path} has {len(tokens)} tokens and {length} are to be read: "
            "choose a longer text or shorter --lengths."
        )
    return tokens[:length]


def _setup(args: argparse.Namespace, tokens: list[int], model: nn.Module) -> dict:
    return {
        "command": command("benchmark", args),
        "text": hashlib.sha256(str(tokens).encode()).hexdigest()[:16],
        "lengths": sorted(args.lengths),
        "decoded": [UNTIMED, DECODED],
        "stored": sorted(args.stored),
        "weights_bytes": sum(weight.nbytes for _, weight in tree_flatten(model.parameters())),
        **surroundings(),
    }


def table(results: Results) -> str:
    """Markdown: all sides at each length."""
    lines = [["tokens", "", *(name for name, *_ in COLUMNS)]]
    for length in results.setup["lengths"]:
        for side, name in SIDES.items():
            if entry := results.group(side).get(str(length)):
                cells = [f"{entry[key] / unit:.{digits}f}" for _, key, unit, digits in COLUMNS]
                lines.append([f"{length:,}", name, *cells])
    return markdown(lines)


def short_line(results: Results) -> str:
    """The short path in a sentence."""
    short = results.entries["short"]["path"]
    same = "identical to" if short["identical"] else "different from"
    return (
        f"Short path, {short['tokens']} tokens: logits {same} stock mlx-lm's, "
        f"at {short['speed']:.3f} times its speed (medians of {PAIRS} alternating readings)."
    )


def swap_line(results: Results) -> str:
    """How long it takes to change the gates of a loaded model, in a sentence."""
    seconds = median(results.entries["gates"]["swap"]["seconds"])
    return f"Gates of a loaded model are swapped in {1000 * seconds:.0f} ms (median of {SWAPS})."


def ratio_lines(results: Results) -> list[str]:
    """What is promised, in sentences: flat memory, faster reading, and what recall costs."""
    lines = [f"The weights take {results.setup['weights_bytes'] / 1e9:.2f} GB of each peak."]
    if results.group(STOCK):
        lines.append(f"Prefill, ours over mlx-lm: {_faster(results)} tokens.")
    lines.append(stored.reading_line(results.entries[STORED]))
    for side in (OURS, RECALL):
        peaks = {int(length): entry["peak_bytes"] for length, entry in results.group(side).items()}
        if 8192 in peaks and (high := max(peaks)) != 8192:
            flat = f"{peaks[high] / peaks[8192]:.3f} times its peak at 8,192"
            lines.append(f"{SIDES[side].capitalize()} peaks at {high:,} tokens at {flat}.")
    return lines


def _faster(results: Results) -> str:
    """Our prefill over mlx-lm's, at each length that both have."""
    ours, stock = results.group(OURS), results.group(STOCK)
    ratios = {int(n): ours[n]["prefill"] / stock[n]["prefill"] for n in ours.keys() & stock.keys()}
    return ", ".join(f"{ratio:.2f} at {length:,}" for length, ratio in sorted(ratios.items()))


FAILURES = (
    AdapterError, ResultsError, StarterModelError, StoreError, TextTooShort, UnsupportedModel, OSError,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv)

    def work() -> None:
        if min(args.stored) < stored.READ:
            raise ResultsError(f"--stored must all be {stored.READ} or more, the tokens that are read first.")
        print("", summary(benchmark(args)), sep="\n")

    stopped = "Stopped. Sides that were measured are saved; run again to go on."
    return run("mlx_edgeinf.benchmark", work, FAILURES, stopped)


def summary(results: Results) -> str:
    """Markdown: table, what is promised, and where it was measured.

    Raises:
        ResultsError: the benchmark was stopped before its end.
    """
    wanted = [*product((OURS, RECALL), map(str, results.setup["lengths"])), *LEARNING]
    wanted += [(STORED, name) for name in _stored(results.setup["stored"])]
    if not all(results.has(*each) for each in wanted):
        raise ResultsError(f"{results.path} is not finished: run its command again.")
    swapped = [swap_line(results)] if results.has("gates", "swap") else []
    sentences = [*ratio_lines(results), short_line(results), *swapped, described(results.setup)]
    entries = results.entries
    tables = [table(results), stored.table(entries[STORED]), learning_table(entries["training"])]
    return "\n\n".join([*tables, "  \n".join(sentences)])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options."""
    description = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.benchmark", description=description)
    parser.add_argument("--text", type=Path, required=True, help="A long text file.")
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--adapter-path", type=Path, help="Trained gates; else those found or shipped.")
    lengths = [2048, 4096, 8192, 16384, 65536]
    parser.add_argument("--lengths", type=int, nargs="+", default=lengths, help="Tokens to measure at.")
    parser.add_argument("--stock-up-to", type=int, default=16384, help="Longest length for stock mlx-lm.")
    on_disk = [stored.READ, 131072]
    parser.add_argument("--stored", type=int, nargs="+", default=on_disk, help="Tokens on disk to write at.")
    parser.add_argument("--output", type=Path, default=FOLDER / "benchmark.json", help="Results file.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
