"""Opens the port: on this machine alone, or with a key for others."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import FrameType

import uvicorn

from ..engine import Engine
from ..library import Library
from .app import Api, create_app
from .guard import LOOPBACK

HOST, PORT = LOOPBACK[0], 8080
KEY_VARIABLE = "MLX_EDGEINF_API_KEY"
# For the segment that is being read when the server is told to end.
GRACE_SECONDS = 30


class ServerError(OSError):
    """The server cannot be opened; the message says what to do."""


class Server(uvicorn.Server):
    """Has answers end at the first Ctrl-C, which would else be waited for to their last word."""

    def __init__(self, config: uvicorn.Config, api: Api):
        super().__init__(config)
        self._api, self.interrupted = api, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End."""
        self.interrupted = sig == signal.SIGINT
        self._api.stop()
        super().handle_exit(sig, frame)


def serve(
    load: Callable[[], Engine], library: Library, host: str | None, port: int | None, key_file: Path | None
) -> None:
    """Serve the API until Ctrl-C.

    Args:
        load: called once it is sure that the port is ours.
        host: an address of this machine; None is 127.0.0.1, others than its own need an API key.
        port: None is 8080.
        key_file: a file with the key, made with a new one if it is missing; None takes the key from
            MLX_EDGEINF_API_KEY, if that is set.

    Raises:
        ServerError: there is no key where one is needed, or the port is taken.
    """
    host = HOST if host is None else host
    key, local = api_key(key_file, os.environ), is_local(host)
    if not key and not local:
        raise ServerError(
            f"Other machines could reach {host}: set {KEY_VARIABLE} or give --api-key-file, "
            "or leave --host out."
        )
    with closing(_listening(host, PORT if port is None else port)) as listener, closing(load()) as engine:
        api = Api(engine, library)
        config = uvicorn.Config(
            create_app(api, key, any_name=not local), log_level="warning", access_log=False,
            server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE_SECONDS,
        )  # fmt: skip
        print(f"{engine.name} at http://{_shown(listener)}/v1 (Ctrl-C closes it)", flush=True)
        server = Server(config, api)
        server.run([listener])
        # uvicorn raises the signal anew, which its event loop now and then swallows.
        if server.interrupted:
            raise KeyboardInterrupt


def api_key(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The key that requests must bring; None if there is none.

    Raises:
        ServerError: the file cannot be read, or there is nothing in it.
    """
    if file is None:
        return environment.get(KEY_VARIABLE, "").strip() or None
    _make_key(file)
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"The key file {file} cannot be read: write the key to it as text.") from error
    if not key:
        raise ServerError(f"The key file {file} is empty: write a long random key to it.")
    return key


def _make_key(file: Path) -> None:
    """Write a new key that only its owner can read, unless there is a file already."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise ServerError(
            f"The key file {file} cannot be written ({error.strerror}): choose another place for it."
        ) from error
    with os.fdopen(descriptor, "w") as written:
        written.write(f"{secrets.token_urlsafe(32)}\n")


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ServerError(
            f"{host}, port {port} cannot be opened ({error}): choose another with --host or --port."
        ) from error


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
