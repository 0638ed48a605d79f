"""A reader without a model: the engine as library, summary, chat and page see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.insight import Insight
from mlx_edgeinf.pieces import Piece
from mlx_edgeinf.settings import Settings
from mlx_edgeinf.stats import Stats
from mlx_edgeinf.summarize import QUESTION, UNION

TOKENS_PER_PAGE = 460
STATE_BYTES = 48_000_000
MODEL_BYTES = 170_000_000
KV_BYTES_PER_TOKEN = 23_040
EXACT_TOKENS = 1_028

SETTINGS = Settings("a fake", "0123456789abcdef", "centroids", 500, 4, 512, 512, 1.15, 128)

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
class FakeMemory:
    """A document of which pages were read; a token is 1/460 of a page."""

    document: Document
    pages_read: int = 0
    seconds: float = 0.0
    long: bool = True
    has_recall: bool = False
    not_now: bool = False
    refused: str = ""
    without_recall: str = ""
    growing: bool = False

    @property
    def next_segment(self) -> int:
        return 0 if self.complete else TOKENS_PER_PAGE

    @property
    def tokens(self) -> range:
        return range(len(self.document.pages) * TOKENS_PER_PAGE)

    @property
    def insight(self) -> Insight:
        """Made up: every fifth page is new, and nothing of the last page was written yet."""
        strengths = [0.3 + 0.5 * (page % 5 == 3) + page % 3 / 50 for page in range(self.pages_read - 1)]
        seen = np.array([[strength * TOKENS_PER_PAGE, TOKENS_PER_PAGE] for strength in strengths])
        openings = np.abs(np.sin(np.arange(30 * 9).reshape(30, 9))) ** 2
        return Insight(seen, openings, answering=True) if strengths else Insight()

    @property
    def position(self) -> int:
        return self.pages_read * TOKENS_PER_PAGE

    @property
    def complete(self) -> bool:
        return self.pages_read == len(self.document.pages)


@dataclass
class FakeEngine:
    """Stands in for the engine; `segment_seconds` is how long a page takes, and four words."""

    name: str = "A small fake model"
    gates: str = "untrained"
    segment_seconds: float = 0.0
    exact_tokens: int = 3 * TOKENS_PER_PAGE
    recall_bytes: int = 0
    has_gates: bool = True
    settings: Settings = SETTINGS
    cancels: list[threading.Event] = field(default_factory=list)  # one for each piece of work

    def close(self) -> None:
        """Nothing to end."""

    @property
    def identity(self) -> dict[str, str]:
        return {"base model": self.name, "gates": self.gates}

    def count(self, text: str) -> int:
        return TOKENS_PER_PAGE

    def open(self, document: Document, pages: Path | None = None, growing: bool = False) -> FakeMemory:
        return FakeMemory(document, growing=growing)

    def grow(self, memory: FakeMemory, pages: Sequence[Page]) -> None:
        memory.document = replace(memory.document, pages=(*memory.document.pages, *pages))

    def branch(self, memory: FakeMemory, pages: Sequence[Page] = ()) -> FakeMemory:
        branch = replace(memory, growing=False)
        self.grow(branch, pages)
        return branch

    def ingest(self, memory: FakeMemory, cancel: threading.Event) -> Iterator[Stats]:
        self.cancels.append(cancel)
        while not memory.complete and not cancel.is_set():
            time.sleep(self.segment_seconds)
            memory.pages_read += 1
            memory.seconds += self.segment_seconds + 1e-3
            yield self.stats(memory)

    def stats(self, memory: FakeMemory) -> Stats:
        return stats(memory.pages_read, len(memory.document.pages), memory.seconds)

    def save(self, memory: FakeMemory, path: Path) -> None:
        arrays = {"pages_read": np.array(memory.pages_read), "seconds": np.array(memory.seconds)}
        save_file(arrays, path, self.identity)

    def restore(self, path: Path, document: Document, pages: Path | None = None) -> FakeMemory:
        try:
            arrays = load_file(path)
        except SafetensorError as error:
            message = f"The saved memory of {document.name} is damaged: read the document again."
            raise SaveFileError(message) from error
        return FakeMemory(document, int(arrays["pages_read"]), float(arrays["seconds"]))

    def generate(
        self, texts: Sequence[str], memory: FakeMemory, max_tokens: int, cancel: threading.Event
    ) -> Iterator[str]:
        """A summary, or what was asked and how much was read, a few words at a time."""
        self.cancels.append(cancel)
        asked = texts[-1]
        summary = asked in (QUESTION, UNION) or asked.startswith("This is your summary")
        answer = f"You asked “{asked}” after {len(texts) // 2} others, of {memory.pages_read} pages read."
        words = (SUMMARY.format(page=memory.pages_read) if summary else answer).split(" ")
        step = 12 if summary else 1
        for end in [*range(1, len(words), step), len(words)]:
            if cancel.is_set():
                return
            time.sleep(self.segment_seconds / 4)
            yield " ".join(words[:end])

    def answer(
        self, texts: Sequence[str], memory: FakeMemory, max_tokens: int, cancel: threading.Event
    ) -> Iterator[Piece]:
        """What `generate` says, piece by piece; the last page that was read was looked up for it."""
        said = ""
        for answer in self.generate(texts, memory, max_tokens, cancel):
            yield Piece(answer[len(said) :], TOKENS_PER_PAGE)
            said = answer
        if not cancel.is_set():
            yield Piece("", TOKENS_PER_PAGE, len(said), "stop", consulted=(memory.pages_read - 1,))


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
        exact_tokens=min(tokens, EXACT_TOKENS),
        exact_capacity=EXACT_TOKENS,
        folded_tokens=max(tokens - EXACT_TOKENS, 0),
    )


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
