"""Invented facts in one long reading, asked for at several lengths from forks of it.

Books are read one behind the other. For each length of LADDER, FACTS facts were hidden in the text up to
there, evenly; when the reading gets there each of them is asked for. What can answer from the same
reading is asked of the same forks: with exact recall and without.

    picked    whether the right number is the likeliest one of the numbers of all facts asked with it

The facts of other lengths, and the same building or place in other facts, are there to distract.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import mean

import mlx.core as mx
import numpy as np
from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..cache import EdgeCache, forked, state_bytes
from ..document_memory import DocumentMemory, SaveFileError
from ..documents import Document, Page
from ..generation import read_on
from ..recall import keep, writing
from ..savefile import begin_pages, load_memory, save_memory
from ..training.corpus import CorpusError, read_corpus
from ..turns import Prompter
from ..wording import count, size
from .answers import log_probability
from .gap import FULL, GATED, OURS, RECALL, RECALL_ALONE, ROWS, WINDOW, check_finished
from .passages import text_of
from .readings import QUOTA, Reader
from .results import Results, described
from .sides import UNTIMED, decode
from .subject import Subject
from .tables import markdown, with_interval
from .tasks import PLACES

LADDER = (8192, 32768, 131072, 1048576)
FACTS = 20
BUILDINGS = ("archive", "harbour", "museum", "station")
FACT = " The access code of the {building} in {place} is {number}."
QUESTION = "What is the access code of the {building} in {place}? Answer with the number alone."

# Ways of reading, and the rows that are asked from its forks.
READINGS = {FULL: (FULL,), RECALL: (RECALL, OURS), RECALL_ALONE: (RECALL_ALONE, WINDOW)}
# Kept free of each length, for a question and its answer.
ASKING = 256
# Tokens between two times that a reading is kept on disk.
KEPT = 1 << 15


@dataclass(frozen=True)
class Fact:
    """What was hidden, and what is asked. depth: share of the text before it."""

    sentence: str
    question: str
    number: str
    depth: float


@dataclass(frozen=True)
class Text:
    """Tokens of books with facts in them, and the facts by the length at which they are asked for."""

    tokens: list[int]
    facts: dict[int, list[Fact]]


def hide(
    book: Iterable[int], tokenizer: TokenizerWrapper, length: int, ladder: Sequence[int]
) -> Text:
    """The first tokens of a book with facts in them, `length` together.

    The text is the same for all lengths, as far as it goes.

    Raises:
        CorpusError: the book is too short.
    """
    facts, prompter = dict(_facts(ladder)), Prompter(tokenizer)
    places = [(int(fact.depth * at), fact) for at, some in facts.items() for fact in some]
    ends = {tokenizer.encode(mark, add_special_tokens=False)[-1] for mark in ".!?;"}
    tokens, source = list(prompter.opening), iter(book)
    for place, fact in sorted(places, key=lambda each: each[0]):
        for token in source:
            tokens.append(token)
            if len(tokens) >= min(place, length) and token in ends:
                break
        tokens += prompter.text(fact.sentence)
        if len(tokens) >= length:
            break
    tokens += islice(source, max(length - len(tokens), 0))
    if len(tokens) < length:
        raise CorpusError(f"The texts have {len(tokens)} tokens together and {length} are to be read.")
    return Text(tokens[:length], facts)


def _facts(ladder: Sequence[int]) -> Iterator[tuple[int, list[Fact]]]:
    """Facts by length, evenly deep; no two alike in place and building, and none in number."""
    rng = random.Random(0)
    about = iter(rng.sample(list(product(BUILDINGS, PLACES)), FACTS * len(ladder)))
    numbers = iter(rng.sample(range(10_000, 100_000), FACTS * len(ladder)))
    for length in ladder:
        facts = []
        for at, (building, place), number in zip(range(FACTS), about, numbers):
            words = {"building": building, "place": place, "number": number}
            depth = (at + 0.5) / FACTS
            facts.append(Fact(FACT.format(**words), QUESTION.format(**words), str(number), depth))
        yield length, facts


def books(folder: Path, tokenizer: TokenizerWrapper) -> Iterator[int]:
    """Tokens of all texts of a folder, one behind the other in the order of their names."""
    for _, document in sorted(read_corpus([folder]).items()):
        yield from tokenizer.encode(text_of(document) + "\n\n", add_special_tokens=False)


class Asker:
    """Reads a text in each way and asks for its facts.

    Args:
        subject: the model. text: what is read.
        kept: folder in which the reading RECALL is kept, to go on after a stop; None for nowhere.
    """

    def __init__(self, subject: Subject, text: Text, kept: Path | None = None):
        self._model, self._prompter = subject.model, Prompter(subject.tokenizer)
        self._text, self._kept = text, kept
        self._reader = Reader(subject.model, subject.untrained, {}, first=0, throughout=False)

    def measure(self, way: str, lengths: list[int]) -> Iterator[tuple[int, str, dict]]:
        """Read in one way, and ask at each length in all rows of it; length, row and entry.

        Raises:
            SaveFileError: what was kept of the reading cannot be used.
            StoreError: the pages on disk failed.
        """
        with self._reading(way, lengths) as memory:
            for length in lengths:
                began = time.perf_counter()
                mx.reset_peak_memory()
                self._read(memory, length)
                read = {"seconds": time.perf_counter() - began, "peak_bytes": mx.get_peak_memory()}
                for row in READINGS[way]:
                    yield length, row, read | self._asked(memory.cache, row, length)

    @contextmanager
    def _reading(self, way: str, lengths: list[int]) -> Iterator[DocumentMemory]:
        """A reading that has not come beyond the first of the lengths."""
        if way == RECALL and self._kept:
            memory = self._resumed(before=lengths[0])
            with closing(memory.pages), writing(memory.pages):
                yield memory
        else:
            with self._reader.caches(way, lengths[-1] + ASKING) as cache:
                yield self._memory(cache)

    def _memory(self, cache: list[EdgeCache]) -> DocumentMemory:
        tokens = self._text.tokens
        document = Document("the books", hashlib.sha256(repr(tokens).encode()).hexdigest(), (Page(1, ""),))
        return DocumentMemory(document, tokens, [len(tokens)], cache)

    def _resumed(self, before: int) -> DocumentMemory:
        """The reading that was kept, if it can be read on to a length; else one that begins."""
        memory = self._memory(self._model.make_cache(exact_limit=0))
        file, pages = self._kept / "memory", self._kept / "pages"
        if file.exists():
            found = load_memory(file, self._model, memory.document, pages, QUOTA)
            if found.refused or found.position <= before:
                return _with_pages(found)
            found.pages.close()
        begin_pages(self._model, memory, pages, QUOTA)
        return _with_pages(memory)

    def _read(self, memory: DocumentMemory, length: int) -> None:
        """Read on to a length."""
        while memory.position < length:
            tokens = memory.tokens[memory.position : min(memory.position + memory.next_segment, length)]
            read_on(self._model, mx.array(tokens), memory.cache)
            memory.position += len(tokens)
            if memory.pages and memory.position % KEPT < len(tokens):
                keep(memory.pages)
                save_memory(self._kept / "memory", self._model, memory)

    def _asked(self, cache: list[EdgeCache], row: str, length: int) -> dict:
        """What the facts of a length are answered with, and how fast tokens are written there."""
        facts, fork = self._text.facts[length], forked(cache)
        if row in (OURS, WINDOW):
            for layer in fork:
                layer.recall = None
        numbers = [fact.number for fact in facts]
        scores = np.array([self._scores(fact, numbers, fork) for fact in facts])
        right = scores.diagonal()
        _, *steps = decode(self._model, self._text.tokens[length - 1], fork)
        for layer in (cache[0], fork[0]):
            if layer.recall and layer.recall.failed:
                raise layer.recall.pages.failure
        return {
            "log_probabilities": right.round(4).tolist(),
            "likelier": (scores > right[:, None]).sum(axis=1).tolist(),
            "decode": 1 / mean(steps[UNTIMED:]),
            "state_bytes": state_bytes(fork),
            "disk_bytes": cache[0].recall.pages.bytes_used if fork[0].recall else 0,
        }

    def _scores(self, fact: Fact, numbers: list[str], cache: list[EdgeCache]) -> list[float]:
        """Log-probability of each number as the answer, nats per token."""
        *prompt, last = self._prompter.conversation([fact.question])
        asked = forked(cache)
        read_on(self._model, mx.array(prompt), asked)
        return [log_probability(self._model, last, self._prompter.text(each), asked) for each in numbers]


def _with_pages(memory: DocumentMemory) -> DocumentMemory:
    """A memory whose pages are there. SaveFileError: they are not, which would be another measurement."""
    if memory.refused:
        raise SaveFileError(memory.refused)
    return memory


def measure_facts(subject: Subject, text: Text, results: Results, kept: Path | None = None) -> None:
    """Measure what the results lack, by length and row.

    Raises:
        SaveFileError, StoreError: see `Asker.measure`.
    """
    asker = Asker(subject, text, kept)

    def missing(length: int, row: str) -> bool:
        entry = results.group(str(length)).get(row)
        return entry is None or entry.get("gates", subject.gates) != subject.gates

    for way, rows in READINGS.items():
        wanted = [length for length, row in pairs(results.setup) if row == rows[0]]
        lacking = [length for length in wanted if any(missing(length, row) for row in rows)]
        for length, row, entry in asker.measure(way, lacking) if lacking else ():
            results.add({(str(length), row): entry | ({"gates": subject.gates} if row in GATED else {})})
            print(f"{row}, {count(length)} tokens: {_told(entry)}", flush=True)


def pairs(setup: dict) -> list[tuple[int, str]]:
    """What there is to measure, by length and row: full attention only of what fits the base model."""
    rows = [row for row in ROWS if any(row in asked for asked in READINGS.values())]
    return [(n, row) for row in rows for n in setup["lengths"] if row != FULL or n <= setup["context"]]


def summary(results: Results) -> str:
    """Markdown: the tables, and where they were measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    check_finished(results, [(str(length), row) for length, row in pairs(results.setup)])
    return "\n\n".join([_scores(results), _costs(results), described(results.setup)])


def _scores(results: Results) -> str:
    """How often the right number is picked, and its log-probability, by row and length."""
    lengths = results.setup["lengths"]
    lines = [[f"picked among {FACTS}; log-probability", *(f"{count(n)} tokens" for n in lengths)]]
    for row in dict.fromkeys(row for _, row in pairs(results.setup)):
        entries = (results.group(str(length)).get(row) for length in lengths)
        lines.append([row, *(_score(entry) if entry else "-" for entry in entries)])
    return markdown(lines)


def _score(entry: dict) -> str:
    return f"{with_interval(_picked(entry), 2)}; {mean(entry['log_probabilities']):.2f}"


def _costs(results: Results) -> str:
    """What `ours with recall` takes at each length."""
    lines = [[RECALL, "peak memory", "state", "pages on disk", "written, tokens/s", "with recall off"]]
    for length in results.setup["lengths"]:
        entries = results.group(str(length))
        entry, speeds = entries[RECALL], (f"{entries[row]['decode']:.1f}" for row in (RECALL, OURS))
        sizes = (size(entry[key]) for key in ("peak_bytes", "state_bytes", "disk_bytes"))
        lines.append([f"{count(length)} tokens", *sizes, *speeds])
    return markdown(lines)


def _picked(entry: dict) -> np.ndarray:
    """1 for each fact whose number is likelier than all others, else 0."""
    return (np.array(entry["likelier"]) == 0).astype(float)


def _told(entry: dict) -> str:
    """An entry in a line."""
    return f"picked {_picked(entry).mean():.2f}, log-probability {mean(entry['log_probabilities']):.3f}"
