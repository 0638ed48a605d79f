"""Small files that are replaced whole and carry their own checksum."""

from __future__ import annotations

from pathlib import Path

import xxhash

from ..atomic import SaveError, replacing
from .errors import NotNow, StoreDamaged

_SEAL = 33  # bytes: a line break and the checksum in hexadecimal


def write_sealed(path: Path, content: bytes) -> None:
    """Replace a file, and return once it is on disk.

    Raises:
        NotNow: it could not be written; what was there before is unchanged.
    """
    try:
        with replacing(path) as file:
            file.write(content + b"\n" + xxhash.xxh3_128_hexdigest(content).encode())
    except SaveError as error:
        raise NotNow(str(error)) from error


def read_sealed(path: Path) -> bytes:
    """The content of such a file.

    Raises:
        StoreDamaged: it is missing, or not what was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreDamaged(
            f"{path} could not be read ({error.strerror or error}): delete the document and read it again."
        ) from error
    content, seal = data[:-_SEAL], data[-_SEAL:]
    if seal != b"\n" + xxhash.xxh3_128_hexdigest(content).encode():
        raise StoreDamaged(f"{path} is damaged: delete the document and read it again.")
    return content
