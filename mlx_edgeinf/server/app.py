"""The addresses of the API, and what each of them does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import UploadFile
from starlette.responses import Response

from ..engine import Engine
from ..library import Library
from .answers import EventStream, Question, answered, while_connected, whole
from .errors import ApiError, tell_errors
from .guard import Guard
from .jobs import AT_ONCE, Jobs
from .memories import Memories
from .shelf import Shelf, file_object
from .wire import ChatRequest, Completion

# Documents that are taken apart at once, each in a process that may hold 2 GB.
TAKEN_AT_ONCE = 2
PURPOSES = ("user_data", "assistants")

T = TypeVar("T")


def create_app(api: Api, key: str | None = None, any_name: bool = False) -> FastAPI:
    """The addresses, guarded; see `guard.Guard` for the rest."""
    # Its own pages of documentation load scripts from another machine.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=api.lifespan)
    for path, work, method in (
        ("/v1/models", api.models, "GET"),
        ("/v1/models/{model}", api.model, "GET"),
        ("/v1/chat/completions", api.chat, "POST"),
        ("/v1/files", api.upload, "POST"),
        ("/v1/files", api.files, "GET"),
        ("/v1/files/{file_id}", api.file, "GET"),
        ("/v1/files/{file_id}", api.delete, "DELETE"),
        ("/v1/files/{file_id}/content", api.content, "GET"),
    ):
        app.add_api_route(path, work, methods=[method], response_model=None)
    tell_errors(app)
    app.add_middleware(Guard, key=key, any_name=any_name)
    return app


class Api:
    """What the addresses do."""

    def __init__(self, engine: Engine, library: Library):
        self._engine, self._shelf = engine, Shelf(library)
        self._memories, self._jobs = Memories(library, engine, AT_ONCE), Jobs()
        self._taking, self._since = CapacityLimiter(TAKEN_AT_ONCE), int(time.time())

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """End what runs when the server ends."""
        yield
        await self._jobs.close()

    def stop(self) -> None:
        """Have all answers end within a segment or token; to be called in the event loop's thread."""
        self._jobs.stop()

    # -- models and chat ----------------------------------------------------------

    def models(self) -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [self.model(self._engine.name)]}

    def model(self, model: str) -> dict[str, Any]:
        """The model by its name."""
        if model != self._engine.name:
            raise ApiError(
                404, f"There is no model {model} here: ask for {self._engine.name}.",
                "model", "model_not_found",
            )  # fmt: skip
        return {"id": model, "object": "model", "created": self._since, "owned_by": "mlx-edgeinf"}

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """Answer, about documents if the messages have any."""
        self.model(body.model)
        body.refuse_unsupported()
        texts, asked = body.texts(), body.asked()
        entry = await self._take(self._shelf.asked, body.files)
        question = Question(texts, asked, entry, body.most_tokens, body.stop)
        job = self._jobs.begin(lambda cancel: answered(self._engine, self._memories, question, cancel))
        completion = Completion(self._engine.name)
        if body.stream:
            return EventStream(job, completion, body.stream_options.include_usage)
        async with while_connected(request, job):
            return JSONResponse(await whole(job, completion))

    # -- files --------------------------------------------------------------------

    async def upload(self, request: Request) -> dict[str, Any]:
        """Keep a document in the library."""
        async with request.form(max_files=1, max_fields=8) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "There is no file in this upload.", "file")
            if purpose not in PURPOSES:
                raise ApiError(400, f"The purpose of a file must be {' or '.join(PURPOSES)}.", "purpose")
            return file_object(await self._take(self._shelf.take, file.filename or "", file.file))

    def files(
        self,
        after: str | None = None,
        limit: int = Query(10_000, ge=1, le=10_000),
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        """The library, the latest first, a page at a time."""
        described = [file_object(entry) for entry in self._shelf.listed()]
        described = described[:: 1 if order == "desc" else -1]
        ids = [each["id"] for each in described]
        if after and after not in ids:
            raise ApiError(400, f"There is no file {after} to go on after: list from the beginning.", "after")
        start = ids.index(after) + 1 if after else 0
        page = described[start : start + limit]
        more = start + limit < len(described)
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        return {"object": "list", "data": page, "has_more": more} | ends

    def file(self, file_id: str) -> dict[str, Any]:
        """One document."""
        return file_object(self._shelf.find(file_id))

    def delete(self, file_id: str) -> dict[str, Any]:
        """Delete a document with everything that was made of it."""
        entry = self._shelf.find(file_id)
        self._shelf.delete(entry)
        self._memories.forget(entry)
        return {"id": file_id, "object": "file", "deleted": True}

    def content(self, file_id: str) -> FileResponse:
        """The file itself; no browser shows it, whatever it is."""
        entry = self._shelf.find(file_id)
        return FileResponse(
            self._shelf.original(entry), media_type="application/octet-stream", filename=entry.name
        )

    async def _take(self, work: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(work, *arguments, limiter=self._taking)
