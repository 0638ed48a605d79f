"""python -m mlx_edgeinf.benchmark: memory and speed against length, beside stock mlx-lm.

Both sides read the same tokens with the same weight arrays in one run. Ours
takes the memory path from the first token; stock is the model as mlx-lm loads
it, with its KVCache and its default prefill chunks. Each side reads the text
once, and is measured where it passes each length.

    python -m mlx_edgeinf.benchmark --text FILE
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from statistics import median

import mlx.nn as nn
from mlx.utils import tree_flatten

from .adapter import AdapterError
from .attention import UnsupportedModel
from .measure.results import FOLDER, Results, ResultsError, command, described, surroundings
from .measure.sides import PAIRS, SHORT, SWAPS, Ours, Stock, measure, short_path, swaps, with_weights_of
from .models import load, load_base, shipped_gates
from .starter import StarterModelError
from .terminal import run

# Of the table: key, unit, digits.
COLUMNS = (
    ("peak_bytes", 1e9, 2), ("state_bytes", 1e6, 0), ("ttft", 1, 1), ("prefill", 1, 0), ("decode", 1, 1),
)  # fmt: skip


class TextTooShort(ValueError):
    """The text has fewer tokens than the longest length asks for."""


def benchmark(args: argparse.Namespace) -> Results:
    """Measure what the results file does not hold yet: the short path, stock, ours."""
    model, tokenizer = load(args.model, args.adapter_path, exact_limit=0)
    base = with_weights_of(model, load_base(args.model)[0])
    lengths = sorted(args.lengths)
    tokens = read_text(args.text, tokenizer, lengths[-1])
    results = Results.resume(args.output, _setup(args, tokens, model))
    edge, plain = Ours(model), Stock(base)
    if not results.has("short", "path"):
        results.add({("short", "path"): short_path(edge, plain, tokens[:SHORT])})
        print(short_line(results), flush=True)
    folder = args.adapter_path or shipped_gates(model)
    if folder and not results.has("gates", "swap"):
        results.add({("gates", "swap"): {"seconds": list(swaps(model, folder))}})
        print(swap_line(results), flush=True)
    upto = [length for length in lengths if length <= args.stock_up_to]
    for name, side, wanted in (("stock", plain, upto), ("ours", edge, lengths)):
        if all(results.has(name, str(length)) for length in wanted):
            continue
        for length, measured in measure(side, tokens, wanted):
            results.add({(name, str(length)): measured})
            print(_progress(name, length, measured), flush=True)
    return results


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
        "weights_bytes": sum(weight.nbytes for _, weight in tree_flatten(model.parameters())),
        **surroundings(),
    }


def table(results: Results) -> str:
    """Markdown: both sides at each length."""
    lines = [
        "| tokens | peak memory, GB<br>mlx-lm / ours | state, MB<br>mlx-lm / ours "
        "| time to first token, s<br>mlx-lm / ours | prefill, tokens/s<br>mlx-lm / ours "
        "| decode, tokens/s<br>mlx-lm / ours |",
        "|---|---|---|---|---|---|",
    ]
    for length in results.setup["lengths"]:
        cells = [_pair(results, str(length), *column) for column in COLUMNS]
        lines.append(f"| {length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pair(results: Results, length: str, key: str, unit: float, digits: int) -> str:
    sides = (results.group(name).get(length) for name in ("stock", "ours"))
    return " / ".join(f"{side[key] / unit:.{digits}f}" if side else "-" for side in sides)


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
    """What is promised, in sentences: flat memory and faster reading."""
    stock, ours = results.group("stock"), results.group("ours")
    weights = f"The weights take {results.setup['weights_bytes'] / 1e9:.2f} GB of each peak."
    speeds = [f"{ours[n]['prefill'] / stock[n]['prefill']:.2f} at {int(n):,}" for n in stock]
    lines = [weights]
    if speeds:
        lines.append(f"Prefill, ours over mlx-lm: {', '.join(speeds)} tokens.")
    low, high = "8192", max(ours, key=int)
    if low in ours and high != low:
        flat = ours[high]["peak_bytes"] / ours[low]["peak_bytes"]
        lines.append(f"Ours peaks at {int(high):,} tokens at {flat:.3f} times its peak at 8,192.")
    return lines


FAILURES = (AdapterError, ResultsError, StarterModelError, TextTooShort, UnsupportedModel, OSError)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv)

    def work() -> None:
        print("", summary(benchmark(args)), sep="\n")

    stopped = "Stopped. Sides that were measured are saved; run again to go on."
    return run("mlx_edgeinf.benchmark", work, FAILURES, stopped)


def summary(results: Results) -> str:
    """Markdown: table, what is promised, and where it was measured.

    Raises:
        ResultsError: the benchmark was stopped before its end.
    """
    if not all(results.has("ours", str(length)) for length in results.setup["lengths"]):
        raise ResultsError(f"{results.path} is not finished: run its command again.")
    swapped = [swap_line(results)] if results.has("gates", "swap") else []
    sentences = [*ratio_lines(results), short_line(results), *swapped, described(results.setup)]
    return table(results) + "\n\n" + "  \n".join(sentences)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options."""
    description = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.benchmark", description=description)
    parser.add_argument("--text", type=Path, required=True, help="A long text file.")
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--adapter-path", type=Path, help="Trained gates; those shipped if not given.")
    lengths = [2048, 4096, 8192, 16384, 65536]
    parser.add_argument("--lengths", type=int, nargs="+", default=lengths, help="Tokens to measure at.")
    parser.add_argument("--stock-up-to", type=int, default=16384, help="Longest length for stock mlx-lm.")
    parser.add_argument("--output", type=Path, default=FOLDER / "benchmark.json", help="Results file.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
