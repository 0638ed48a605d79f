"""Who may ask: by which name, from where, with which key, and how much at once.

The library holds what a person reads. No web page may reach it: not by having a name of its own point
here (the Host header tells), not by sending forms across (the Origin header tells).
"""

from __future__ import annotations

from hmac import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..documents.read import MOST_BYTES
from ..wording import size
from .errors import ApiError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UPLOAD = "/v1/files"
LARGEST_REQUEST = 64_000_000
# What stands around the file in an upload.
WRAPPING = 1_000_000


class Guard:
    """ASGI middleware that turns away what is not allowed before any of it is read.

    Args:
        key: the API key, if one is demanded.
        any_name: serve under names other than this machine's own. Only safe with a key.
    """

    def __init__(self, app: ASGIApp, key: str | None, any_name: bool):
        self._app, self._key, self._any_name = app, key, any_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MOST_BYTES + WRAPPING if scope["path"] == UPLOAD else LARGEST_REQUEST
        try:
            self._check(Headers(scope=scope), most)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, _limited(receive, most), send)

    def _check(self, headers: Headers, most: int) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._any_name and _name(host) not in LOOPBACK:
            raise ApiError(403, f"This server does not answer to this name: use {LOOPBACK[0]} or localhost.")
        if origin is not None and _authority(origin) != host:
            raise ApiError(403, "Web pages of other sites may not use this server.")
        if self._key and not compare_digest(
            headers.get("authorization", "").encode("latin-1"), f"Bearer {self._key}".encode()
        ):
            raise ApiError(
                401, "The API key is missing or wrong: give the one this server was started with.",
                code="invalid_api_key", www_authenticate="Bearer",
            )  # fmt: skip
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)


def _limited(receive: Receive, most: int) -> Receive:
    """Count what arrives: a body sent in chunks does not say its length before."""
    arrived = 0

    async def counted() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The request is larger than {size(most)}: send long documents to {UPLOAD}.")


def _authority(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
