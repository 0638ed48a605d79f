"""HTML becomes blocks of clean text: paragraphs, headings, lists, tables, code, and notes at the end.

lxml parses. It takes HTML of any age and XHTML alike, and does not recurse, so that no depth crashes
it: at 2048 elements within each other it gives up. What a page links to is never fetched.
"""

from __future__ import annotations

import re

from lxml import etree
from page import Page, name_of
from refusal import Refusal

GRAMMAR = re.compile(r"(?>(.*?)<!DOCTYPE)[^>\[]*\[.*?\]\s*>", re.IGNORECASE | re.DOTALL)
"""What is before a declaration with definitions of its own, and the declaration, of which nothing is made."""
UNREAD = frozenset(
    "annotation annotation-xml applet area audio button canvas datalist embed frame head iframe img "
    "input map meter noframes noscript object picture progress rp rt rtc script select style svg "
    "template textarea title video".split()
)
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def blocks(html: str) -> list[str]:
    """Return the blocks of a page of HTML; raises `Refusal` for one that is nested too deeply."""
    parser = etree.HTMLParser(
        encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True
    )
    if grammar := GRAMMAR.match(html):
        html = grammar[1] + html[grammar.end() :]
    root = etree.fromstring(html.encode("utf-8", "replace"), parser)
    if parser.error_log.filter_from_fatals():
        raise Refusal("deep")
    page = Page()
    if root is not None:
        read(root, page)
    return page.blocks()


def read(root: etree._Element, page: Page) -> None:
    """Walk through all elements that people would see."""
    unread = None
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if event == "start" and is_unread(element):
            walk.skip_subtree()
            unread = element
        elif event == "start":
            page.open(element)
            page.add(element.text)
        else:
            if element is not unread:
                page.close(element)
            page.add(element.tail)


def is_unread(element: etree._Element) -> bool:
    """Whether an element holds no text, or none that people would see."""
    if name_of(element) in UNREAD or element.get("hidden") is not None:
        return True
    return HIDDEN.search(element.get("style", "")) is not None
