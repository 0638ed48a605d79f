"""The engine: reads documents into memory and answers from it.

One thread owns everything MLX. MLX's streams are thread-local (an array made
lazily in one thread cannot be evaluated in another), and a web server steps its
generators on whichever thread is free. So every step of every iterator here
runs on the engine's own thread; several readers take turns there, a segment or
a token at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TypeVar

import mlx.core as mx

from .basemodel import base_path_limit, kv_bytes_per_token
from .cache import EdgeCache, forked, state_bytes, watching
from .document_memory import DocumentMemory
from .document_pages import begin_pages
from .documents import Document, Page
from .generation import REPETITION_TOKENS, against_repetition, choose_cache, read_on, stream_generate
from .models import load, settings_of
from .pieces import Piece, so_far
from .recall import sync_pages, writing
from .recall.consulted import consulted
from .recall.lexicon import Lexicon
from .savefile import check_whole, damaged, identity, load_memory, save_memory
from .starter import NAME, starter_model
from .stats import Stats
from .turns import Prompter
from .worker import MLXThread

T = TypeVar("T")
_END = object()

# Kept free on the base path for questions and answers after the document.
ANSWER_TOKENS = 1024


class Engine:
    """A base model with its memory, and the thread that owns it; `identity`: see `savefile.identity`.

    Args:
        model: hub id or local folder; None is the starter model.
        adapter: folder of trained gates; None takes those beside the model, or shipped for it.
        memory_mb: see `models.load`.
        on_progress: told what is being prepared and how far, 0 to 1.
        recall_gb: what a document's pages may take on disk; 0: no exact recall; None: see `recall.document`.

    Raises:
        StarterModelError, UnsupportedModel, AdapterError, BudgetError: see `models.load`.
    """

    def __init__(
        self,
        model: str | None = None,
        adapter: str | None = None,
        memory_mb: float | None = None,
        on_progress: Callable[[str, float], None] | None = None,
        recall_gb: float | None = None,
    ):
        self.name = Path(model).name if model else NAME
        self.recall_bytes = None if recall_gb is None else int(recall_gb * 1e9)
        path = model or str(starter_model(on_progress))
        if on_progress:
            on_progress(f"Loading {self.name}", 1.0)
        self._thread = MLXThread()
        try:
            self._run(lambda: self._load(path, adapter, memory_mb))
        except BaseException:
            self.close()
            raise

    def _load(self, path: str, adapter: str | None, memory_mb: float | None) -> None:
        self._model, self._tokenizer = load(path, adapter, memory_mb=memory_mb)
        # Without trained gates the untrained ones answer.
        self.has_gates = self._model.gates_folder is not None
        self.settings = settings_of(self._model)
        self._prompter = Prompter(self._tokenizer)
        self._lexicon = Lexicon(self._prompter)
        # Document tokens that the base path takes, beside questions and answers.
        self.exact_tokens = base_path_limit(self._model) - 2 * ANSWER_TOKENS
        self.identity = identity(self._model)

    def close(self) -> None:
        """End the thread, after the step it is at."""
        self._thread.shutdown()

    # -- reading ----------------------------------------------------------------

    def open(self, document: Document, pages: Path | None = None, growing: bool = False) -> DocumentMemory:
        """A memory for the document that has read nothing yet.

        A document that fits the base path is read exactly, a longer one, and one that is
        growing, into the fixed-size memory from its first token.

        pages: folder for what leaves the window, to be recalled exactly; None for the memory alone.
        """
        return self._run(lambda: self._open(document, pages, growing))

    def grow(self, memory: DocumentMemory, pages: Sequence[Page]) -> None:
        """Put pages at the end of a document, to be read next."""
        self._run(lambda: self._grow(memory, pages))

    def branch(self, memory: DocumentMemory, pages: Sequence[Page] = ()) -> DocumentMemory:
        """A memory that goes on with these pages from where this one stands, and leaves it as it is."""
        return self._run(lambda: self._grow(memory.branch(), pages))

    def ingest(self, memory: DocumentMemory, cancel: Event | None = None) -> Iterator[Stats]:
        """Read on from where the memory stands, yielding after every segment.

        Ends early once `cancel` is set; reading can go on later, nothing is lost.
        """
        return self._stepwise(self._ingest(memory, cancel))

    def stats(self, memory: DocumentMemory) -> Stats:
        """Where the reading of a memory stands."""
        return self._run(lambda: self._stats(memory))

    def _open(self, document: Document, pages: Path | None, growing: bool) -> DocumentMemory:
        tokens, page_ends = list(self._prompter.opening), []
        for page in document.pages:
            tokens += self._prompter.page(page.text)
            page_ends.append(len(tokens))
        room = len(tokens) + ANSWER_TOKENS
        cache = self._model.make_cache(exact_limit=0) if growing else choose_cache(self._model, room)
        memory = DocumentMemory(document, tokens, page_ends, cache, growing=growing)
        if pages and memory.long:
            begin_pages(self._model, memory, pages, self.recall_bytes)
        return memory

    def _grow(self, memory: DocumentMemory, pages: Sequence[Page]) -> DocumentMemory:
        memory.add(pages, [self._prompter.page(page.text) for page in pages])
        return memory

    def _ingest(self, memory: DocumentMemory, cancel: Event | None) -> Iterator[Stats]:
        check_whole(memory)
        mx.reset_peak_memory()
        # Of what is complete the pages on disk are left alone: another window may be opening them.
        with writing(memory.pages if memory.next_segment else None):
            while memory.next_segment and not (cancel and cancel.is_set()):
                started = time.perf_counter()
                self._read_segment(memory)
                memory.seconds += time.perf_counter() - started
                yield self._stats(memory)

    def _read_segment(self, memory: DocumentMemory) -> None:
        tokens = memory.tokens[memory.position : memory.position + memory.next_segment]
        with watching(memory.cache) as watched:
            read_on(self._model, mx.array(tokens), memory.cache)
        memory.position += len(tokens)
        memory.insight.add(watched.surprises(), memory.page_ends)
        memory.insight.opened(watched.openings(), answering=False)

    def _stats(self, memory: DocumentMemory) -> Stats:
        return Stats(
            pages=memory.pages_read,
            pages_total=len(memory.page_ends),
            tokens=memory.position,
            tokens_total=len(memory.tokens),
            seconds=memory.seconds,
            state_bytes=state_bytes(memory.cache),
            active_bytes=mx.get_active_memory(),
            peak_bytes=mx.get_peak_memory(),
            full_cache_bytes=memory.position * kv_bytes_per_token(self._model),
            disk_bytes=memory.pages.bytes_used if memory.has_recall else 0,
            disk_bytes_total=memory.pages.forecast(len(memory.tokens)) if memory.has_recall else 0,
            exact_tokens=memory.cache[0].offset,
            exact_capacity=memory.cache[0].capacity,
            folded_tokens=memory.cache[0].folded,
        )

    # -- keeping ----------------------------------------------------------------

    def save(self, memory: DocumentMemory, path: Path) -> None:
        """Write a memory as it is now, between two segments; see `savefile.save_memory`.

        Raises:
            SaveFileError, SaveError: it could not be saved; what was there before is unchanged.
        """
        self._run(lambda: self._save(memory, path))

    def _save(self, memory: DocumentMemory, path: Path) -> None:
        # Before the file that counts on them.
        sync_pages(memory.pages)
        save_memory(path, self._model, memory)

    def restore(self, path: Path, document: Document, pages: Path | None = None) -> DocumentMemory:
        """A saved memory of a document, to be asked or read on to the pages that have come since.

        Raises:
            SaveFileError: see `savefile.load_memory`; or it is of no beginning of the document.
        """
        return self._run(lambda: self._restore(path, document, pages))

    def _restore(self, path: Path, document: Document, pages: Path | None) -> DocumentMemory:
        memory = load_memory(path, self._model, document, pages, self.recall_bytes)
        new = document.pages[len(memory.page_ends) :]
        if new and memory.tokens != self._open(memory.document, None, growing=True).tokens:
            raise damaged(document)
        return self._grow(memory, new)

    # -- answering --------------------------------------------------------------

    def generate(
        self, texts: list[str], memory: DocumentMemory | None = None, max_tokens: int = 256,
        cancel: Event | None = None,
    ) -> Iterator[str]:  # fmt: skip
        """Answer from a fork of the memory, yielding the whole answer so far.

        An answer that reaches max_tokens ends with its last whole sentence.

        Args:
            texts: user and assistant texts in turn, the last one the user's.
            memory: what was read before the first text; None for nothing.
            cancel: ends the answer after the next token once set.
        """
        pieces = so_far(self._answer(texts, memory, max_tokens, cancel, texts[::2]))
        return self._stepwise(piece.text for piece in pieces)

    def answer(
        self, texts: list[str], memory: DocumentMemory | None = None, max_tokens: int = 256,
        cancel: Event | None = None, asked: list[str] | None = None,
    ) -> Iterator[Piece]:  # fmt: skip
        """Answer as `generate` does, but piece by piece, and to the last token.

        asked: what people ask for, turn by turn: its words name pages on disk; None: the user texts.
        """
        asked = texts[::2] if asked is None else asked
        return self._stepwise(self._answer(texts, memory, max_tokens, cancel, asked))

    def _answer(
        self, texts: list[str], memory: DocumentMemory | None, max_tokens: int, cancel: Event | None,
        asked: list[str],
    ) -> Iterator[Piece]:  # fmt: skip
        opening = [] if memory else self._prompter.opening
        prompt = opening + self._prompter.conversation(texts)
        total = len(memory.tokens if memory else []) + len(prompt)
        cache = self._cache_after(memory, asked, len(prompt) + max_tokens)
        with watching(cache) as watched:
            for piece in self._spoken(prompt, cache, total, max_tokens, cancel):
                watched.settle()
                if piece.finish_reason and memory and memory.has_recall:
                    pages = consulted(memory.page_ends, [layer.recall for layer in cache])
                    piece = replace(piece, consulted=pages)
                yield piece
        if memory:
            memory.insight.opened(watched.openings(), answering=True)

    def _spoken(
        self, prompt: list[int], cache: list[EdgeCache], total: int, max_tokens: int, cancel: Event | None
    ) -> Iterator[Piece]:
        """Read a prompt into a cache and go on, piece by piece; total: all tokens before the answer."""
        segment, position = cache[0].layout.segment, 0
        # A long prompt takes turns too; its end, as far as repetition is looked for, is left to mlx-lm.
        while len(prompt) - position > segment + REPETITION_TOKENS:
            read_on(self._model, mx.array(prompt[position : position + segment]), cache)
            position += segment
            yield Piece("", total)
            if cancel and cancel.is_set():
                return
        for response in stream_generate(
            self._model, self._tokenizer, prompt[position:], max_tokens,
            prompt_cache=cache, logits_processors=against_repetition(),
        ):  # fmt: skip
            if cancel and cancel.is_set():
                return
            yield Piece(response.text, total, response.generation_tokens, response.finish_reason)

    def _cache_after(self, memory: DocumentMemory | None, asked: list[str], tokens: int) -> list[EdgeCache]:
        """What a prompt is read into: a fork of the memory, or an empty cache for so many tokens."""
        if not memory:
            return choose_cache(self._model, tokens)
        named = self._lexicon.named(memory.tokens, asked, memory.cache[0].recall)
        return forked(memory.cache, named=named)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._prompter.text(text))

    # -- the thread ---------------------------------------------------------------

    def _run(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def _stepwise(self, steps: Iterator[T]) -> Iterator[T]:
        """Take each step on the engine's thread, closing included."""
        try:
            while (item := self._run(lambda: next(steps, _END))) is not _END:
                yield item
        finally:
            # Not waited for: the garbage collector may close this on the engine's own thread.
            self._thread.leave(steps.close)
