"""Who may use the page: whoever was told its address, which has a secret in its path.

Other users of this machine reach 127.0.0.1 as well. A cookie would not do: browsers send it to
every port of a machine, and so to a server that another user has there.
"""

from __future__ import annotations

import secrets
import webbrowser
from hmac import compare_digest
from html import escape
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

STRANGER = "This page answers only to the address that the terminal it was started from shows.\n"
ELSEWHERE = "Pages of other sites may not use this page.\n"

# What Gradio asks of its own server as it starts, and browsers of every site; the answers tell nothing.
OPEN = {("GET", "/gradio_api/startup-events"), ("HEAD", "/"), ("GET", "/favicon.ico")}


def new_secret() -> str:
    """128 random bits, as they may stand in an address."""
    return secrets.token_urlsafe(16)


class Access:
    """ASGI middleware that refuses with 403 what does not know the secret, or comes from another site.

    What it lets through finds the page under the secret as if it stood at the root.
    """

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app, self._root = app, f"/{secret}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or (scope.get("method"), scope["path"]) in OPEN:
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            await PlainTextResponse(refusal, 403)(scope, receive, send)
        else:
            await self._app(scope | {"root_path": self._root}, receive, send)

    def _refusal(self, scope: Scope) -> str:
        headers, path = Headers(scope=scope), scope["path"]
        origin = headers.get("origin")
        if not compare_digest(path[: len(self._root) + 1].encode(), f"{self._root}/".encode()):
            return STRANGER
        # A browser says from which site something is sent; between pages of one server it may leave it out.
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return ELSEWHERE
        return ""


def open_in_browser(address: str, folder: Path) -> None:
    """Open a window by way of a file in a folder that is the user's own.

    An address that is handed to a browser as it is started can be read in the list of processes.
    """
    way = folder / "open.html"
    way.write_text(f'<meta http-equiv="refresh" content="0; url={escape(address)}">', "utf-8")
    webbrowser.open(way.as_uri())
