"""A reader without a model: the engine, the summary and the chat as the page sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlx_edgeinf.chat import Turn
from mlx_edgeinf.documents import Document
from mlx_edgeinf.engine import Stats
from mlx_edgeinf.events import Draft, Finished, Reading, Receipt

TOKENS_PER_PAGE = 460
STATE_BYTES = 48_000_000
MODEL_BYTES = 170_000_000
KV_BYTES_PER_TOKEN = 23_040
DRAFT_EVERY = 4

SUMMARY = """\
**The book**, up to page {page}, argues that keeping an exact copy of everything ever read is \
neither how people remember nor what a summary needs. It follows one long text from its first \
page to its last and shows, chapter by chapter, what a memory of constant size holds on to.

Three findings stand out:

- Most of what a later page refers to lies within a few pages before it.
- What lies further back is needed as a gist, and a gist can be kept in little room.
- The few exact details that matter are asked for again and again, and can be noticed by that.

The last part is about trust: a summary that does not say how much it covers cannot be checked.\
"""


@dataclass
class FakeEngine:
    """Stands in for the engine; `segment_seconds` is how long a page or a word takes."""

    name: str = "A small fake model"
    segment_seconds: float = 0.0
    cancels: list[threading.Event] = field(default_factory=list)  # one for each piece of work


def stats(page: int, pages: int, seconds: float = 10.0) -> Stats:
    """Measurements after `page` of `pages`."""
    tokens = page * TOKENS_PER_PAGE
    full = tokens * KV_BYTES_PER_TOKEN
    return Stats(
        pages=page,
        pages_total=pages,
        tokens=tokens,
        tokens_total=pages * TOKENS_PER_PAGE,
        seconds=seconds,
        state_bytes=min(full, STATE_BYTES),
        active_bytes=MODEL_BYTES + min(full, STATE_BYTES),
        peak_bytes=MODEL_BYTES + 2 * STATE_BYTES,
        full_cache_bytes=full,
    )


def summarize(
    engine: FakeEngine, document: Document, strategy: str, cancel: threading.Event
) -> Iterator[Reading | Draft | Finished]:
    """Read a page a segment, with a draft every few pages; remembers the pages it read."""
    engine.cancels.append(cancel)
    pages, began, read, draft = len(document.pages), time.monotonic(), 0, ""
    while read < pages and not cancel.is_set():
        time.sleep(engine.segment_seconds)
        read += 1
        yield Reading(stats(read, pages, time.monotonic() - began + 1e-3))
        if read % DRAFT_EVERY == 0 and read < pages:
            draft = yield from _drafts(engine, read, final=False)
    if not cancel.is_set():
        draft = yield from _drafts(engine, read, final=True)
    receipt = Receipt(
        document=document.name,
        pages=pages,
        pages_read=read,
        pages_without_text=document.pages_without_text,
        tokens=pages * TOKENS_PER_PAGE,
        tokens_read=read * TOKENS_PER_PAGE,
        seconds=time.monotonic() - began,
        model=engine.name,
        strategy=strategy,
        stopped=cancel.is_set(),
        state_bytes=STATE_BYTES,
        peak_bytes=MODEL_BYTES + 2 * STATE_BYTES,
    )
    memory = document.pages[:read] if read else None
    yield Finished(draft, receipt, memory)


def ask(
    engine: FakeEngine,
    memory: Sequence[object],
    question: str,
    history: Sequence[Turn],
    cancel: threading.Event,
) -> Iterator[str]:
    """Answer with what was asked and how much was read, word by word."""
    engine.cancels.append(cancel)
    answer = f"You asked “{question}” after {len(history)} others, of {len(memory)} pages read."
    words = answer.split(" ")
    for end in range(1, len(words) + 1):
        if cancel.is_set():
            return
        time.sleep(engine.segment_seconds / 4)
        yield " ".join(words[:end])


def _drafts(engine: FakeEngine, page: int, final: bool) -> Generator[Draft, None, str]:
    text = SUMMARY.format(page=page)
    words = text.split(" ")
    for end in range(1, len(words), 12):
        time.sleep(engine.segment_seconds / 4)
        yield Draft(" ".join(words[:end]), page, final)
    yield Draft(text, page, final)
    return text


def small_pdf(path: Path, pages: Sequence[str]) -> Path:
    """Write a PDF with one line of text on each page; an empty text makes a blank page."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>"
        % (b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(len(pages))), len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, text in enumerate(pages):
        drawing = b"BT /F1 11 Tf 60 780 Td (%s) Tj ET" % text.encode("ascii")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * index)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing))
    path.write_bytes(_assemble(objects))
    return path


def _assemble(objects: Sequence[bytes]) -> bytes:
    """A PDF file of numbered objects: each in its place, and the table of the places."""
    file, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return file + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table, len(objects) + 1, len(file))
    )
