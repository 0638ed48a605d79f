"""mlx-edgeinf library: what was read, found, renamed, deleted, and carried to another machine."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..library import Entry, Library, LibraryError
from ..wording import count, counted, percent, size
from .console import written


def add_library(commands: argparse._SubParsersAction) -> None:
    """Add `library` and what can be done with it; without more it lists the documents."""
    parser = commands.add_parser("library", help="List, search and tend what was read.")
    parser.set_defaults(work=_opened(listed), library=None, json=False)
    _common(parser)
    actions = parser.add_subparsers(dest="action")
    finding = _action(actions, "search", searched, "Find words in names, pages and summaries.")
    finding.add_argument("words", nargs="+")
    showing = _action(actions, "show", shown, "Print the summaries and chats of a document.")
    showing.add_argument("id", type=int)
    renaming = _action(actions, "rename", renamed, "Give a document another name.")
    renaming.add_argument("id", type=int)
    renaming.add_argument("name")
    deleting = _action(actions, "delete", deleted, "Delete a document and all that was made of it.")
    deleting.add_argument("id", type=int)
    leaving = _action(actions, "export", exported, "Write a document, as it was read, to one file.")
    leaving.add_argument("id", type=int)
    leaving.add_argument("file", type=Path)
    leaving.add_argument("--with-original", action="store_true", help="The file it was read from as well.")
    _action(actions, "import", imported, "Take over what was exported.").add_argument("file", type=Path)


def listed(library: Library, args: argparse.Namespace) -> None:
    """A line for each document."""
    entries = [_fields(library, entry) for entry in library.entries()]
    if args.json:
        written(entries)
        return
    for entry in entries:
        print(f"{entry['id']:>4}  {entry['name']}: {entry['what']}")


def searched(library: Library, args: argparse.Namespace) -> None:
    """A line for each place."""
    hits = library.search(" ".join(args.words))
    if args.json:
        written([asdict(hit) for hit in hits])
        return
    for hit in hits:
        place = f", page {count(hit.number)}" if hit.kind == "page" else ""
        print(f"{hit.document:>4}  {hit.name}{place}: {hit.excerpt}")


def shown(library: Library, args: argparse.Namespace) -> None:
    """Summaries, each with its receipt, and chats."""
    entry = library.entry(args.id)
    summaries, chats = library.summaries(entry.id), library.chats(entry.id)
    if args.json:
        written({
            "summaries": [{"text": each.text, "receipt": asdict(each.receipt)} for each in summaries],
            "chats": [[asdict(turn) for turn in chat.turns] for chat in chats],
        })  # fmt: skip
        return
    for summary in summaries:
        print(f"{summary.text}\n\n{summary.receipt.sentence()}\n")
    for turn in (turn for chat in chats for turn in chat.turns):
        print(f"> {turn.question}\n{turn.answer}\n")


def renamed(library: Library, args: argparse.Namespace) -> None:
    """Another name."""
    library.rename(library.entry(args.id).id, args.name)
    _done(library, library.entry(args.id), args)


def deleted(library: Library, args: argparse.Namespace) -> None:
    """Gone; what is told is how it was."""
    entry = _fields(library, library.entry(args.id))
    library.delete(args.id)
    if args.json:
        written(entry)


def exported(library: Library, args: argparse.Namespace) -> None:
    """One file; never in place of another."""
    if args.file.exists():
        raise LibraryError(f"{args.file} exists already: choose another name.")
    library.export(args.id, args.file, args.with_original)
    _done(library, library.entry(args.id), args)


def imported(library: Library, args: argparse.Namespace) -> None:
    """Into the library; says its number there."""
    entry = library.take_over(args.file)
    if not args.json:
        print(f"{entry.id:>4}  {entry.name}")
    _done(library, entry, args)


def _done(library: Library, entry: Entry, args: argparse.Namespace) -> None:
    """Tell another program of the document that something was done with."""
    if args.json:
        written(_fields(library, entry))


def _fields(library: Library, entry: Entry) -> dict[str, Any]:
    """What a list says of a document."""
    whole = [reading for reading in library.readings(entry.id) if reading.whole]
    read = max((reading.position / reading.tokens for reading in whole), default=0.0)
    summaries, used = len(library.summaries(entry.id)), library.disk_use(entry.id).total
    parts = [counted(entry.pages, "page"), f"{percent(read)} read"]
    # The plural of summary is not made with an s alone.
    parts += [f"{summaries} {'summary' if summaries == 1 else 'summaries'}", size(used)]
    return {
        "id": entry.id, "name": entry.name, "pages": entry.pages, "read": read,
        "summaries": summaries, "bytes": used, "what": ", ".join(parts),
    }  # fmt: skip


def _action(
    actions: argparse._SubParsersAction, name: str, work: Callable[..., None], about: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=about)
    parser.set_defaults(work=_opened(work))
    _common(parser)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    """Options that may stand before or behind the action: unset, they leave what was set before."""
    own = argparse.SUPPRESS
    parser.add_argument("--library", type=Path, default=own, help="Its folder; the user's own if not given.")
    parser.add_argument("--json", action="store_true", default=own, help="Print JSON.")


def _opened(work: Callable[[Library, argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Work on the library that the options name."""

    def on_library(args: argparse.Namespace) -> None:
        with closing(Library(args.library)) as library:
            work(library, args)

    return on_library
