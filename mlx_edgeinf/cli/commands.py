"""The commands and their options."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from ..chat import Turn
from ..document_memory import SaveFileError
from ..documents import DocumentError
from ..library import Library, LibraryError
from ..summarize import STRATEGIES
from ..support import Evidence, cited, sentences
from ..terminal import positive, run
from . import __doc__ as description
from .console import stoppable, streamed, written
from .following import add_follow
from .offers import add_models
from .shelves import add_library
from .sitting import Sitting, UnusableEngine, load_engine

LIBRARY = "Folder of the library; the user's own if not given."
FAILURES = (DocumentError, LibraryError, SaveFileError, UnusableEngine, OSError)


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 on success, 1 with one sentence on stderr if it cannot, 130 if it was stopped."""
    args = parse(argv)
    stopped = "Stopped. What was read is in the library: the same command goes on from there."
    return run(f"mlx-edgeinf {args.command}", lambda: args.work(args), FAILURES, stopped)


def summarize(args: argparse.Namespace) -> None:
    """Read files to their end, or on from where an earlier run was stopped, and summarise them."""
    with Sitting(args) as sitting:
        finished = sitting.summarize(args.strategy, args.max_tokens)
    evidence = Evidence([page.text for page in sitting.document.pages])
    if args.json:
        said = [finished.summary[start:end] for start, end in sentences(finished.summary)]
        support = [{"sentence": each, "pages": evidence.pages(each)} for each in said]
        written({"summary": finished.summary, "support": support, "receipt": asdict(finished.receipt)})
    else:
        print(cited(finished.summary, evidence.supporting, sitting.document.pages))
        print(finished.receipt.sentence(), file=sys.stderr)
    if finished.receipt.stopped:
        raise KeyboardInterrupt


def chat(args: argparse.Namespace) -> None:
    """Answer the questions given, or those that are typed, a line each, until the input ends.

    Ctrl-C ends an answer, and with it the questions that were given, but not those that are typed.
    """
    turns: list[Turn] = []
    stopped = False
    with Sitting(args) as sitting:
        conversation = sitting.conversation(args.by_page)
        for question in args.question or typed():
            with stoppable() as cancel:
                answers = conversation.ask(question, args.max_tokens, cancel)
                if args.json:
                    deque(answers, maxlen=0)
                else:
                    streamed(answers)
            turns.append(conversation.keep())
            if stopped := cancel.is_set() and bool(args.question):
                break
    if args.json:
        written([asdict(turn) for turn in turns])
    if stopped:
        raise KeyboardInterrupt


def serve(args: argparse.Namespace) -> None:
    """Open the page, as `python app.py` does, or the API."""
    if args.api:
        from ..server.serve import serve as serve_api

        with closing(Library(args.library)) as library:
            serve_api(lambda: load_engine(args), library, args.host, args.port, args.api_key_file)
        return
    from ..ui.open import open_page

    open_page(
        args.model, args.adapter, args.memory_mb, args.recall_gb, args.library, args.port,
        not args.no_browser,
    )  # fmt: skip


def typed() -> Iterator[str]:
    """Questions from stdin, with a prompt if somebody types them."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            question = input().strip()
        except EOFError:
            return
        if question:
            yield question


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command-line options; `work` is what to do with them."""
    parser = argparse.ArgumentParser(
        "mlx-edgeinf", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    summary = commands.add_parser("summarize", help="Summarise documents.")
    _reading(summary)
    summary.add_argument("--strategy", choices=tuple(STRATEGIES), default="one-shot", help="Way to do it.")
    summary.set_defaults(work=summarize)
    talk = commands.add_parser("chat", help="Ask about documents.")
    _reading(talk)
    talk.add_argument("--question", action="append", help="May be repeated; typed if not given.")
    talk.add_argument(
        "--by-page", type=positive, help="Ask as of this page, or of the last before it that was kept."
    )
    talk.set_defaults(work=chat)
    growing = commands.add_parser("follow", help="Summarise a text that grows, as it comes.")
    _model(growing)
    growing.add_argument("--library", type=Path, help=LIBRARY)
    add_follow(growing)
    add_library(commands)
    add_models(commands)
    serving = commands.add_parser("serve", help="Open the page in a browser, or an OpenAI-compatible API.")
    _serving(serving)
    args = parser.parse_args(argv)
    if "-" in getattr(args, "files", ()) and args.ocr:
        commands.choices[args.command].error("text from stdin has no scanned pages: leave --ocr out")
    if args.command == "chat" and "-" in args.files and not args.question:
        talk.error("the document comes from stdin, so questions cannot be typed: ask with --question")
    if args.command == "serve" and not args.api and (args.host or args.api_key_file):
        serving.error("only this machine reaches the page: --host and --api-key-file are for --api")
    return args


def _serving(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("--port", type=int, help="Of the page the first free one, of the API 8080.")
    parser.add_argument("--no-browser", action="store_true", help="Do not open a browser window.")
    parser.add_argument("--library", type=Path, help=LIBRARY)
    api = parser.add_argument_group("instead of the page, for OpenAI's clients")
    api.add_argument("--api", action="store_true", help="Serve http://127.0.0.1:8080/v1.")
    api.add_argument("--host", help="Address; this machine's own if not given, others need a key.")
    api.add_argument(
        "--api-key-file", type=Path,
        help="File of the key to ask for, made if missing; else MLX_EDGEINF_API_KEY.",
    )
    parser.set_defaults(work=serve)


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", help="Documents, read as one collection; - is text from stdin.")
    _model(parser)
    parser.add_argument("--max-tokens", type=positive, default=256, help="Length of an answer at most.")
    parser.add_argument("--library", type=Path, help=LIBRARY)
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    parser.add_argument("--ocr", action="store_true", help="Recognise the text of scanned pages.")


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="Local folder or hub id; the starter model if not given.")
    parser.add_argument("--adapter", help="Folder of trained gates; else those beside the model or shipped.")
    parser.add_argument("--memory-mb", type=float, help="Megabytes that a document's state may take.")
    parser.add_argument(
        "--recall-gb", type=float,
        help="Gigabytes that a document's pages for exact recall may take on disk; 0 is without. If not "
        "given, 8, or a quarter of what is free if that is more.",
    )  # fmt: skip
