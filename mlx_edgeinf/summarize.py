"""Summaries of a document, four ways, each ending with a receipt of what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING

from .documents import Document, DocumentError, Page
from .events import Draft, Finished, Reading, Receipt, RunEvent
from .wording import page_places

if TYPE_CHECKING:
    from .document_memory import DocumentMemory
    from .engine import Engine
    from .stats import Stats

QUESTION = (
    "Write a summary of this document in one or two paragraphs: what it is about, "
    "its main points in order, and how it ends."
)
REVISION = (
    "This is your summary of the document so far:\n\n{draft}\n\n"
    "You have now read further. Write the summary anew: keep what matters of it, add the main "
    "points of the later part, in one or two paragraphs."
)
SECTION = "Summarize this part of a longer document in three sentences."
UNION = (
    "These are summaries of the parts of one document, in order. Write one summary of the whole "
    "document in one or two paragraphs."
)

# There is a draft each time this share of the document has been read. One that is nearer to the draft before,
# or to the end, than so many tokens is left out: writing one takes as long as reading some 5,000, and drafts
# should take less time than the reading.
MILESTONES, APART = (0.05, 0.25, 0.5, 0.75), 6144
# A part for map-reduce: small models answer best well inside their context.
PART_TOKENS, PART_ANSWER_TOKENS = 3000, 96
# What a model must read exactly for that: several times what is made of it.
LEAST_EXACT = 512


@dataclass(frozen=True)
class Strategy:
    """A way to summarise, described for people, and the function that does it.

    resumes: goes on from where an earlier reading of the whole document stopped.
    """

    name: str
    label: str
    description: str
    run: Callable[[_Run], Iterator[RunEvent]] = field(repr=False)
    resumes: bool = False


def summarize(
    engine: Engine,
    document: Document,
    strategy: str = "one-shot",
    cancel: Event | None = None,
    max_tokens: int = 256,
) -> Iterator[RunEvent]:
    """Read a document and summarise it.

    Args:
        strategy: a key of STRATEGIES.
        cancel: once set, the run ends within one segment; `Finished` still comes,
            with a receipt that says so and the memory of what was read.
        max_tokens: length of a summary at most.

    Raises:
        DocumentError: no page of the document has text, or the model cannot read in this way.
    """
    require_text(document)
    yield from STRATEGIES[strategy].run(_Run(engine, document, strategy, cancel or Event(), max_tokens))


def require_text(document: Document) -> None:
    """Do nothing for a document that can be summarised.

    Raises:
        DocumentError: none of its pages has text.
    """
    if len(document.pages_without_text) == len(document.pages):
        raise DocumentError(
            f"{document.name} has no text on any page: it is probably a scan, so have its text recognised "
            "(OCR) first: the page has a button for that, commands have --ocr."
        )


@dataclass
class _Run:
    """One summary in the making: what has been read of the document, and the draft so far.

    pages, tokens, seconds: of parts read and put away before the present one.
    memory: the last one that read anything of the document. draft_pages: of which the draft is.
    """

    engine: Engine
    document: Document
    strategy: str
    cancel: Event
    max_tokens: int
    pages: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stats: Stats | None = None
    memory: DocumentMemory | None = None
    draft: str = ""
    draft_pages: int = 0

    def __post_init__(self) -> None:
        self.total = sum(self.engine.count(page.text) for page in self.document.pages)

    def exact(self, document: Document, most: int) -> Iterator[Document]:
        """Parts of a document that the model reads exactly, of so many tokens at most.

        Raises:
            DocumentError: it reads too little at once to make anything of it.
        """
        if self.engine.exact_tokens < LEAST_EXACT:
            raise DocumentError(
                f"{self.engine.name} cannot read enough of {self.document.name} exactly at once: choose a "
                "summary from memory, or a model with a longer context."
            )
        return parts(document, self.engine.count, min(most, self.engine.exact_tokens))

    def read(self, memory: DocumentMemory) -> Iterator[Reading]:
        """Read a memory's document, or part of the whole, to its end; first what was read of it before."""
        before = [self.engine.stats(memory)] if memory.position else []
        for stats in chain(before, self.engine.ingest(memory, self.cancel)):
            self.memory = memory
            self.stats = replace(
                stats,
                pages=self.pages + stats.pages,
                pages_total=len(self.document.pages),
                tokens=self.tokens + stats.tokens,
                tokens_total=max(self.total, self.tokens + stats.tokens),
                seconds=self.seconds + stats.seconds,
                full_cache_bytes=stats.full_cache_bytes // stats.tokens * (self.tokens + stats.tokens),
            )
            yield Reading(self.stats)

    def known(self, text: Document) -> DocumentMemory:
        """The memory of a text that is not of the document: nothing of its reading is shown."""
        memory = self.engine.open(text)
        for _ in self.engine.ingest(memory, self.cancel):
            pass
        return memory

    def put_away(self) -> None:
        """Count what was read so far as behind the parts to come."""
        self.pages, self.tokens, self.seconds = self.stats.pages, self.stats.tokens, self.stats.seconds

    def write(self, question: str, memory: DocumentMemory, final: bool) -> Iterator[Draft]:
        """Stream a draft of the summary; one cut short by Stop does not replace a whole one."""
        text, page = "", self.stats.pages
        for text in self.engine.generate([question], memory, self.max_tokens, self.cancel):
            yield Draft(text.strip(), page, final)
        if not self.cancel.is_set() or not self.draft:
            self.draft, self.draft_pages = text.strip(), page

    def answer(self, question: str, memory: DocumentMemory) -> str:
        """A short answer that is not shown; empty if stopped before its first word."""
        text = ""
        for text in self.engine.generate([question], memory, PART_ANSWER_TOKENS, self.cancel):
            pass
        return text.strip()

    def finish(self, memory: DocumentMemory) -> Finished:
        receipt = Receipt(
            document=self.document.name,
            pages=len(self.document.pages),
            pages_read=self.stats.pages if self.stats else 0,
            pages_without_text=self.document.pages_without_text,
            tokens=self.stats.tokens_total if self.stats else self.total,
            tokens_read=self.stats.tokens if self.stats else 0,
            seconds=self.stats.seconds if self.stats else 0.0,
            model=self.engine.name,
            strategy=self.strategy,
            stopped=self.cancel.is_set(),
            state_bytes=self.stats.state_bytes if self.stats else 0,
            peak_bytes=self.stats.peak_bytes if self.stats else 0,
            summary_pages=self.draft_pages if self.draft else 0,
            without_text=page_places(self.document.pages, self.document.pages_without_text),
            pages_recognised=self.document.pages_recognised,
            max_tokens=self.max_tokens,
            settings=self.engine.settings,
        )
        return Finished(self.draft, receipt, memory if memory.position else self.memory)


def _one_shot(run: _Run) -> Iterator[RunEvent]:
    """Ask the memory; drafts on the way are asked afresh, so that no mistake is carried on."""
    return _from_memory(run, lambda draft: QUESTION)


def _rolling(run: _Run) -> Iterator[RunEvent]:
    """Ask the memory to revise the draft before."""
    return _from_memory(run, lambda draft: REVISION.format(draft=draft) if draft else QUESTION)


def _from_memory(run: _Run, question: Callable[[str], str]) -> Iterator[RunEvent]:
    """Read everything into memory, with a draft at each milestone."""
    memory = run.engine.open(run.document)
    milestones = _milestones(memory)
    for event in run.read(memory):
        yield event
        if milestones and memory.position >= milestones[0]:
            milestones = [milestone for milestone in milestones if milestone > memory.position]
            yield from run.write(question(run.draft), memory, final=False)
    if not run.cancel.is_set():
        yield from run.write(question(run.draft), memory, final=True)
    yield run.finish(memory)


def _milestones(memory: DocumentMemory) -> list[float]:
    """Tokens after which there will be a draft."""
    total, before, places = len(memory.tokens), memory.position, []
    for place in (share * total for share in MILESTONES if memory.long):
        if min(place - before, total - place) >= APART:
            places.append(place)
            before = place
    return places


def _map_reduce(run: _Run) -> Iterator[RunEvent]:
    """Summarise every part exactly, then the summaries; the chat knows the summaries alone."""
    pages: list[Page] = []
    for part in run.exact(run.document, PART_TOKENS):
        memory = run.engine.open(part)
        yield from run.read(memory)
        if run.cancel.is_set():
            yield run.finish(memory)
            return
        pages.append(Page(part.pages[0].number, run.answer(SECTION, memory)))
        run.put_away()
        run.draft, run.draft_pages = "\n\n".join(page.text for page in pages), run.stats.pages
        yield Draft(run.draft, run.stats.pages, final=False)
    memory = _condensed(run, replace(run.document, pages=tuple(pages)))
    if not run.cancel.is_set():
        yield from run.write(UNION, memory, final=True)
    yield run.finish(memory)


def _condensed(run: _Run, summaries: Document) -> DocumentMemory:
    """The summaries, read; summarised again first, as often as it takes until they are one part."""
    while len(batches := list(run.exact(summaries, PART_TOKENS))) > 1:
        pages = (Page(each.pages[0].number, run.answer(SECTION, run.known(each))) for each in batches)
        summaries = replace(summaries, pages=tuple(pages))
    return run.known(summaries)


def _truncate(run: _Run) -> Iterator[RunEvent]:
    """Read only what fits the base model's context; the receipt says how little that is."""
    memory = run.engine.open(next(run.exact(run.document, run.engine.exact_tokens)))
    yield from run.read(memory)
    if not run.cancel.is_set():
        yield from run.write(QUESTION, memory, final=True)
    yield run.finish(memory)


def parts(document: Document, count: Callable[[str], int], size: int) -> Iterator[Document]:
    """Consecutive pages of at most `size` tokens together, and at least one with text each."""
    pages, tokens = [], 0
    for page in document.pages:
        length = count(page.text)
        if tokens and length and tokens + length > size:
            yield replace(document, pages=tuple(pages))
            pages, tokens = [], 0
        pages.append(page)
        tokens += length
    yield replace(document, pages=tuple(pages))


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "one-shot", "From memory", "Drafts as the reading goes on, each asked of the memory afresh.",
            _one_shot, resumes=True,
        ),
        Strategy(
            "rolling", "Rolling", "Each draft revises the one before. Small models drift.", _rolling,
            resumes=True,
        ),
        Strategy(
            "map-reduce", "Part by part",
            "Summarise each part exactly, then the summaries. The chat knows the summaries alone.",
            _map_reduce,
        ),
        Strategy("truncate", "Beginning only", "Read only what fits the model at once, exactly.", _truncate),
    )
}  # fmt: skip
