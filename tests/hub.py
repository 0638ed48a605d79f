"""A hub on this machine: its endpoints for one model, over HTTP, as huggingface_hub asks them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REVISION = "a" * 40


class Hub:
    """What the hub has, and what it was asked.

    files: contents by name. gated: behind terms. ranges: whether it can begin in the middle.
    cut: a file that breaks off after so many bytes, once. sha256: others than the right ones.
    """

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo, self.files = repo, files
        self.cut: dict[str, int] = {}
        self.sha256: dict[str, str] = {}
        self.gated, self.ranges = False, True
        self.asked: list[tuple[str, str | None]] = []

    def info(self) -> dict:
        siblings = []
        for name, content in self.files.items():
            sha256 = self.sha256.get(name, hashlib.sha256(content).hexdigest())
            lfs = {"sha256": sha256, "size": len(content), "pointerSize": 1} if "." in name else None
            siblings.append({"rfilename": name, "size": len(content), "blobId": "b", "lfs": lfs})
        return {"id": self.repo, "modelId": self.repo, "sha": REVISION, "siblings": siblings, "tags": []}


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The hub's address, which the hub's own library is told for as long."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *_: object) -> None:
            """Be quiet."""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == f"/api/models/{hub.repo}":
                self.answer(200, json.dumps(hub.info()).encode())
            elif found := re.fullmatch(f"/{hub.repo}/resolve/{REVISION}/(.+)", path):
                self.send_file(found[1])
            else:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def send_file(self, name: str) -> None:
            asked = self.headers.get("Range")
            hub.asked.append((name, asked))
            if hub.gated:
                self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
                return
            content, start = hub.files[name], 0
            if asked and hub.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            self.answer(206 if start else 200, content[start:], cut=hub.cut.pop(name, None))

        def answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for header, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body[:cut])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        address = f"http://127.0.0.1:{server.server_port}"
        patch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield address
    server.shutdown()
    thread.join()
    server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
