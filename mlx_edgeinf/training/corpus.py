"""Long documents to train and measure on.

A corpus is one or more folders: `.txt` and `.md` files anywhere under them are one document
each, every line of a `.jsonl` file is one in its "text" field (mlx-lm's format).
Files called train.* and valid.* (or folders train/, valid/) separate training
from validation; without them every tenth document is kept for validation.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

PLAIN = {".txt", ".md"}


class CorpusError(ValueError):
    """Training data that cannot be used; the message names the file."""


def read_corpus(folders: Sequence[Path]) -> dict[str, str]:
    """Documents by name, of all folders.

    Raises:
        CorpusError: nothing to read there, or a line that is not what mlx-lm expects.
    """
    documents: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if name in documents:
                raise CorpusError(f"Two documents are called {name}: rename one.")
            if path.suffix in PLAIN and path.stem != "README":
                documents[name] = path.read_text(encoding="utf-8", errors="replace")
            elif path.suffix == ".jsonl":
                documents.update(_read_lines(path, name))
    if not documents:
        raise CorpusError(f"No .txt, .md or .jsonl documents found in {', '.join(map(str, folders))}.")
    return documents


def split(documents: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Training and validation documents."""
    held_out = {name for name in documents if Path(name).parts[0].split(".")[0] == "valid"}
    held_out = held_out or set(sorted(documents)[9::10])
    train = {name: text for name, text in documents.items() if name not in held_out}
    return train, {name: documents[name] for name in sorted(held_out)}


def excerpts(documents: dict[str, str], tokenizer, length: int, seed: int) -> Iterator[list[int]]:
    """Endless random excerpts of `length` tokens; each document is as likely as any other.

    Raises:
        CorpusError: no document is that long.
    """
    rng = random.Random(seed)
    long_enough = {name: text for name, text in documents.items() if len(text) > 6 * length}
    if not long_enough:
        raise CorpusError(f"No document is long enough for excerpts of {length} tokens.")
    names = sorted(long_enough)
    while True:
        text = long_enough[rng.choice(names)]
        # English runs at 3-5 characters a token: 6 leave a margin, checked below.
        start = rng.randrange(len(text) - 6 * length + 1)
        tokens = tokenizer.encode(text[start : start + 6 * length], add_special_tokens=False)
        # The first token may be half a word.
        if len(tokens) > length:
            yield tokens[1 : length + 1]


def _read_lines(path: Path, name: str) -> dict[str, str]:
    documents = {}
    # Not splitlines(), which also splits at separators that JSON allows inside a text.
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                documents[f"{name}:{number}"] = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise CorpusError(
                    f'Line {number} of {path} is not a JSON object with a "text" field.'
                ) from error
    return documents
