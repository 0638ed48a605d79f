"""Invented facts in one long reading, asked for at several lengths from forks of it.

For each length facts were hidden in the text up to there (see `hiding`). When the reading gets there they
are asked for by beginning their sentences again: asked a question, the starter model picks the right number
out of ten no better than by chance, with full attention and at 4,096 tokens already. What can answer from
one reading is asked of it: with exact recall and without.

    exact    whether every token of the right answer is the likeliest, so that it would be written
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from statistics import mean

import mlx.core as mx

from ..cache import EdgeCache, state_bytes
from ..document_memory import DocumentMemory, SaveFileError
from ..document_pages import begin_pages
from ..documents import Document, Page
from ..generation import read_on
from ..recall import PRECEDENCE, sync_pages, writing
from ..recall.lexicon import Lexicon
from ..savefile import load_memory, save_memory
from ..training.recalling import QUOTA, check_recall
from ..turns import Prompter
from ..wording import count
from .asking import ask, fork_of
from .gap import FULL, OFF, RECALL, RECALL_ALONE, UNBOUNDED, UNNAMED, WINDOW
from .hiding import ASKING, KINDS, LADDER, Gap, Text
from .readings import Reader, every_page
from .results import Results
from .sides import UNTIMED, decode
from .subject import Subject
from .work import measured, together

# Longer texts are read once, with memory and recall: a million tokens take hours.
BOTH_WAYS = 1 << 15
# Of a text as long as this all pages are weighed for once, which takes minutes: no index is coarser.
LONGEST = LADDER[-1]

# Ways of reading, and the rows that are asked from its forks.
READINGS = {FULL: (FULL,), RECALL: (RECALL, UNNAMED, UNBOUNDED, OFF), RECALL_ALONE: (RECALL_ALONE, WINDOW)}
# Tokens between two times that a reading is kept on disk.
KEPT = 1 << 15


class Asker:
    """Reads a text in each way and asks for its facts.

    Args:
        subject: the model. text: what is read.
        kept: folder in which the reading RECALL is kept, to go on after a stop; None for nowhere.
    """

    def __init__(self, subject: Subject, text: Text, kept: Path | None = None):
        self._model, self._prompter = subject.model, Prompter(subject.tokenizer)
        self._text, self._kept, self._lexicon = text, kept, Lexicon(self._prompter)
        self._reader = Reader(subject.model, subject.untrained, {}, first=0, throughout=False)

    def measure(self, way: str, lengths: list[int]) -> Iterator[tuple[int, str, dict]]:
        """Read in one way, and ask at each length in all rows of it; length, row and entry.

        Raises:
            SaveFileError: what was kept of the reading cannot be used.
            StoreError: the pages on disk failed.
        """
        with self._reading(way, lengths) as memory:
            for length in lengths:
                mx.reset_peak_memory()
                self._read(memory, length - ASKING)
                peak = {"peak_bytes": mx.get_peak_memory()}
                for row in (row for row in READINGS[way] if _is_asked(row, length)):
                    yield length, row, peak | self._asked(memory, row, length)

    @contextmanager
    def _reading(self, way: str, lengths: list[int]) -> Iterator[DocumentMemory]:
        """A reading that has not come beyond the first of the lengths."""
        if way == RECALL and self._kept:
            memory = self._resumed(lengths[0] - ASKING)
            with closing(memory.pages), writing(memory.pages):
                yield memory
        else:
            with self._reader.caches(way, lengths[-1]) as cache:
                yield self._memory(cache)

    def _memory(self, cache: list[EdgeCache]) -> DocumentMemory:
        tokens = self._text.tokens
        # A kept reading can go on to a longer text, as all of them begin alike, but not in another way.
        beginning = repr((PRECEDENCE, tokens[: min(self._text.facts)])).encode()
        document = Document("the books", hashlib.sha256(beginning).hexdigest(), (Page(1, ""),))
        return DocumentMemory(document, tokens, [len(tokens)], cache)

    def _resumed(self, before: int) -> DocumentMemory:
        """The reading that was kept, if it can be read on to a length; else one that begins."""
        memory = self._memory(self._model.make_cache(exact_limit=0))
        file, pages = self._kept / "memory", self._kept / "pages"
        if file.exists():
            found = load_memory(file, self._model, memory.document, pages, QUOTA)
            if found.position <= before:
                found.tokens, found.page_ends = memory.tokens, memory.page_ends
                return _with_pages(found)
            if found.pages:
                found.pages.close()
            file.unlink()
        begin_pages(self._model, memory, pages, QUOTA)
        return _with_pages(memory)

    def _read(self, memory: DocumentMemory, length: int) -> None:
        """Read on to a length."""
        while memory.position < length:
            tokens = memory.tokens[memory.position : min(memory.position + memory.next_segment, length)]
            read_on(self._model, mx.array(tokens), memory.cache)
            memory.position += len(tokens)
            check_recall(memory.cache)
            if memory.pages and memory.position % KEPT < len(tokens):
                sync_pages(memory.pages)
                save_memory(self._kept / "memory", self._model, memory)

    def _asked(self, memory: DocumentMemory, row: str, length: int) -> dict:
        """What the facts of a length are answered with, and how fast tokens are written there."""
        cache = memory.cache
        fork = fork_of(cache, row)
        if row == UNBOUNDED:
            for layer in fork:
                layer.recall.index = every_page(layer.recall)
        naming = row not in (UNNAMED, UNBOUNDED)
        gaps = self._text.gaps(length)
        answers = {kind: [self._answer(gap, fork, naming) for gap in gaps[kind]] for kind in gaps}
        _, *steps = decode(self._model, memory.tokens[memory.position - 1], fork)
        check_recall(fork)
        return answers | {
            "decode": 1 / mean(steps[UNTIMED:]),
            "state_bytes": state_bytes(fork),
            "disk_bytes": cache[0].recall.pages.bytes_used if fork[0].recall else 0,
        }

    def _answer(self, gap: Gap, cache: list[EdgeCache], naming: bool) -> dict:
        """How likely the right answer is behind the beginning of its sentence; naming: which names pages."""
        named = self._lexicon.named(self._text.tokens, [gap.beginning], cache[0].recall) if naming else None
        asked = ask(self._model, self._prompter.text(f"\n\n{gap.beginning}"), cache, named)
        found = asked.predicted(self._prompter.text(f" {gap.answer}"))
        return {"log_probability": round(found.log_probability, 4), "exact": found.exact}


def _with_pages(memory: DocumentMemory) -> DocumentMemory:
    """A memory whose pages are there. SaveFileError: they are not, which would be another measurement."""
    if not memory.has_recall:
        raise SaveFileError(memory.refused or "The reading was kept without pages: choose another --keep.")
    return memory


def measure_facts(
    subject: Subject, text: Text, lengths: Sequence[int], results: Results, kept: Path | None = None
) -> None:
    """Measure what the results lack, by length and row.

    Raises:
        SaveFileError, StoreError: see `Asker.measure`.
    """
    asker = Asker(subject, text, kept)

    def missing(length: int, row: str) -> bool:
        return not measured(results.group(str(length)).get(row), subject.asked_digests.get(row))

    world = mx.distributed.init()
    for way, rows in islice(READINGS.items(), world.rank(), None, world.size()):
        wanted = [length for length, row in pairs(lengths, results.setup["context"]) if row == rows[0]]
        lacking = [n for n in wanted if any(_is_asked(row, n) and missing(n, row) for row in rows)]
        for length, row, entry in asker.measure(way, lacking) if lacking else ():
            digest = subject.asked_digests.get(row)
            results.add({(str(length), row): entry | ({"gates": digest} if digest else {})})
            print(f"{row}, {count(length)} tokens: {_line(entry)}", flush=True)
    together(results)


def pairs(lengths: Sequence[int], context: int) -> list[tuple[int, str]]:
    """What there is to measure, by length and row: full attention only of what fits the base model."""
    most = {FULL: context, **dict.fromkeys(READINGS[RECALL_ALONE], BOTH_WAYS)}
    every = ((length, row) for row in chain(*READINGS.values()) for length in lengths)
    return [(n, row) for n, row in every if n <= most.get(row, n) and _is_asked(row, n)]


def _is_asked(row: str, length: int) -> bool:
    """Whether a row that is asked from a reading is asked at a length."""
    return row != UNBOUNDED or length >= LONGEST


def _line(entry: dict) -> str:
    """An entry in a line."""

    def means(answers: list[dict]) -> str:
        scores = ("exact", "log_probability")
        return " and ".join(f"{mean(answer[score] for answer in answers):.2f}" for score in scores)

    return "; ".join(f"{kind}: exact and log-probability {means(entry[kind])}" for kind in KINDS)
