"""A running server, for tests: with an engine, a library of its own, and OpenAI's own client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from openai import OpenAI

from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library
from mlx_edgeinf.server.app import Api, create_app

WHALE = "\n\n".join(f"Chapter {n}. The whale swam past ship number {n}." for n in range(8)).encode()


@contextmanager
def served(engine: Engine, folder: Path, **rules) -> Iterator[str]:
    """The address of a server on a free port."""
    library = Library(folder)
    config = uvicorn.Config(create_app(Api(engine, library), **rules), log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()
    library.close()


def client_of(address: str, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)


def about(file_id: str, question: str = "Who swam?") -> list[dict]:
    """Messages that ask about a file."""
    file = {"type": "file", "file": {"file_id": file_id}}
    return [{"role": "user", "content": [file, {"type": "text", "text": question}]}]


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; fails if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
