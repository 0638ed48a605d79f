"""Records of one size in a file: (layer, kv head, page), each with its checksum.

    stripe 0 | stripe 1 | ...        32 pages of all layers and kv heads
    stripe:  layer 0 | layer 1 | ... of a layer: head 0 | head 1 | ... of a head: page 0 ... page 31
    record:  payload | xxh3 of the payload, seeded with the store's own number and the record's place

So a record's offset is arithmetic, 512 evicted tokens of a layer are one
contiguous write, and neighbouring pages of a head are one read. One file for
all layers: as fast as one per layer, at 1 instead of 30 open files and fsyncs;
interleaving the layers page by page halves the rate (measured, ext4).

Read with pread and not through a memory map: a map of a file that someone
truncates, or of a disk that fails, ends the process by SIGBUS, and mapped pages
count as the process's memory. The price is a copy by the kernel.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from ..atomic import sync
from .errors import DiskFull, StoreDamaged, StoreError

STRIPE = 32  # pages
_CHECKSUM = 8  # bytes
_AGAIN = "delete the document and read it again, or go on without recall."
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RecordFile:
    """Fixed-size records of a store in one open file.

    Args:
        file: unbuffered, open for reading and writing.
        path: how messages call it.
        layers, heads: kv heads per layer.
        payload: bytes of a record without its checksum.
        seed: of the checksums: another store's records are not taken for this one's.
    """

    def __init__(self, file: BinaryIO, path: Path, layers: int, heads: int, payload: int, seed: int):
        self.path, self.layers, self.heads, self.payload = path, layers, heads, payload
        self._file, self._seed = file, seed
        self._record = payload + _CHECKSUM
        self.stripe_bytes = STRIPE * layers * heads * self._record
        # Closed with this object, whoever drops it.
        self.close = weakref.finalize(self, file.close)

    @property
    def stripes(self) -> int:
        """Whole stripes in the file."""
        return os.fstat(self._fd).st_size // self.stripe_bytes

    @property
    def in_place(self) -> bool:
        """False once the file was deleted or replaced by another one, or its disk is gone."""
        # Outside, as a file that is closed is another matter, and its StoreError an OSError too.
        file = self._fd
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(file))
        except OSError:
            return False

    @property
    def free(self) -> int:
        """Bytes that are free on its disk, also when its folder was deleted meanwhile.

        Raises:
            StoreError: the disk does not tell.
        """
        with self._changing():
            disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize

    def write(self, layer: int, page: int, payloads: np.ndarray) -> None:
        """Write payloads (G, n, payload), uint8, as the n pages of a layer from `page` on.

        Raises:
            DiskFull, StoreError: some or all of it was not written.
        """
        heads, count, _ = payloads.shape
        numbers = self._numbers(layer, np.arange(heads)[:, None], np.arange(page, page + count)).ravel()
        rows = np.empty((heads * count, self._record), np.uint8)
        rows[:, : self.payload] = payloads.reshape(heads * count, -1)
        sums = self._checksums(memoryview(rows.reshape(-1)), numbers)
        rows[:, self.payload :] = sums.astype("<u8")[:, None].view(np.uint8)
        for start, stop in _runs(numbers):
            self._write(rows[start:stop], int(numbers[start]) * self._record)

    def read(self, layer: int, heads: np.ndarray, pages: np.ndarray) -> np.ndarray:
        """The payloads (n, payload), uint8, of n records of a layer.

        Raises:
            StoreDamaged: the file ends before one, or one is not what was written.
        """
        numbers, record = self._numbers(layer, heads, pages), self._record
        places = [(int(numbers[start]) * record, (stop - start) * record) for start, stop in _runs(numbers)]
        self._announce(places)
        data = b"".join(self._read(size, offset) for offset, size in places)
        if len(data) < len(numbers) * record:
            raise StoreDamaged(f"{self.path} was cut short: {_AGAIN}")
        rows = np.frombuffer(data, np.uint8).reshape(-1, record)
        wrong = np.flatnonzero(self._checksums(memoryview(data), numbers) != self._stored(rows))
        if len(wrong):
            page, head = pages[wrong[0]], heads[wrong[0]]
            raise StoreDamaged(
                f"Page {page} of layer {layer}, head {head} in {self.path} is damaged: {_AGAIN}"
            )
        return rows[:, : self.payload]

    def valid_pages(self, start: int) -> int:
        """Where the run of pages that begins at `start` and is valid in all layers and heads ends."""
        while True:
            stripe, first = divmod(start, STRIPE)
            damaged = ~self._valid(stripe).reshape(-1, STRIPE).all(axis=0)[first:]
            if damaged.any():
                return start + int(damaged.argmax())
            start += len(damaged)

    def cut(self, pages: int) -> None:
        """Forget every page from `pages` on, for good.

        Raises:
            StoreError: the file could not be changed.
        """
        stripe, first = divmod(pages, STRIPE)
        end = stripe * self.stripe_bytes
        with self._changing():
            if first == 0:
                os.ftruncate(self._fd, min(end, os.fstat(self._fd).st_size))
            else:
                os.ftruncate(self._fd, min(end + self.stripe_bytes, os.fstat(self._fd).st_size))
                # Records behind the cut would pass for newer ones after a crash.
                places = np.arange(self.stripe_bytes // self._record)
                for place in places[self._valid(stripe) & (places % STRIPE >= first)].tolist():
                    at = end + place * self._record + self.payload
                    stored = self._read(_CHECKSUM, at)
                    os.pwrite(self._fd, bytes(byte ^ 0xFF for byte in stored), at)
            sync(self._fd)

    def sync(self) -> None:
        """Return once all that was written is on disk."""
        with self._changing():
            sync(self._fd)

    @property
    def _fd(self) -> int:
        if self._file.closed:
            raise StoreError(f"{self.path} is closed: open its store again.")
        return self._file.fileno()

    def _numbers(self, layer: int, heads: np.ndarray, pages: np.ndarray) -> np.ndarray:
        """Places of records in the file, counted in records."""
        stripe, place = np.divmod(pages, STRIPE)
        return ((stripe * self.layers + layer) * self.heads + heads) * STRIPE + place

    def _checksums(self, data: memoryview, numbers: np.ndarray) -> np.ndarray:
        """Of the records that stand one behind the other in data, by their place in the file."""
        checksum, size, seed = xxhash.xxh3_64_intdigest, self.payload, self._seed
        starts = range(0, len(data), self._record)
        sums = [checksum(data[at : at + size], (seed + n) % 2**64) for at, n in zip(starts, numbers.tolist())]
        return np.array(sums, np.uint64)

    def _stored(self, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(rows[:, self.payload :]).view("<u8")[:, 0]

    def _valid(self, stripe: int) -> np.ndarray:
        """Which records of a stripe are there and whole, in their order in the file."""
        data = self._read(self.stripe_bytes, stripe * self.stripe_bytes)
        count, total = len(data) // self._record, self.stripe_bytes // self._record
        data = memoryview(data)[: count * self._record]
        rows = np.frombuffer(data, np.uint8).reshape(count, self._record)
        valid = np.zeros(total, bool)
        valid[:count] = self._checksums(data, np.arange(count) + stripe * total) == self._stored(rows)
        return valid

    def _announce(self, places: list[tuple[int, int]]) -> None:
        """Have the disk fetch what is at these offsets, of these sizes, side by side, where Python can ask.

        Of 2,048 tokens for each head of all layers of the starter model 25 MB, in 11,520 places,
        came from a cold disk in 0.5 s instead of 2.5 s, and from the page cache in 0.4 s instead of 0.1 to
        0.3 s, beside two busy processes. Asking a layer ahead would save little more: of the pages that a
        layer chooses, the one below has chosen 0.66 for some head, out of twice as many.
        """
        if hasattr(os, "posix_fadvise"):
            for offset, size in places:
                os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_WILLNEED)

    def _read(self, size: int, offset: int) -> bytes:
        file = self._fd
        try:
            return os.pread(file, size, offset)
        except OSError as error:
            raise StoreDamaged(
                f"{self.path} could not be read ({error.strerror or error}): {_AGAIN}"
            ) from error

    def _write(self, rows: np.ndarray, offset: int) -> None:
        left = memoryview(rows.reshape(-1))
        with self._changing():
            while left:
                done = os.pwrite(self._fd, left, offset)
                left, offset = left[done:], offset + done

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Tell people why the file could not be changed."""
        try:
            yield
        except StoreError:
            # An OSError too, and told already.
            raise
        except OSError as error:
            kind = DiskFull if error.errno in _FULL else StoreError
            raise kind(
                f"{self.path} could not be written ({error.strerror or error}): free space there, or go on "
                "without recall; nothing that was read so far is lost."
            ) from error


def _runs(numbers: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of each run of consecutive numbers."""
    if not len(numbers):
        return []
    edges = np.flatnonzero(np.diff(numbers) != 1) + 1
    return list(pairwise([0, *edges.tolist(), len(numbers)]))
