"""A zip file from a stranger: members by name, in limits that no bomb gets past."""

from __future__ import annotations

from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from lxml import etree
from refusal import Refusal

MOST_MEMBERS = 20_000
MOST_BYTES = 300_000_000
"""Bytes that may be unpacked from one file, all members together."""
ENCRYPTED = 0x1


class Archive:
    """Reads members into memory and never onto the disk, so that their names lead nowhere."""

    def __init__(self, path: str) -> None:
        """Open the zip file at `path`."""
        self.zip = ZipFile(path)
        self.left = MOST_BYTES
        if len(self.zip.filelist) > MOST_MEMBERS:
            raise Refusal("swells")

    def __contains__(self, name: str) -> bool:
        return name in self.zip.NameToInfo

    def names(self) -> list[str]:
        """The names of all members."""
        return self.zip.namelist()

    def read(self, name: str) -> bytes:
        """Return one member.

        Raises `KeyError` if there is none of this name, `BadZipFile` or `zlib.error` for one that
        is damaged or lies about its size, and `Refusal` for one that is protected or too large.
        """
        member = self.zip.getinfo(name)
        if member.flag_bits & ENCRYPTED:
            raise Refusal("password")
        # bzip2 and LZMA, which neither format allows, are unpacked by `zipfile` without a limit.
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise BadZipFile(f"{name} is packed in a way that no book or document is")
        self.left -= member.file_size
        if self.left < 0:
            raise Refusal("swells")
        with self.zip.open(member) as file:
            # Asked for a number of bytes, `zipfile` unpacks no more than these.
            return file.read(member.file_size + 1)

    def xml(self, name: str) -> etree._Element:
        """Return the root of an XML member; raises `Refusal` for one that defines entities.

        Neither format needs any, and they are how a billion laughs and other files get in.
        """
        data = self.read(name)
        # UTF-16 has a zero beside each letter.
        if b"<!ENTITY" in data.replace(b"\0", b""):
            raise Refusal("entities")
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
        )
        return etree.fromstring(data, parser)
