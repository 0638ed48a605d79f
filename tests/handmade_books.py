"""Small EPUBs and Word documents written part by part, and zip files that are not what they say."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>"""
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<manifest>{manifest}</manifest><spine>{spine}</spine></package>"""
CHAPTER = """<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">
<head><title/></head><body>{}</body></html>"""

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGES = "http://schemas.openxmlformats.org/package/2006"
SPACES = f'xmlns:w="{WORD}" xmlns:r="{OFFICE}"'
HEADINGS = "".join(
    f'<w:style w:type="paragraph" w:styleId="S{name[-1]}"><w:name w:val="{name}"/></w:style>'
    for name in ("Title", "heading 1", "heading 2")
)
NUMBERING = "".join(
    f'<w:abstractNum w:abstractNumId="{kind}">'
    + "".join(f'<w:lvl w:ilvl="{depth}"><w:numFmt w:val="{shape}"/></w:lvl>' for depth in (0, 1))
    + f'</w:abstractNum><w:num w:numId="{kind}"><w:abstractNumId w:val="{kind}"/></w:num>'
    for kind, shape in ((1, "bullet"), (2, "decimal"))
)


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A zip file of these members."""
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def epub(*chapters: str, **others: str | bytes) -> bytes:
    """An EPUB whose chapters hold this XHTML; `others` replace or add members, "" for none."""
    names = [f"text/{number}.xhtml" for number in range(1, len(chapters) + 1)]
    texts = {f"OEBPS/{name}": CHAPTER.format(text) for name, text in zip(names, chapters)}
    members = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    members["OEBPS/book.opf"] = package({name: "" for name in names})
    return zipped({name: text for name, text in (members | texts | others).items() if text})


def package(spine: Mapping[str, str], kind: str = "application/xhtml+xml") -> str:
    """The package file of a book with these links in its spine, each with its attributes there."""
    items = (f'<item id="i{n}" href="{link}" media-type="{kind}"/>' for n, link in enumerate(spine))
    places = (f'<itemref idref="i{n}" {more}/>' for n, more in enumerate(spine.values()))
    return PACKAGE.format(manifest="".join(items), spine="".join(places))


def encryption(algorithm: str) -> str:
    """The list of what is encrypted in a book, by this algorithm."""
    method = f'<EncryptionMethod Algorithm="{algorithm}"/>'
    return f'<encryption xmlns="urn:x"><EncryptedData>{method}</EncryptedData></encryption>'


def docx(*body: str, footnotes: str = "", links: str = "", **others: str | bytes) -> bytes:
    """A Word document with these elements in its body; `others` replace or add members."""
    types = {"document": "document.main", "styles": "styles", "numbering": "numbering"}
    types["footnotes"] = "footnotes"
    overrides = "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="application/vnd.openxmlformats-'
        f'officedocument.wordprocessingml.{kind}+xml"/>'
        for name, kind in types.items()
    )
    parts = "".join(
        f'<Relationship Id="p{name}" Type="{OFFICE}/{name}" Target="{name}.xml"/>'
        for name in ("styles", "numbering", "footnotes")
    )
    main = f'<Relationship Id="m" Type="{OFFICE}/officeDocument" Target="word/document.xml"/>'
    members = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGES}/content-types">{overrides}</Types>',
        "_rels/.rels": relationships(main),
        "word/_rels/document.xml.rels": relationships(parts + links),
        "word/document.xml": f"<w:document {SPACES}><w:body>{''.join(body)}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {SPACES}>{HEADINGS}</w:styles>",
        "word/numbering.xml": f"<w:numbering {SPACES}>{NUMBERING}</w:numbering>",
        "word/footnotes.xml": f"<w:footnotes {SPACES}>{footnotes}</w:footnotes>",
    }
    return zipped(members | others)


def relationships(entries: str) -> str:
    return f'<Relationships xmlns="{PACKAGES}/relationships">{entries}</Relationships>'


def paragraph(content: str, style: str = "", item: tuple[int, int] | None = None) -> str:
    """A paragraph of a Word document; `item` is the list (1 bullets, 2 numbers) and the level."""
    looks = f'<w:pStyle w:val="{style}"/>' if style else ""
    if item:
        looks += f'<w:numPr><w:ilvl w:val="{item[1]}"/><w:numId w:val="{item[0]}"/></w:numPr>'
    return f"<w:p><w:pPr>{looks}</w:pPr>{content}</w:p>"


def run(text: str, looks: str = "") -> str:
    """A run of text in a Word document."""
    return f'<w:r><w:rPr>{looks}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def lying(data: bytes, name: str, size: int) -> bytes:
    """A zip file that gives `size` for what its member `name` holds unpacked."""
    local, central = places(data, name)
    changed = bytearray(data)
    for place in (local + 22, central + 24):
        struct.pack_into("<I", changed, place, size)
    return bytes(changed)


def protected(data: bytes, name: str) -> bytes:
    """A zip file that says of its member `name` that a password protects it."""
    local, central = places(data, name)
    changed = bytearray(data)
    for place in (local + 6, central + 8):
        changed[place] |= 1
    return bytes(changed)


def places(data: bytes, name: str) -> tuple[int, int]:
    """Where the two headers of a member begin."""
    first = data.index(name.encode())
    last = data.rindex(name.encode())
    return first - 30, last - 46
