"""Answers to requests: read what is asked about, write from a fork of its memory, send it out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from threading import Event
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..document_memory import DocumentMemory
from ..engine import Engine
from ..library import Entry
from ..pieces import Piece
from ..stats import Stats
from ..wording import count
from .errors import FAILURES, ApiError, told
from .jobs import Job
from .memories import Memories
from .wire import Completion, Ended

Happening = Stats | str | Ended


@dataclass(frozen=True)
class Question:
    """What is asked: see `Engine.answer`. entry: the document that it is about."""

    texts: list[str]
    asked: list[str]
    entry: Entry | None
    max_tokens: int
    stops: list[str]


def answered(
    engine: Engine, memories: Memories, question: Question, cancel: Event
) -> Iterator[Happening]:
    """Read the document on to its end, then answer: where the reading stands, pieces of text, the end.

    Ends early, without `Ended`, once `cancel` is set. OpenAI's answers have no place for what goes wrong on
    the way and is got over, so that whoever runs the server is told on stderr.
    """
    if question.entry is None:
        yield from _written(engine, question, None, 0, cancel)
        return
    with memories.using(question.entry) as place:
        memory, before = yield from place.read(cancel)
        if not cancel.is_set():
            yield from _written(engine, question, memory, before, cancel)
        if news := place.news():
            print(f"{question.entry.name}: {news}", file=sys.stderr, flush=True)


def _written(
    engine: Engine, question: Question, memory: DocumentMemory | None, cached: int, cancel: Event
) -> Iterator[str | Ended]:
    answer = engine.answer(question.texts, memory, question.max_tokens, cancel, question.asked)
    with closing(answer) as pieces:
        yield from until(pieces, question.stops, cached)


def until(pieces: Iterator[Piece], stops: list[str], cached: int = 0) -> Iterator[str | Ended]:
    """The text of an answer up to the first stop; what may be the beginning of one is held back."""
    longest, held = max(map(len, stops), default=1), ""
    for piece in pieces:
        held += piece.text
        found = [at for at in map(held.find, stops) if at >= 0]
        reason = "stop" if found else piece.finish_reason
        held = held[: min(found, default=None)]
        ready = len(held) if reason else max(0, len(held) - longest + 1)
        if ready:
            yield held[:ready]
            held = held[ready:]
        if reason:
            yield Ended(reason, piece.prompt_tokens, piece.tokens, cached, piece.consulted)
            return


async def whole(job: Job[Happening], completion: Completion) -> dict[str, Any]:
    """An answer in one piece.

    Raises:
        ApiError: the server is being closed. Others as `answered`.
    """
    text = ""
    async for item in job.items():
        if isinstance(item, str):
            text += item
        elif isinstance(item, Ended):
            return completion.whole(text, item)
    raise _closing()


async def events(job: Job[Happening], completion: Completion, usage: bool) -> AsyncIterator[str]:
    """An answer as server-sent events; while the document is being read, comments say how far it is."""
    yield _event(completion.chunk({"role": "assistant", "content": ""}))
    try:
        async for item in job.items():
            match item:
                case None:
                    yield ": still at work\n\n"
                case Stats():
                    yield f": read {count(item.pages)} of {count(item.pages_total)} pages\n\n"
                case str():
                    yield _event(completion.chunk({"content": item}))
                case Ended():
                    yield _event(completion.chunk({}, item))
                    if usage:
                        yield _event(completion.count(item))
                    yield "data: [DONE]\n\n"
                    return
        raise _closing()
    except (ApiError, *FAILURES) as error:
        yield _event(told(error).body())


class EventStream(StreamingResponse):
    """A streamed answer, whose work ends with it: at the last word, or when the client is gone."""

    def __init__(self, job: Job[Happening], completion: Completion, usage: bool):
        super().__init__(events(job, completion, usage), media_type="text/event-stream")
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancel.set()


@asynccontextmanager
async def while_connected(request: Request, job: Job[Happening]) -> AsyncIterator[None]:
    """End a job's work as soon as the client that it is for is gone."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.cancel.set()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        job.cancel.set()


def _closing() -> ApiError:
    return ApiError(503, "The server is being closed: ask again once it is back.")


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
