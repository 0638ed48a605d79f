"""Many tabs at once: a browser holds at most six connections to one server, and tabs share them.

Every open page keeps two connections for itself: Gradio's heartbeat, and the stream of what goes on.
So in the third tab of a port nothing could be pressed. Browsers count by port, so further tabs are
sent on to further ports of the same server, which is enough for sixteen.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import gradio as gr
import uvicorn
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

FURTHER_PORTS = 7
# Four of the six connections, which leaves two for what is asked in passing.
MOST_TABS = 2
# How soon after a tab was closed its event ends; Gradio has room for 40 events at once.
STAY_SECONDS = 5


async def stay() -> AsyncIterator[None]:
    """An event of a page that ends only with its tab.

    Gradio 6.31 closes a page's stream when the last of its events ends; one that begins in the same moment
    counts on that stream, is never heard of, and a press on a button has done nothing. The price: a page at
    rest notices the end of the program as well, and Gradio looks for it until the page is closed.
    """
    while True:
        await asyncio.sleep(STAY_SECONDS)
        yield


class Tabs:
    """ASGI middleware that sends a new tab on to the port with the fewest, once its own has enough.

    Inside of `access.Access`, which puts the page under its secret.
    """

    def __init__(self, app: ASGIApp, further: Sequence[int]) -> None:
        self._app, self._further = app, further
        self._open = Counter(dict.fromkeys(further, 0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or send the tab on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host, port = scope["server"]
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == "/" and scope["method"] == "GET":
            best = port if self._open[port] < MOST_TABS else min((port, *self._further), key=self._open.get)
            if best != port:
                await RedirectResponse(f"http://{host}:{best}{scope['path']}")(scope, receive, send)
                return
            self._open[port] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            # The one request that lasts as long as the tab does.
            if path.startswith("/gradio_api/heartbeat/"):
                self._open[port] = max(self._open[port] - 1, 0)


def further_sockets(host: str) -> list[socket.socket]:
    """Sockets on free ports that listen already."""
    return [socket.create_server((host, 0)) for _ in range(FURTHER_PORTS)]


def serve_on(page: gr.Blocks, sockets: list[socket.socket]) -> None:
    """Have a page, once it is launched, be served on these sockets as well, in the same event loop."""
    running = []

    async def serve() -> None:
        server = uvicorn.Server(uvicorn.Config(page.app, lifespan="off", log_level="warning"))
        try:
            await server.serve(sockets)
        finally:
            for each in sockets:
                each.close()

    async def begin() -> None:
        running.append(asyncio.create_task(serve()))

    page.extra_startup_events.append(begin)
