"""Small PDFs written byte by byte, so that documents are tested without any sample file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

FIRST_PAGE = 4
"""Objects 1 to 3 are the catalogue, the page tree and the font; page n is 4 + 2n."""
ENCRYPTION_PADDING = bytes.fromhex(
    "28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a"
)


def pdf(*pages: Sequence[str], page_entries: str = "", missing: Sequence[int] = ()) -> bytes:
    """A PDF whose pages carry these lines; page numbers in `missing` have no object."""
    contents = [text_at(lines) for lines in pages]
    return drawn(*contents, page_entries=page_entries, missing=missing)


def text_at(lines: Sequence[str], matrix: str = "1 0 0 1 72 720") -> str:
    """The drawing commands for lines of text, the first of them at `matrix`."""
    shown = " T* ".join(f"({line}) Tj" for line in lines)
    return f"BT /F 11 Tf {matrix} Tm 14 TL {shown} ET"


def drawn(*contents: str, page_entries: str = "", missing: Sequence[int] = ()) -> bytes:
    """A PDF whose pages are drawn by these commands."""
    kids = " ".join(f"{FIRST_PAGE + 2 * index} 0 R" for index in range(len(contents)))
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: f"<</Type/Pages/Kids[{kids}]/Count {len(contents)}>>".encode(),
        3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    }
    for index, content in enumerate(contents):
        number = FIRST_PAGE + 2 * index
        if index + 1 not in missing:
            objects[number] = page(number + 1, page_entries)
        objects[number + 1] = stream(content.encode("cp1252"))
    return assembled(objects)


def page(contents: int, entries: str) -> bytes:
    return (
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {contents} 0 R"
        f"/Resources<</Font<</F 3 0 R>>>>{entries}>>"
    ).encode()


def stream(data: bytes, entries: str = "") -> bytes:
    return f"<</Length {len(data)}{entries}>>\nstream\n".encode() + data + b"\nendstream"


def assembled(objects: dict[int, bytes], trailer: str = "") -> bytes:
    """The file that holds these objects, with its table of their positions."""
    parts, places, length = [b"%PDF-1.4\n"], {}, 9
    for number, body in objects.items():
        places[number] = length
        parts.append(b"%d 0 obj\n" % number + body + b"\nendobj\n")
        length += len(parts[-1])
    table = "".join(f"{number} 1\n{place:010} 00000 n \n" for number, place in places.items())
    size = max(objects) + 1
    parts.append(f"xref\n0 1\n0000000000 65535 f \n{table}".encode())
    parts.append(f"trailer\n<</Size {size}/Root 1 0 R{trailer}>>\n".encode())
    parts.append(f"startxref\n{length}\n%%EOF\n".encode())
    return b"".join(parts)


def cyclic() -> bytes:
    """A PDF whose tree of pages contains itself."""
    tree = b"<</Type/Pages/Kids[2 0 R]/Count 3>>"
    return assembled({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: tree})


def bomb(levels: int = 12) -> bytes:
    """A PDF of two kilobytes whose one page says `boom` ten to the power of `levels` times."""
    forms = {5 + level: form(level, levels) for level in range(levels + 1)}
    resources = "/Resources<</XObject<</X 5 0 R>>>>"
    last = 6 + levels
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[4 0 R]/Count 1>>",
        3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        4: f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents {last} 0 R{resources}>>".encode(),
        last: stream(b"/X Do"),
    }
    return assembled(objects | forms)


def form(level: int, levels: int) -> bytes:
    inner = f"/XObject<</X {6 + level} 0 R>>" if level < levels else "/Font<</F 3 0 R>>"
    content = b"/X Do " * 10 if level < levels else b"BT /F 1 Tf 1 1 Td (boom) Tj ET"
    return stream(content, f"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<<{inner}>>")


def encrypted(password: str, line: str) -> bytes:
    """A PDF of one line, encrypted with 40-bit RC4 (ISO 32000-1, 7.6.3)."""
    padded = (password.encode() + ENCRYPTION_PADDING)[:32]
    owner = rc4(hashlib.md5(padded).digest()[:5], padded)
    permissions, identity = b"\xfc\xff\xff\xff", b"0123456789abcdef"
    key = hashlib.md5(padded + owner + permissions + identity).digest()[:5]
    user = rc4(key, ENCRYPTION_PADDING)
    number = FIRST_PAGE + 1
    own_key = hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[:10]
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[4 0 R]/Count 1>>",
        3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        FIRST_PAGE: page(number, ""),
        number: stream(rc4(own_key, text_at([line]).encode())),
    }
    handler = f"/Filter/Standard/V 1/R 2/P -4/O<{owner.hex()}>/U<{user.hex()}>"
    return assembled(objects, f"/Encrypt<<{handler}>>/ID[<{identity.hex()}><{identity.hex()}>]")


def rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    return bytes(byte ^ pad for byte, pad in zip(data, rc4_stream(state)))


def rc4_stream(state: list[int]) -> Iterator[int]:
    i = j = 0
    while True:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        yield state[(state[i] + state[j]) % 256]
