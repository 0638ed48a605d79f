"""Uploads and the library: a file is known by its bytes, so the same one is never read twice."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from binascii import Error as Base64Error
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from ..documents import joined, read_document
from ..library import Entry, Library
from ..summarize import require_text
from .errors import ApiError
from .wire import File

PREFIX = "file-"
LONGEST_NAME = 200  # bytes; file systems take 255
UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


class Shelf:
    """The library, as OpenAI's files."""

    def __init__(self, library: Library):
        self._library = library

    def take(self, name: str, file: BinaryIO) -> Entry:
        """Keep a file and its text.

        Raises:
            DocumentError: it cannot be read, or has no text.
            LibraryError, SaveError: it cannot be kept.
        """
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        known = self._library.find(digest)
        if known and known.original:
            return self._with_text(known)
        file.seek(0)
        with TemporaryDirectory(prefix="mlx_edgeinf-") as folder:
            path = Path(folder) / _safe(name)
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
            document = read_document(path)
            require_text(document)
            return self._library.add(document, path)

    def find(self, file_id: str) -> Entry:
        """The document with this id.

        Raises:
            ApiError: there is none.
        """
        entry = self._library.find(file_id.removeprefix(PREFIX)) if file_id.startswith(PREFIX) else None
        if entry is None:
            raise ApiError(404, f"There is no file {file_id} here: upload it first.", "file_id", "not_found")
        return entry

    def asked(self, files: list[File]) -> Entry | None:
        """The document that a request is about; several are joined to one, none is None.

        Raises:
            ApiError: one is not here, or is not in base64.
            DocumentError: one has no text. Others as `take`.
        """
        entries = list({entry.id: entry for entry in map(self._one, files)}.values())
        if len(entries) < 2:
            return entries[0] if entries else None
        collection = joined([self._library.document(entry.id) for entry in entries])
        entry = self._library.add(collection)
        blank = self._library.document(entry.id).pages_without_text
        # Text may have been recognised in one of them since; or else in the collection, where it stays.
        if len(collection.pages_without_text) <= len(blank):
            self._library.revise(entry.id, collection)
        return entry

    def listed(self) -> list[Entry]:
        """All documents, the latest first."""
        return self._library.entries()

    def delete(self, entry: Entry) -> None:
        """Delete a document and all that was made of it.

        Raises:
            LibraryError: it is being read at this moment.
        """
        self._library.delete(entry.id)

    def original(self, entry: Entry) -> Path:
        """The file as it was uploaded.

        Raises:
            ApiError: only its text was kept.
        """
        path = self._library.original(entry.id)
        if path is None:
            raise ApiError(404, f"Only the text of {entry.name} was kept, not the file itself.", "file_id")
        return path

    def _one(self, file: File) -> Entry:
        if file.file_id:
            return self._with_text(self.find(file.file_id))
        # Clients send the data as it is or as a data: address.
        data = (file.file_data or "").rpartition(",")[2]
        try:
            return self.take(file.filename, BytesIO(base64.b64decode(data, validate=True)))
        except Base64Error as error:
            raise ApiError(400, f"The file_data of {file.filename} is not base64.", "file_data") from error

    def _with_text(self, entry: Entry) -> Entry:
        """A document that can be asked about: the page keeps a scan too, until its text is recognised."""
        require_text(self._library.document(entry.id))
        return entry


def file_object(entry: Entry) -> dict[str, Any]:
    """A document as OpenAI describes a file. Every upload has the one purpose."""
    return {
        "id": PREFIX + entry.sha256, "object": "file", "bytes": entry.original_bytes,
        "created_at": int(entry.added.timestamp()), "filename": entry.name, "purpose": "user_data",
        "status": "processed",
    }  # fmt: skip


def _safe(name: str) -> str:
    """A name for a file in a folder of its own, whatever a client calls it."""
    last = UNSAFE.sub("/", name).rpartition("/")[2].strip(" .")
    return last.encode("utf-8", "ignore")[-LONGEST_NAME:].decode("utf-8", "ignore") or "document"
