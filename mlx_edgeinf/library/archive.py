"""A document with all that was made of it as one file: a zip for another machine.

What comes from outside is not trusted: the members have fixed names, so no path
in the file is ever followed; the large ones are not compressed and the others
bounded, so nothing unpacks to more than it says; all is checked before a row
is written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from shutil import copyfileobj
from typing import Annotated, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pydantic import AwareDatetime, Field, TypeAdapter
from safetensors import SafetensorError, safe_open

from ..atomic import replacing
from ..chat import Turn
from ..documents import Page
from ..events import Receipt
from ..summarize import STRATEGIES
from ..wording import size
from .files import pieces
from .rows import LibraryError

FORMAT = 1
SUFFIX = ".edgeinf"
MANIFEST, PAGES, SUMMARIES, CHATS = "manifest.json", "pages.json", "summaries.json", "chats.json"
MOST_TEXT = 100_000_000

LARGEST = 2**53
Count = Annotated[int, Field(ge=0, le=LARGEST)]


@dataclass(frozen=True)
class PackedReading:
    """A reading; its memory is a member of its own. pages: where they are not the document's own."""

    model: str
    identity: dict[str, str]
    pages: tuple[Page, ...] | None
    position: Count
    tokens: Count
    pages_read: Count
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    saved: AwareDatetime


@dataclass(frozen=True)
class Manifest:
    """What the file holds. original: the ending of the original's name, if it is there."""

    format: int
    name: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    original: Annotated[str, Field(pattern=r"^(\.[a-z0-9]{1,8})?$")] | None
    readings: tuple[PackedReading, ...]


@dataclass(frozen=True)
class PackedSummary:
    """A summary. reading: its place in the manifest."""

    reading: Count | None
    text: str
    receipt: Receipt
    time: AwareDatetime


@dataclass(frozen=True)
class PackedChat:
    """A chat. reading: its place in the manifest."""

    reading: Count
    started: AwareDatetime
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Contents:
    """Everything but the files."""

    manifest: Manifest
    pages: tuple[Page, ...]
    summaries: tuple[PackedSummary, ...]
    chats: tuple[PackedChat, ...]


_TYPES: dict[str, TypeAdapter] = {
    MANIFEST: TypeAdapter(Manifest),
    PAGES: TypeAdapter(tuple[Page, ...]),
    SUMMARIES: TypeAdapter(tuple[PackedSummary, ...]),
    CHATS: TypeAdapter(tuple[PackedChat, ...]),
}


def write(path: Path, contents: Contents, memories: Sequence[Path], original: Path | None) -> None:
    """Write a document as one file, replaced atomically.

    Raises:
        LibraryError: a memory or the original cannot be read.
        SaveError: the disk is full, or it cannot be written to.
    """
    parts = zip(_TYPES, (contents.manifest, contents.pages, contents.summaries, contents.chats))
    with replacing(path) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, part in parts:
            archive.writestr(name, _TYPES[name].dump_json(part))
        for number, memory in enumerate(memories):
            _store(archive, memory, memory_member(number), contents.manifest.name)
        if original:
            _store(archive, original, original_member(contents.manifest), contents.manifest.name)


def _store(archive: ZipFile, source: Path, member: str, document: str) -> None:
    """Lay a file that the library keeps of a document into an archive, as it is."""
    name = f"{source.name}, which {source.parent} keeps of {document},"
    remedy = "check that disk, or delete the document and read it again; nothing was exported"
    with archive.open(ZipInfo(member), "w", force_zip64=True) as stored:
        stored.writelines(pieces(source, name, remedy))


def memory_member(number: int) -> str:
    """The name in the file of the memory of one of the manifest's readings."""
    return f"memories/{number}.safetensors"


def original_member(manifest: Manifest) -> str:
    return f"original{manifest.original}"


class Archive:
    """An open file from another library, its contents checked."""

    def __init__(self, path: Path, archive: ZipFile):
        self._name, self._archive = path.name, archive
        manifest = self._part(MANIFEST)
        if manifest.format > FORMAT:
            raise LibraryError(f"{path.name} was exported by a newer version of this program: update it.")
        self._refuse_strangers(manifest)
        self.contents = Contents(manifest, *(self._part(name) for name in (PAGES, SUMMARIES, CHATS)))
        _check(self.contents)

    def copy_memory(self, number: int, path: Path) -> None:
        """Copy the memory of a reading, which must be one by its header; the rest is checked on opening.

        Raises:
            SaveError: the disk is full.
        """
        self._copy(memory_member(number), path)
        with safe_open(path, framework="np") as memory:
            metadata = memory.metadata() or {}
        _require(metadata.items() >= self.contents.manifest.readings[number].identity.items())

    def copy_original(self, path: Path) -> None:
        """Copy the file that the document was read from.

        Raises:
            SaveError: the disk is full.
        """
        self._copy(original_member(self.contents.manifest), path)
        with path.open("rb") as file:
            _require(file_digest(file, "sha256").hexdigest() == self.contents.manifest.sha256)

    def _copy(self, member: str, path: Path) -> None:
        with self._member(member) as source, replacing(path) as file:
            copyfileobj(source, file, 1 << 20)

    def _part(self, name: str) -> Any:
        """A member of JSON, read no further than it may be long."""
        if self._archive.getinfo(name).file_size > MOST_TEXT:
            raise LibraryError(
                f"{self._name} would unpack to more than {size(MOST_TEXT)} of text, which no document has: "
                "nothing of it was imported."
            )
        with self._member(name) as member:
            return _TYPES[name].validate_json(member.read(MOST_TEXT))

    @contextmanager
    def _member(self, name: str) -> Iterator[_Unpacked]:
        """A member to be read; one that is said to stand where no file has a place is damaged, too."""
        try:
            member = self._archive.open(name)
        except OSError as error:
            raise Damaged from error
        with member:
            yield _Unpacked(member)

    def _refuse_strangers(self, manifest: Manifest) -> None:
        large = [memory_member(number) for number in range(len(manifest.readings))]
        if manifest.original is not None:
            large.append(original_member(manifest))
        strangers = set(self._archive.namelist()) - {*_TYPES, *large}
        if strangers:
            raise LibraryError(
                f"{self._name} holds {min(strangers)!r}, which no library exports: nothing was imported."
            )
        _require(len(self._archive.namelist()) == len(_TYPES) + len(large))
        _require(all(self._archive.getinfo(name).compress_type == ZIP_STORED for name in large))


def is_exported(path: Path) -> bool:
    """Whether a file is for a library, by its name or, whatever its name, by what is in it."""
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (BadZipFile, OSError, ValueError, struct.error):
        return False


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """A file from another library, to be taken over.

    Raises:
        LibraryError: it cannot be opened, is none, is damaged, or is made to do harm.
    """
    try:
        with path.open("rb") as file, _sentences(path), ZipFile(file) as archive:
            yield Archive(path, archive)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise LibraryError(f"{path.name} cannot be opened ({error.strerror}): choose it again.") from error


class Damaged(ValueError):
    """What no library exports."""


# What zipfile and those that read its members raise for bytes that make no sense to them.
DAMAGE = (BadZipFile, EOFError, KeyError, RuntimeError, SafetensorError, ValueError, struct.error, zlib.error)


class _Unpacked:
    """A member as it is read, its errors apart from those of the disk that it is written to."""

    def __init__(self, member):
        self._member = member

    def read(self, count: int) -> bytes:
        try:
            return self._member.read(count)
        except OSError as error:
            raise Damaged from error


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """All that a damaged or hostile zip makes the libraries raise, as one sentence."""
    try:
        yield
    except DAMAGE as error:
        raise LibraryError(
            f"{path.name} was not exported from a library, or it is damaged: export it again. Nothing of it "
            "was imported."
        ) from error


def _check(contents: Contents) -> None:
    """What the types alone do not say."""
    numbers, readings = [page.number for page in contents.pages], contents.manifest.readings
    _require(numbers == list(range(1, len(numbers) + 1)) and numbers != [])
    _require(all(reading.position <= reading.tokens for reading in readings))
    _require(all(chat.reading < len(readings) for chat in contents.chats))
    pages = len(numbers)
    turns = [turn for chat in contents.chats for turn in chat.turns]
    _require(all(0 <= (turn.page or 0) <= pages for turn in turns))
    _require(all(0 < page <= pages for turn in turns for page in turn.consulted))
    _require(all(_credible(summary.receipt, pages) for summary in contents.summaries))
    made_of = (summary.reading for summary in contents.summaries if summary.reading is not None)
    _require(all(reading < len(readings) for reading in made_of))


def _credible(receipt: Receipt, pages: int) -> bool:
    """Whether a receipt can be shown. pages: of the document, which may have grown since."""
    numbers = [value for value in vars(receipt).values() if isinstance(value, int | float)]
    named = (*receipt.pages_without_text, *receipt.pages_recognised)
    return (
        receipt.strategy in STRATEGIES
        and all(0 <= number <= LARGEST for number in numbers)
        and max(receipt.pages_read, receipt.summary_pages) <= receipt.pages <= pages
        and all(0 < page <= receipt.pages for page in named)
    )


def _require(sound: bool) -> None:
    if not sound:
        raise Damaged
