"""PageStore: the evicted keys and values of one document, in a folder.

    header       what this is
    pages        keys and values (records.py)
    summaries    of the pages
    checkpoint   tokens at the last `sync`, and those of them that filled no page

A reading that was killed at any moment goes on: `resume` trusts what was there
at the last `sync`, checks what came after it, keeps the longest run of pages
that is whole in all layers and cuts off the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import numpy as np

from .errors import StoreDamaged, StoreError
from .folder import (
    CHECKPOINT,
    HEADER,
    Header,
    lock,
    make_empty,
    open_locked,
    record_paths,
    remove_leftovers,
    remove_store,
    unlock,
)
from .pages import Pages, Summarize, record_files
from .records import STRIPE
from .sealed import read_sealed, write_sealed
from .shape import StoreShape


class PageStore(Pages):
    """The pages of one document on disk: made by `create`, or opened by `resume`.

    Attributes:
        document: the id that its maker gave it.
        settled: nothing is written here until `go_on`.
    """

    lasting = True

    def __init__(self, folder: Path, header: Header, quota_bytes: int, summarize: Summarize):
        files = open_locked(folder)
        records = record_files(header.shape, record_paths(folder), files, header.seed)
        super().__init__(folder, header.shape, records, quota_bytes, summarize)
        self.document, self._seed = header.document, header.seed
        self._locked, self.settled = files[0], False
        # Tokens that the checkpoint on disk tells of, if they are known to be the ones here.
        self._synced: int | None = None

    @classmethod
    def create(
        cls, folder: Path, shape: StoreShape, document: str, quota_bytes: int, summarize: Summarize
    ) -> Self:  # fmt: skip
        """Begin an empty store; nobody else can open it until it is closed.

        Args:
            folder: made where it is missing.
            document: an id that tells what is read, and by which model.
            quota_bytes: that the store may take on disk.
            summarize: makes the summaries of new pages, of the shape that `shape` has.

        Raises:
            StoreError: there is a store already, or the folder cannot be written to.
            StoreInUse: someone else is making one here.
        """
        make_empty(folder)
        header = Header.new(document, shape)
        store = cls(folder, header, quota_bytes, summarize)
        if (folder / HEADER).exists():
            store.close()
            raise StoreError(
                f"{folder} already holds a document's pages: resume that reading, or remove them."
            )
        # What an unfinished removal left.
        store._cut(0)
        header.write(folder)
        return store

    @classmethod
    def resume(cls, folder: Path, quota_bytes: int, summarize: Summarize) -> Self:
        """Open a store to go on writing behind its `tokens`, after a crash too.

        Raises:
            StoreDamaged: it is missing or damaged. StoreInUse: someone is writing to it.
            StoreError: it is of another version.
        """
        store = cls(folder, Header.read(folder), quota_bytes, summarize)
        store._check_in_place()
        store._recover()
        remove_leftovers(folder)
        store._cut(store.pages(0))
        return store

    def append(self, layer: int, keys: np.ndarray, values: np.ndarray) -> None:
        self._check_writable()
        super().append(layer, keys, values)

    append.__doc__ = Pages.append.__doc__

    def sync(self) -> None:
        """Return once everything appended so far is on disk, the waiting tokens too.

        Raises:
            StoreError: the files cannot be written, or were deleted or replaced, or the layers
                hold different numbers of tokens.
        """
        if self.tokens != max(map(self._tokens, range(self.shape.layers))):
            raise StoreError(
                f"The layers in {self._folder} hold different numbers of tokens: cut them to {self.tokens}."
            )
        self._check_writable()
        # Nothing to write: so what is complete can be opened though the disk is full.
        if self.tokens == self._synced:
            return
        for file in self._files:
            file.sync()
        self._write_checkpoint(self.tokens, self._waiting)

    def truncate(self, tokens: int) -> None:
        """Forget all tokens behind the first so many: to go on from an older checkpoint.

        Where the cut falls inside a page, the page's first tokens wait again; in 8 bits they come
        back as they were stored. There must be no fork.

        Raises:
            StoreError: there are not so many, or the files cannot be written.
            StoreDamaged: the page in which the cut falls is damaged.
        """
        if not 0 <= tokens <= self.tokens:
            raise StoreError(
                f"{self._folder} holds {self.tokens} tokens and cannot go on from {tokens}: "
                "delete the document and read it again."
            )
        self._check_writable()
        pages, rest = divmod(tokens, self.shape.page_tokens)
        waiting = [self._beginning(layer, pages, rest) for layer in range(self.shape.layers)]
        # Before the cut: a crash in between leaves more tokens than this, all of them right.
        self._write_checkpoint(tokens, waiting)
        self._pages, self._waiting = [pages] * self.shape.layers, waiting
        self._cut(pages)

    def settle(self) -> None:
        """Sync, and let others write from now on: what is here stays as it is, to be read and forked.

        Raises:
            StoreError: as `sync`; others may write nevertheless.
        """
        try:
            self.sync()
        finally:
            self.settled = True
            unlock(self._locked)

    def go_on(self) -> None:
        """After `settle`: write again.

        Raises:
            StoreInUse: someone else is writing.
            StoreError: someone else has written in between, or the files were deleted or replaced.
        """
        lock(self._locked, self._folder)
        if self._read_checkpoint()[0] != self.tokens:
            unlock(self._locked)
            raise StoreError(f"{self._folder} was written to by another window: open the document again.")
        self.settled = False
        self._cut(self.pages(0))

    def close(self) -> None:
        """Let go of the files, and of the lock on them."""
        for file in self._files:
            file.close()

    def remove(self) -> None:
        """Close the store and delete all of it.

        Raises:
            StoreInUse: someone else has it open.
        """
        self.close()
        remove_store(self._folder)

    # -- inside -----------------------------------------------------------------

    def _recover(self) -> None:
        """Find the tokens that all layers hold."""
        try:
            tokens, waiting = self._read_checkpoint()
            self._synced = tokens
        except StoreDamaged:
            tokens, waiting = 0, self._waiting
        trusted = tokens // self.shape.page_tokens
        start = min(trusted, *(file.stripes * STRIPE for file in self._files))
        pages = min(file.valid_pages(start) for file in self._files)
        self._pages = [pages] * self.shape.layers
        # With fewer pages or more of them, the tokens that waited are not the next ones.
        if pages == trusted:
            self._waiting = waiting

    def _beginning(self, layer: int, page: int, tokens: int) -> np.ndarray:
        """The first tokens (2, G, tokens, d) of a page, which is complete or waits."""
        if page == self._pages[layer]:
            return self._waiting[layer][:, :, :tokens]
        whole = self.gather(layer, np.full((self.shape.kv_heads, 1), page), np.float16)
        return np.stack(whole)[:, :, :tokens]

    def _write_checkpoint(self, tokens: int, waiting: list[np.ndarray]) -> None:
        fields = json.dumps({"seed": self._seed, "tokens": tokens})
        write_sealed(self._folder / CHECKPOINT, fields.encode() + b"\n" + np.stack(waiting).tobytes())
        self._synced = tokens

    def _read_checkpoint(self) -> tuple[int, list[np.ndarray]]:
        """Tokens at the last `sync`, and for each layer those that waited."""
        path, shape = self._folder / CHECKPOINT, self.shape
        fields, _, waiting = read_sealed(path).partition(b"\n")
        record = json.loads(fields)
        if record["seed"] != self._seed:
            raise StoreDamaged(f"{path} belongs to another store: delete the document and read it again.")
        count = record["tokens"] % shape.page_tokens
        sizes = (shape.layers, 2, shape.kv_heads, count, shape.head_dim)
        return record["tokens"], list(np.frombuffer(waiting, np.float16).reshape(sizes))

    def _cut(self, pages: int) -> None:
        for file in self._files:
            file.cut(pages)

    def _check_writable(self) -> None:
        if self.settled:
            raise StoreError(f"{self._folder} is settled: go on with it first, or append to a fork.")
        self._check_in_place()

    def _check_in_place(self) -> None:
        for file in self._files:
            if not file.in_place:
                raise StoreError(
                    f"{file.path} was deleted or replaced by another program: delete the document and read "
                    "it again."
                )
