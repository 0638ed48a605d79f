"""mlx-edgeinf follow: a text that grows, summarised as it comes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from ..documents import Pipe, Tail, opened
from ..follow import (
    EVERY_TOKENS,
    PAUSE_SECONDS,
    FollowEvent,
    Following,
    Notice,
    Rule,
    Update,
    known_text,
    new_text,
)
from ..library import Library
from ..terminal import positive
from .console import moved, stoppable, token_bar
from .sitting import load_engine

DESCRIPTION = f"""
Read a file that is being written, or a pipe, as it comes. A summary of all of it is printed again
after {EVERY_TOKENS:,} new tokens (--every), and after {PAUSE_SECONDS:.0f} seconds in which nothing
came (--pause) if anything is new. Ctrl-C, or the end of the pipe, ends it with a last summary. The
text stays in the library like any document; the same file, followed again, goes on where it was.
"""


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Add the options of `follow`, beside those of a model and the library."""
    parser.description = DESCRIPTION
    parser.add_argument("file", help="A text that is being written; - is text from stdin.")
    parser.add_argument("--every", type=positive, default=EVERY_TOKENS, help="New tokens between summaries.")
    parser.add_argument("--pause", type=float, default=PAUSE_SECONDS, help="Seconds without text before one.")
    parser.add_argument("--revise", action="store_true", help="Each summary revises the one before.")
    parser.add_argument("--max-tokens", type=positive, default=256, help="Length of a summary at most.")
    parser.add_argument("--json", action="store_true", help="Print a line of JSON for each summary.")
    parser.set_defaults(work=follow)


def follow(args: argparse.Namespace) -> None:
    """Print a summary for each update. Ctrl-C is the usual end; a failure only where text was left unread."""
    rule = Rule(args.every, args.pause, args.revise, args.max_tokens)
    with closing(Library(args.library)) as library:
        if args.file != "-":
            opened(Path(args.file))  # what cannot be followed is told before the model is loaded
        with closing(load_engine(args)) as engine, stoppable() as cancel:
            text, start = (new_text(), 0) if args.file == "-" else known_text(library, Path(args.file))
            source = Pipe(sys.stdin.buffer) if args.file == "-" else Tail(Path(args.file), start)
            with closing(source):
                following = Following(engine, library, text, source, rule, cancel)
                last = shown(following.run(), args.json)
    if last.receipt.stopped:
        raise KeyboardInterrupt


def shown(events: Iterable[FollowEvent], as_json: bool) -> Update:
    """Show the events of a text that is followed; returns the last summary."""
    with token_bar() as bar:
        for event in events:
            moved(bar, event)
            match event:
                case Notice(text):
                    bar.write(text, file=sys.stderr)
                case Update():
                    bar.clear()
                    _print(event, as_json)
    return event


def _print(update: Update, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(update)), flush=True)
    else:
        print(f"{update.summary}\n", flush=True)
        print(f"{update.receipt.sentence()}\n", file=sys.stderr)
