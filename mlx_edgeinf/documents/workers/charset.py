"""The characters of an HTML file, whose bytes may say wrongly or not at all how they are coded."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress

DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
DECLARED_WITHIN = 2048
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
WIDE = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
MEANT = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
"""What pages mean by the name of a code: a larger one (WHATWG Encoding Standard, 4.2)."""


def decoded(data: bytes) -> str:
    """Decode an HTML file by its mark, as it declares, as UTF-8, or else as Windows-1252.

    Raises `UnicodeError` for a file that is no text.
    """
    for code in codes(data):
        with suppress(UnicodeDecodeError):
            return without_zeros(data.decode(code))
    return without_zeros(data.decode("cp1252", errors="replace"))


def without_zeros(text: str) -> str:
    """Return `text`, unless it holds zeros, as pictures do and what was encrypted."""
    if "\0" in text:
        raise UnicodeError("This is no text.")
    return text


def codes(data: bytes) -> Iterator[str]:
    """Yield the codes that a file may be in, the likeliest first."""
    yield from (code for mark, code in MARKS.items() if data.startswith(mark))
    yield from (code for mark, code in WIDE.items() if data.startswith(mark))
    declared = DECLARED.search(data[:DECLARED_WITHIN])
    if declared and (code := known(declared[1].decode("ascii", "replace"))):
        yield code
    yield "utf-8"


def known(label: str) -> str | None:
    """The code that a label means, None where it means none that could have been read so far."""
    try:
        code = codecs.lookup(label).name
        "".encode(code)
    except LookupError:
        return None
    return None if code.startswith(("utf-16", "utf-32")) else MEANT.get(code, code)
