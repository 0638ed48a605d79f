"""python -m mlx_edgeinf.finetune: train the memory gates of a model, and nothing else.

Flag names are those of mlx-lm's LoRA script. Batches are single excerpts of
long documents, read segment by segment (see `training`).

    python -m mlx_edgeinf.finetune --model MODEL --data FOLDER --train
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from .adapter import (
    WEIGHTS,
    AdapterConfig,
    AdapterError,
    load_weights,
    read_config,
    replace_text,
    save_adapter,
    save_arrays,
)
from .attention import UnsupportedModel
from .models import base_name, equip, load_base, parameter_budget, untrained_config
from .starter import StarterModelError
from .terminal import run
from .training.bptt import TrainingDiverged, excerpt_gradients, make_optimizer, update, validation_loss
from .training.card import write_card
from .training.corpus import CorpusError, excerpts, read_corpus, split

OPTIMIZER, PROGRESS, CARD = "optimizer.safetensors", "training.json", "README.md"
# What a person can put right; each carries its sentence.
FAILURES = (AdapterError, CorpusError, StarterModelError, UnsupportedModel, TrainingDiverged, OSError)


@dataclass
class Progress:
    """What a training run has done so far; saved beside the adapter, so that a run resumes.

    command, data, documents, length: what it was asked to do. seconds: spent
    training. losses, validation: (iteration, nats per token). earlier: the runs
    that made the gates this one started from.
    """

    command: str
    data: str
    documents: int
    length: int
    iteration: int = 0
    seconds: float = 0.0
    tokens: int = 0
    peak_bytes: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    earlier: list[dict] = field(default_factory=list)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv)
    stopped = f"Stopped. What was saved is in {args.adapter_path}; run again to resume."
    return run("finetune", lambda: train(args), FAILURES, stopped)


def train(args: argparse.Namespace) -> None:
    """Train from scratch or from the checkpoint in the adapter folder, up to `args.iters`."""
    training, held_out = split(read_corpus([Path(folder) for folder in args.data]))
    model, tokenizer = load_base(args.model)
    folder = Path(args.adapter_path)
    start = Path(args.resume_adapter_file).parent if args.resume_adapter_file else None
    config = read_config(start) if start else _config(args, model)
    if args.max_seq_length < config.layout.capacity + 2:
        raise CorpusError(
            f"Excerpts of {args.max_seq_length} tokens end before anything is folded into memory. "
            f"Choose a --max-seq-length well above {config.layout.capacity}."
        )
    equip(model, config, start, exact_limit=0)
    print(f"Trainable parameters: {parameter_budget(model):.3%} of the model", flush=True)

    optimizer = make_optimizer(args.learning_rate, args.iters)
    optimizer.init(model.trainable_parameters())
    progress = _resume(model, optimizer, folder, config) or _begin(args, len(training), start)
    examples = list(islice(excerpts(held_out, tokenizer, args.max_seq_length, 0), args.val_batches))
    stream = excerpts(training, tokenizer, args.max_seq_length, args.seed)
    remaining = islice(stream, progress.iteration, args.iters)

    def validate() -> None:
        loss = validation_loss(model, examples)
        progress.validation.append((progress.iteration, loss))
        print(f"Iter {progress.iteration}: Val loss {loss:.4f}", flush=True)

    if args.val_batches and progress.iteration == 0:
        validate()
    for tokens in remaining:
        _step(model, optimizer, tokens, progress, args)
        due = progress.iteration == args.iters
        if args.val_batches and (due or progress.iteration % args.steps_per_eval == 0):
            validate()
        if due or progress.iteration % args.save_every == 0:
            _save(model, optimizer, progress, config, folder)


def _step(
    model: nn.Module, optimizer: optim.Optimizer, tokens: list[int], progress: Progress,
    args: argparse.Namespace,
) -> None:  # fmt: skip
    """One excerpt, one update, one line of progress."""
    started = time.perf_counter()
    loss, gradients = excerpt_gradients(model, tokens, args.grad_checkpoint)
    norm = update(model, optimizer, loss, gradients)
    seconds = time.perf_counter() - started
    progress.iteration += 1
    progress.seconds += seconds
    progress.tokens += len(tokens)
    progress.peak_bytes = max(progress.peak_bytes, mx.get_peak_memory())
    progress.losses.append((progress.iteration, loss))
    if progress.iteration % args.steps_per_report == 0:
        left = (args.iters - progress.iteration) * progress.seconds / progress.iteration
        print(
            f"Iter {progress.iteration}: Train loss {loss:.4f}, gradient norm {norm:.3f}, "
            f"{len(tokens) / seconds:.0f} tokens/s, peak memory {progress.peak_bytes / 1e9:.2f} GB, "
            f"{left / 60:.0f} min left",
            flush=True,
        )


def _begin(args: argparse.Namespace, documents: int, start: Path | None) -> Progress:
    """The record of a new run; names of folders only, so that no path of this machine is kept."""
    names = [Path(folder).name for folder in args.data]
    model = f"--model {base_name(args.model)} " if args.model else ""
    command = (
        f"{model}--data {' '.join(names)} --train "
        f"--iters {args.iters} --learning-rate {args.learning_rate} "
        f"--max-seq-length {args.max_seq_length} --seed {args.seed}"
    )
    if start:
        command += f" --resume-adapter-file {start.name}/{WEIGHTS}"
    earlier = []
    if start and (start / PROGRESS).is_file():
        before = json.loads((start / PROGRESS).read_text(encoding="utf-8"))
        earlier = [*before.pop("earlier"), before]
    return Progress(command, ", ".join(names), documents, args.max_seq_length, earlier=earlier)


def _config(args: argparse.Namespace, model: nn.Module) -> AdapterConfig:
    sizes = {k: getattr(args, k) for k in ("kind", "features", "sinks", "window", "segment")}
    return untrained_config(model, base_name(args.model), **sizes)


def _save(
    model: nn.Module, optimizer: optim.Optimizer, progress: Progress, config: AdapterConfig, folder: Path
) -> None:
    save_adapter(model, config, folder)
    save_arrays(folder / OPTIMIZER, dict(tree_flatten(optimizer.state)))
    record = asdict(progress)
    replace_text(folder / PROGRESS, json.dumps(record) + "\n")
    device = "Metal" if mx.metal.is_available() else f"{os.cpu_count()} CPU cores"
    machine = f"{platform.system()} {platform.machine()}, {device}"
    runs = [*record["earlier"], record]
    replace_text(folder / CARD, write_card(config, parameter_budget(model), runs, machine))


def _resume(
    model: nn.Module, optimizer: optim.Optimizer, folder: Path, config: AdapterConfig
) -> Progress | None:
    """Continue from the checkpoint in the folder, if there is one for the same configuration.

    Raises:
        AdapterError: the folder holds gates of another configuration, which would be overwritten.
    """
    if not (folder / PROGRESS).is_file():
        return None
    if read_config(folder) != config:
        raise AdapterError(
            f"{folder} holds gates of another configuration. Choose another --adapter-path."
        )
    fields = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    load_weights(model, config, folder)
    optimizer.state = tree_unflatten(list(mx.load(str(folder / OPTIMIZER)).items()))
    return Progress(**fields)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options, named as in mlx-lm's LoRA script."""
    description = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.finetune", description=description)
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--data", nargs="+", required=True, help="Folders of .txt, .md, .jsonl documents.")
    parser.add_argument("--train", action="store_true", required=True, help="Do training.")
    parser.add_argument("--iters", type=int, default=50, help="Iterations to train for, one excerpt each.")
    parser.add_argument("--learning-rate", type=float, default=0.03, help="Peak learning rate.")
    parser.add_argument("--max-seq-length", type=int, default=4096, help="Tokens of an excerpt.")
    parser.add_argument("--val-batches", type=int, default=6, help="Validation excerpts; 0 for none.")
    parser.add_argument("--steps-per-report", type=int, default=1, help="Iterations between reports.")
    parser.add_argument("--steps-per-eval", type=int, default=200, help="Iterations between validations.")
    parser.add_argument("--save-every", type=int, default=5, help="Iterations between checkpoints.")
    parser.add_argument("--adapter-path", default="adapters", help="Folder for the trained gates.")
    parser.add_argument("--resume-adapter-file", help="Start from these trained gates.")
    parser.add_argument("--grad-checkpoint", action="store_true", help="Recompute layers to save memory.")
    parser.add_argument("--seed", type=int, default=0, help="The PRNG seed.")
    parser.add_argument("--kind", choices=("centroids", "exponential", "linear"), default="centroids")
    parser.add_argument("--features", type=int, default=256, help="Size of the memory per kv head.")
    parser.add_argument("--sinks", type=int, default=4, help="First tokens kept exactly.")
    parser.add_argument("--window", type=int, default=512, help="Last tokens kept exactly.")
    parser.add_argument("--segment", type=int, default=512, help="Tokens read at a time.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
