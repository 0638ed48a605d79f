"""Long documents to train and measure on.

A corpus is one or more folders: `.txt` and `.md` files anywhere under them are one document
each, and so is every line of a `.jsonl` file and every `.json` file, in any of the forms of
`formats`. READMEs and licences are left out. Files called train.*, valid.* and test.* (or
folders train/, valid/, test/) separate training from validation, and test documents are
neither; without validation documents every tenth document is kept for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .formats import Exercise, FormatError, parse

PLAIN = {".txt", ".md"}
ABOUT = {"README", "LICENSE", "LICENCE"}

Corpus = dict[str, str | Exercise]


class CorpusError(ValueError):
    """Training data that cannot be used; the message names the file."""


def read_corpus(folders: Sequence[Path]) -> Corpus:
    """Documents by name, of all folders; with several, a folder's name leads its documents' names.

    Raises:
        CorpusError: nothing to read there, a file that cannot be read, or a record of unknown form.
    """
    documents: Corpus = {}
    for folder in folders:
        lead = Path(folder.resolve().name) if len(folders) > 1 else Path()
        for path in sorted(folder.rglob("*")):
            for name, document in _documents_of(path, str(lead / path.relative_to(folder))):
                if name in documents:
                    raise CorpusError(f"Two documents are called {name}: rename one.")
                documents[name] = document
    if not documents:
        raise CorpusError(f"No .txt, .md, .jsonl or .json documents found in {', '.join(map(str, folders))}.")
    return documents


def split(documents: Corpus, hold_out: bool = True) -> tuple[Corpus, Corpus]:
    """Training and validation documents; what is called test is neither.

    hold_out: keep some for validation where none are called so.
    """
    documents = {name: document for name, document in documents.items() if not _called("test", name)}
    held_out = {name for name in documents if _called("valid", name)}
    held_out = held_out or set(sorted(documents)[9::10] if hold_out else ())
    train = {name: document for name, document in documents.items() if name not in held_out}
    return train, {name: documents[name] for name in sorted(held_out)}


def _called(part: str, name: str) -> bool:
    """Whether a document's file, or a folder it lies in, is the `part` of its corpus."""
    return any(each.split(".")[0] == part for each in Path(name).parts)


def _documents_of(path: Path, name: str) -> Iterator[tuple[str, str | Exercise]]:
    try:
        yield from _read(path, name)
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read ({error.strerror or error}): check that you may read it."
        ) from error


def _read(path: Path, name: str) -> Iterator[tuple[str, str | Exercise]]:
    """The documents of one file, with their names."""
    if path.suffix in PLAIN and path.stem.upper() not in ABOUT:
        yield name, path.read_text(encoding="utf-8", errors="replace")
    elif path.suffix == ".json":
        yield name, _parse(path.read_text(encoding="utf-8-sig", errors="replace"), str(path))
    elif path.suffix == ".jsonl":
        # Not splitlines(), which also splits at separators that JSON allows inside a text.
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                yield f"{name}:{number}", _parse(line, f"Line {number} of {path}")


def _parse(line: str, place: str) -> str | Exercise:
    try:
        return parse(line)
    except FormatError as error:
        raise CorpusError(f"{place} {error}") from error
