"""Serves the page to this machine and keeps the browser from reaching any other.

A summary or an answer may be steered by a hostile document, so what the page may load is
decided before any of it is shown: the policy goes out as a header with every response.
"""

from __future__ import annotations

from importlib.resources import files

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access, new_secret
from .tabs import Tabs, further_sockets, serve_on

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]  # by no other name, so that no web page can have one point here
LARGEST_UPLOAD = "1gb"
# Later ones win.
STYLES = (
    "palette", "gradio", "room", "desk", "reading", "sheet", "library", "insight", "models", "leaf", "wide",
    "narrow",
)  # fmt: skip

# Gradio builds its components from inline scripts and evaluated templates, hence the unsafe
# words; they run nothing of a document's, whose text reaches the page escaped.
SOURCES = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "frame-src": "'none'",
    "frame-ancestors": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
POLICY = "; ".join(f"{what} {where}" for what, where in SOURCES.items())
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PrivacyHeaders:
    """ASGI middleware that adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add to the response as it starts."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def serve(page: gr.Blocks, port: int | None = None) -> str:
    """Begin to serve `page` on 127.0.0.1 and return its address, which only this user is to know.

    `port` None takes the first free one from 7860 on. Raises `OSError` if the port is taken.
    """
    secret, sockets = new_secret(), further_sockets(HOST)
    ports = [each.getsockname()[1] for each in sockets]
    serve_on(page, sockets)
    guards = [
        Middleware(TrustedHostMiddleware, HOSTS), Middleware(PrivacyHeaders), Middleware(Access, secret),
        Middleware(Tabs, ports),
    ]  # fmt: skip
    _, url, _ = page.launch(
        server_name=HOST,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        strict_cors=True,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        footer_links=[],
        max_file_size=LARGEST_UPLOAD,
        app_kwargs={"middleware": guards},
        favicon_path=files("mlx_edgeinf.ui").joinpath("icon.svg"),
        theme=gr.themes.Base(),
        head=_head(),
    )
    return f"{url}{secret}/"


def _head() -> str:
    """Style and script as they are: Gradio's own `css` rewrites selectors and breaks some."""
    room = files("mlx_edgeinf.ui")
    style = "\n".join(room.joinpath("style", f"{name}.css").read_text("utf-8") for name in STYLES)
    script = room.joinpath("page.js").read_text("utf-8")
    return f"<style>{style}</style><script>{script}</script>"
