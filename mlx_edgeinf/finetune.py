"""python -m mlx_edgeinf.finetune: train the gates of a model, and nothing else.

Flag names are those of mlx-lm's LoRA script. Each process reads one excerpt of a long
document an iteration, segment by segment (see `training`); several share the work:

    python -m mlx_edgeinf.finetune --model MODEL --data FOLDER --train
    mlx.launch -n 2 -- python -m mlx_edgeinf.finetune --model MODEL --data FOLDER --train
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from .adapter import WEIGHTS, AdapterConfig, AdapterError, read_config
from .basemodel import UnsupportedModel, trained_context
from .gate import FORMS
from .kinds import KINDS
from .models import base_name, equip, load_base, untrained_config
from .pagestore.errors import StoreError
from .starter import StarterModelError
from .terminal import positive, run
from .training.blocks import chunked, recomputed
from .training.bptt import TrainingDiverged, make_optimizer
from .training.checkpoint import Progress, resume, runs_before, trained_share
from .training.corpus import Corpus, CorpusError, read_corpus, split
from .training.excerpts import Excerpt, Lessons, excerpts
from .training.formats import Exercise
from .training.loss import Objective
from .training.recalling import learn_recall
from .training.rendering import Renderer, teaching
from .training.run import Training
from .training.sharing import WAYS

# What a run may go on with that it did not begin with.
_MAY_CHANGE = re.compile(r"--(iters|learning-rate) \S+ ?")
# Options that are fields of `AdapterConfig`.
SIZES = ("kind", "features", "sinks", "window", "segment", "gate")

# What a person can put right; each carries its sentence.
FAILURES = (
    AdapterError, CorpusError, StarterModelError, UnsupportedModel, TrainingDiverged, StoreError, OSError,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv)
    stopped = f"Stopped. What was saved is in {args.adapter_path}; run again to resume."
    return run("mlx_edgeinf.finetune", lambda: train(args), FAILURES, stopped)


def train(args: argparse.Namespace) -> None:
    """Train from scratch or from the checkpoint in the adapter folder, up to `args.iters`."""
    training, examples, left_out = prepare(args, read_corpus([Path(folder) for folder in args.data]))
    if training.chief:
        share = trained_share(training.model, args.share)
        print(f"Trainable parameters: {share:.3%} of the model", flush=True)
        if left_out:
            print(f"Answers left out (read before there is a memory, or too long): {left_out}", flush=True)
        if args.val_batches and not examples:
            print("No held-out document fills an excerpt: there is no validation.", flush=True)
    if examples and training.progress.iteration == 0:
        training.validate(examples)
    while (iteration := training.progress.iteration + 1) <= args.iters:
        report = training.step()
        if training.chief and iteration % args.steps_per_report == 0:
            print(report, flush=True)
        due = iteration == args.iters
        if examples and (due or iteration % args.steps_per_eval == 0):
            training.validate(examples)
        if due or iteration % args.save_every == 0:
            training.save()


def prepare(args: argparse.Namespace, corpus: Corpus) -> tuple[Training, list[Excerpt], int]:
    """A training run, this process's validation excerpts, and how many answers teach nothing.

    args: options as `parse` gives them. corpus: what `args.data` names.

    Raises:
        CorpusError, AdapterError, UnsupportedModel, StarterModelError: it cannot begin or be resumed.
    """
    world = mx.distributed.init()
    if args.recall and args.grad_checkpoint:
        raise AdapterError("Where pages come back nothing is read twice: leave --grad-checkpoint out.")
    taught, held_out = split(corpus, hold_out=args.val_batches > 0)
    model, tokenizer = load_base(args.model)
    start = Path(args.resume_adapter_file).parent if args.resume_adapter_file else None
    if start and args.share:
        raise AdapterError("--share begins with untrained gates: leave it or --resume-adapter-file out.")
    config = read_config(start) if start else _config(args, model)
    _check_lengths(args, config.layout.capacity, trained_context(model))
    renderer = Renderer(tokenizer, args.max_seq_length, config.layout.capacity)
    (taught, left_out), (held_out, _) = teaching(taught, renderer), teaching(held_out, renderer)
    mx.random.seed(args.seed)
    equip(model, config, start, exact_limit=0)
    if args.recall:
        learn_recall(model)
    optimizer = make_optimizer(args.learning_rate, args.iters)
    optimizer.init(model.trainable_parameters())
    begun = _begin(args, taught, world.size(), start)
    progress = resume(model, optimizer, Path(args.adapter_path), config) or begun
    _go_on(progress, begun.command, args.adapter_path)

    def own(documents: Corpus, seed: int) -> Iterator[Excerpt]:
        """Of a stream that all processes share, every one's part."""
        stream = excerpts(documents, renderer, seed, args.learn_last, args.answers)
        return islice(stream, world.rank(), None, world.size())

    lessons = Lessons(model, own(taught, args.seed), args.num_excerpts, with_teacher=args.distill > 0)
    examples = _examples(own, held_out, args.val_batches, world.size())
    training = Training(
        model, optimizer, lessons, progress, config, Path(args.adapter_path), args.iters,
        args.learning_rate, Objective(args.distill), recomputed if args.grad_checkpoint else chunked,
        args.share,
    )  # fmt: skip
    return training, examples, left_out


def _go_on(progress: Progress, command: str, folder: str) -> None:
    """See that a run goes on as it began; to another end or at another rate, which its record tells.

    Raises:
        AdapterError: it would not.
    """
    *_, latest = progress.command.split("\n")
    if _MAY_CHANGE.sub("", latest) != _MAY_CHANGE.sub("", command):
        raise AdapterError(
            f"{folder} holds gates of another run. Go on as it began, by `{latest}`, or choose another "
            "--adapter-path."
        )
    if latest != command:
        progress.command += f"\n{command}"


def _check_lengths(args: argparse.Namespace, capacity: int, context: int) -> None:
    """See that excerpts have something to teach. capacity: tokens before there is a memory.

    Raises:
        CorpusError: they have not.
    """
    if args.max_seq_length < capacity + 2:
        raise CorpusError(
            f"Excerpts of {args.max_seq_length} tokens end before anything is folded into memory. "
            f"Choose a --max-seq-length well above {capacity}."
        )
    if args.learn_last is not None and args.learn_last < 1:
        raise CorpusError("--learn-last counts tokens: choose 1 or more, 3072 for instance.")
    if args.answers < 1:
        raise CorpusError("--answers counts those that are learnt from one reading: choose 1 or more.")
    if args.distill and args.max_seq_length > context:
        raise CorpusError(
            f"Full attention knows {context} positions and has nothing to teach beyond: choose a "
            "--max-seq-length up to that, or leave --distill out."
        )


def _examples(
    own: Callable[[Corpus, int], Iterator[Excerpt]], held_out: Corpus, batches: int, processes: int
) -> list[Excerpt]:
    """A process's part of the validation excerpts; none if no document is held out, or long enough."""
    each = -(-batches // processes)
    try:
        return list(islice(own(held_out, 0), each)) if held_out else []
    except CorpusError:
        return []


def _begin(args: argparse.Namespace, taught: Corpus, processes: int, start: Path | None) -> Progress:
    """The record of a new run; names of folders only, so that no path of this machine is kept."""
    names = [Path(folder).name for folder in args.data]
    sizes = {f"--{name}": getattr(args, name) for name in SIZES}
    options = {
        "--model": base_name(args.model) if args.model else None,
        "--data": " ".join(names),
        "--train": "",
        "--iters": args.iters,
        "--learning-rate": args.learning_rate,
        "--max-seq-length": args.max_seq_length,
        "--learn-last": args.learn_last,
        "--answers": args.answers if any(isinstance(each, Exercise) for each in taught.values()) else None,
        "--num-excerpts": args.num_excerpts,
        "--distill": args.distill or None,
        **({} if start else sizes),
        "--share": args.share,
        "--recall": "" if args.recall else None,
        "--grad-checkpoint": "" if args.grad_checkpoint else None,
        "--seed": args.seed,
        "--resume-adapter-file": f"{start.name}/{WEIGHTS}" if start else None,
    }
    given = " ".join(f"{name} {value}".strip() for name, value in options.items() if value is not None)
    launcher = "python" if processes == 1 else f"mlx.launch -n {processes} -- python"
    return Progress(
        command=f"{launcher} -m mlx_edgeinf.finetune {given}",
        data=", ".join(names),
        documents=len(taught),
        length=args.max_seq_length,
        counted=args.learn_last,
        share=args.share,
        earlier=runs_before(start),
    )


def _config(args: argparse.Namespace, model: nn.Module) -> AdapterConfig:
    sizes = {name: getattr(args, name) for name in SIZES}
    return untrained_config(model, base_name(args.model), **sizes)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options, named as in mlx-lm's LoRA script."""
    description = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m mlx_edgeinf.finetune", description=description)
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--data", nargs="+", required=True, help="Folders of .txt, .md, .jsonl, .json.")
    parser.add_argument("--train", action="store_true", required=True, help="Do training.")
    parser.add_argument("--iters", type=positive, default=50, help="Iterations to train for.")
    parser.add_argument("--learning-rate", type=float, default=0.02, help="Peak learning rate.")
    parser.add_argument("--max-seq-length", type=positive, default=4096, help="Tokens of an excerpt.")
    parser.add_argument("--learn-last", type=int, help="Of each, the last that count; see README.")
    parser.add_argument("--answers", type=int, default=8, help="Learnt from one reading of a document.")
    parser.add_argument("--val-batches", type=int, default=6, help="Validation excerpts; 0 for none.")
    parser.add_argument("--steps-per-report", type=positive, default=1, help="Iterations between two.")
    parser.add_argument("--steps-per-eval", type=positive, default=200, help="Iterations between two.")
    parser.add_argument("--save-every", type=positive, default=5, help="Iterations between checkpoints.")
    parser.add_argument("--adapter-path", default="adapters", help="Folder for the trained gates.")
    parser.add_argument("--resume-adapter-file", help="Start from these trained gates.")
    parser.add_argument("--distill", type=float, default=0.0, help="Share of full attention in the loss.")
    parser.add_argument("--num-excerpts", type=positive, help="Excerpts to take turns; endless if not given.")
    parser.add_argument("--share", choices=WAYS, help="What gates have in common; nothing if not given.")
    parser.add_argument("--recall", action="store_true", help="Train the gates of exact recall instead.")
    parser.add_argument("--grad-checkpoint", action="store_true", help="Recompute layers to save memory.")
    parser.add_argument("--seed", type=int, default=0, help="The PRNG seed.")
    parser.add_argument("--kind", choices=tuple(KINDS), default="centroids")
    parser.add_argument("--features", type=positive, default=500, help="Size of the memory per kv head.")
    parser.add_argument("--gate", choices=tuple(FORMS), default="full", help="Terms of the gate.")
    parser.add_argument("--sinks", type=int, default=4, help="First tokens kept exactly.")
    parser.add_argument("--window", type=positive, default=512, help="Last tokens kept exactly.")
    parser.add_argument("--segment", type=positive, default=512, help="Tokens read at a time.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
