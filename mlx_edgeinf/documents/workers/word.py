"""A Word document (.docx): one part, its blocks, with the footnotes at the end.

mammoth makes HTML of it. What it is given is not the file but a copy of the parts that hold
text, each parsed and written again, so that it meets no bomb and no picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import mammoth
from archive import Archive
from lxml import etree
from markup import blocks

MAIN = re.compile(r"word/document\d*\.xml")
TEXT_PARTS = re.compile(
    r"\[Content_Types\]\.xml|_rels/\.rels|word/_rels/[^/]+\.rels"
    r"|word/(?:document|styles|numbering|footnotes|endnotes)\d*\.xml"
)
MATHS = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
STYLES = "p[style-name='Title'] => h1:fresh"


def is_word(archive: Archive) -> bool:
    """Whether a zip file is a Word document."""
    return any(map(MAIN.fullmatch, archive.names()))


def answers(archive: Archive) -> Iterator[dict[str, Any]]:
    """Yield the number of parts, then the blocks of the one there is."""
    copy = text_of(archive)
    yield {"parts": 1}
    html = mammoth.convert_to_html(copy, style_map=STYLES).value
    yield {"part": blocks(html)}


def text_of(archive: Archive) -> BytesIO:
    """A copy of a document that holds only what its text needs."""
    copy = BytesIO()
    with ZipFile(copy, "w") as parts:
        for name in filter(TEXT_PARTS.fullmatch, dict.fromkeys(archive.names())):
            root = archive.xml(name)
            drop_all_but_text(root)
            write_out_formulas(root)
            parts.writestr(name, etree.tostring(root))
    return copy


def drop_all_but_text(root: etree._Element) -> None:
    """Take away pictures, where links lead, and how text looks unless it is raised or lowered.

    It is over half of a document, and mammoth's time and memory go with the length; and a link
    or a picture that is missing would end it.
    """
    etree.strip_elements(root, "{*}blip", "{*}imagedata", with_tail=False)
    etree.strip_tags(root, "{*}hyperlink")
    for run in root.iter("{*}r"):
        looks = run.find("{*}rPr")
        if looks is not None and looks.find("{*}vertAlign") is None:
            run.remove(looks)


def write_out_formulas(root: etree._Element) -> None:
    """Put the letters of each formula in its place, as mammoth knows nothing of formulas."""
    etree.strip_tags(root, MATHS + "oMathPara")
    words = root.tag.rpartition("}")[0] + "}"
    for formula in list(root.iter(MATHS + "oMath")):
        run = etree.Element(words + "r")
        etree.SubElement(run, words + "t").text = "".join(formula.itertext())
        formula.getparent().replace(formula, run)
