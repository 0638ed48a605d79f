"""A model fetched from the hub: checked first, cancelled at any chunk, gone on with later."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from ..atomic import sync
from ..wording import size
from .home import CONFIG, read_json
from .hub import RemoteFile, RemoteModel, hub_sentences, remote_model
from .refusal import ModelRefused
from .shape import Shape

CHUNK = 1 << 20
SILENCE_SECONDS = 30.0
PARTIAL = 206

Progress = Callable[[int, int], None]


class Cancelled(Exception):
    """The download was cancelled; what came so far is kept."""


def download(repo: str, home: Path, progress: Progress, cancel: Event) -> Path:
    """Fetch a model into `home/repo` and return that folder.

    Args:
        repo: id on the hub, organisation/name.
        progress: told the bytes that are there and those of the whole.
        cancel: once set, the download ends at the next chunk; the next one goes on from there.

    Raises:
        ModelRefused: unsupported (told by its config.json alone, before any weights come), unknown,
            not open to everybody, no network, no room on the disk, or damaged on the way.
        Cancelled: it was.
    """
    folder, model = home / repo, remote_model(repo)
    with _disk_sentences(home, repo):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, repo):
            if not folder.is_dir():
                partial = _partial(folder, model.revision)
                _fetch_all(model, partial, progress, cancel)
                os.replace(partial, folder)
    return folder


def _partial(folder: Path, revision: str) -> Path:
    """The folder of what came so far of one revision; what came of others is deleted."""
    partial = folder.with_name(f"{folder.name}.{revision[:12]}.partial")
    partial.mkdir(exist_ok=True)
    for other in folder.parent.glob(f"{folder.name}.{12 * '?'}.partial"):
        if other != partial:
            shutil.rmtree(other)
    return partial


def _fetch_all(model: RemoteModel, folder: Path, progress: Progress, cancel: Event) -> None:
    # The configuration first: it says whether the rest is worth fetching.
    files = sorted(model.files, key=lambda file: (file.name != CONFIG, file.size))
    if files[0].name != CONFIG:
        raise ModelRefused(f"{model.repo} is no model for mlx-lm: it has no {CONFIG}.")
    done = 0
    for file in files:
        for there in _fetch(model, file, folder, cancel):
            progress(done + there, model.size)
        done += file.size
        if file.name == CONFIG:
            _require_supported(model, folder)
            _require_room(model, folder)


def _require_supported(model: RemoteModel, folder: Path) -> None:
    try:
        Shape.of(read_json(folder / CONFIG, model.repo), model.repo)
    except ModelRefused:
        shutil.rmtree(folder)
        raise


def _require_room(model: RemoteModel, folder: Path) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free, needed = shutil.disk_usage(folder).free, model.size - there
    if free < needed:
        raise ModelRefused(
            f"{model.repo} needs {size(needed)} more on the disk, and {size(free)} are free in "
            f"{folder.parent}: free some, then download again."
        )


def _fetch(model: RemoteModel, file: RemoteFile, folder: Path, cancel: Event) -> Iterator[int]:
    """Fetch what is missing of a file, yielding how many bytes of it are there; nothing if it is whole."""
    path = folder / file.name
    coming = path.with_name(f"{path.name}.coming")
    if not path.is_file():
        yield from _receive(model, file, coming, cancel)
        _require_whole(model, file, coming)
        os.replace(coming, path)
    yield file.size


def _receive(model: RemoteModel, file: RemoteFile, path: Path, cancel: Event) -> Iterator[int]:
    there = path.stat().st_size if path.is_file() else 0
    if there == file.size:
        path.touch()
        return
    url = hf_hub_url(model.repo, file.name, revision=model.revision)
    # Of the bytes themselves: packed on the way, half a file could not be gone on with.
    headers = build_hf_headers() | {"Range": f"bytes={there}-", "Accept-Encoding": "identity"}
    with hub_sentences(model.repo), get_session().stream(
        "GET", url, headers=headers, timeout=SILENCE_SECONDS
    ) as response:  # fmt: skip
        hf_raise_for_status(response)
        # A hub that cannot begin in the middle sends everything.
        there = there if response.status_code == PARTIAL else 0
        with path.open("ab" if there else "wb") as out:
            for chunk in response.iter_bytes(CHUNK):
                if cancel.is_set():
                    raise Cancelled
                out.write(chunk)
                there += len(chunk)
                yield there


def _require_whole(model: RemoteModel, file: RemoteFile, path: Path) -> None:
    with path.open("rb") as content:
        same = file.sha256 in (None, hashlib.file_digest(content, "sha256").hexdigest())
        sync(content.fileno())
    if path.stat().st_size == file.size and same:
        return
    path.unlink()
    raise ModelRefused(
        f"{file.name} of {model.repo} was damaged on its way and was deleted: download it again, the rest is "
        "kept."
    )


@contextmanager
def _alone(folder: Path, repo: str) -> Iterator[None]:
    lock = FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ModelRefused(f"{repo} is being downloaded in another window: wait for that.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_sentences(home: Path, repo: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some room, then download again" if full else "check that you may write there"
        raise ModelRefused(
            f"{repo} could not be kept in {home} ({error.strerror or error}): {remedy}; what came so far is "
            "kept."
        ) from error
