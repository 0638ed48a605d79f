"""Refusals in OpenAI's error JSON: one sentence for people, and what programs go by."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from ..atomic import SaveError
from ..document_memory import SaveFileError
from ..documents import DocumentError, PasswordRequired
from ..library import LibraryError

# What the house says no with, and the status that this has here. Subclasses come first.
STATUSES: dict[type[Exception], int] = {
    PasswordRequired: 400, DocumentError: 400, LibraryError: 409, SaveFileError: 500, SaveError: 507,
}  # fmt: skip
FAILURES = tuple(STATUSES)
FAULT = "This broke off because of a fault in the program, which the terminal it was started from describes."


class ApiError(HTTPException):
    """A refusal.

    Args:
        param: the field of the request that is at fault.
        code: what clients compare; OpenAI's own, where there is one.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, **headers: str
    ):
        # What a client sent may stand in it, halves of characters too.
        message = message.encode("utf-8", "replace").decode()
        super().__init__(status, message, {name.replace("_", "-"): value for name, value in headers.items()})
        self.param, self.code = param, code

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kind = KINDS.get(self.status_code, "invalid_request_error" if self.status_code < 500 else "api_error")
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The same as a response."""
        return JSONResponse(self.body(), self.status_code, self.headers)


KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def told(error: Exception) -> ApiError:
    """One of `FAILURES` as a refusal, which a refusal is already."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PasswordRequired):
        return ApiError(400, "This document is protected by a password: save it without one and send that.")
    return ApiError(next(status for kind, status in STATUSES.items() if isinstance(error, kind)), str(error))


def tell_errors(app: FastAPI) -> None:
    """Have every error of an app leave it as JSON."""
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misread)
    for kind in FAILURES:
        app.add_exception_handler(kind, lambda request, error: told(error).response())
    app.add_exception_handler(Exception, lambda request, error: ApiError(500, FAULT).response())


def _refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
    if isinstance(error, ApiError):
        return error.response()
    where = f"{request.method} {request.url.path}"
    if error.status_code in (404, 405):
        return ApiError(error.status_code, f"There is no {where} here.", code="unknown_url").response()
    return ApiError(error.status_code, f"{where} cannot be read: {error.detail}.").response()


def _misread(request: Request, error: RequestValidationError) -> JSONResponse:
    """The first thing that is wrong with a request's JSON."""
    first = error.errors()[0]
    field = ".".join(str(step) for step in first["loc"][1:])
    sentence = f"The request's {field or 'JSON'} is wrong: {first['msg']}."
    return ApiError(400, sentence, field or None).response()
