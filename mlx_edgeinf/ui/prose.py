"""What the model wrote, as HTML that can show words and nothing else.

A hostile document can talk the model into writing an image or a link whose address carries
text of the document away. So markup of the model's own is escaped, and Markdown keeps only
what shapes text: images, links and references stay the characters they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ..support import sentences

REACHING_OUT = ["image", "link", "autolink", "reference"]

MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True})
MARKDOWN.enable("table").disable(REACHING_OUT)


def prose(text: str, note: Callable[[str], str] | None = None) -> str:
    """Render the model's Markdown as HTML without links, images or raw HTML.

    Args:
        note: makes the HTML that follows a sentence, of its plain text; headings have none.
    """
    tokens = MARKDOWN.parse(text)
    if note:
        for before, token in pairwise(tokens):
            if token.type == "inline" and before.type != "heading_open":
                token.children = list(_noted(token.children or [], note))
    return MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})


def _noted(pieces: list[Token], note: Callable[[str], str]) -> Iterator[Token]:
    """The pieces of a paragraph, with a note wherever a sentence ends."""
    words = "".join(_words(piece) for piece in pieces)
    ends = [(end, words[start:end]) for start, end in sentences(words)]
    at = 0
    for piece in pieces:
        text, done = _words(piece), 0
        while ends and ends[0][0] <= at + len(text):
            end, sentence = ends.pop(0)
            if piece.type == "text":
                yield Token("text", "", 0, content=text[done : end - at])
                done = end - at
            elif not done:
                yield piece
                done = len(text)
            yield Token("html_inline", "", 0, content=note(sentence))
        if piece.type != "text" and not done:
            yield piece
        elif text[done:]:
            yield Token("text", "", 0, content=text[done:])
        at += len(text)


def _words(piece: Token) -> str:
    """What people read of a piece of a paragraph."""
    return "\n" if piece.type in ("softbreak", "hardbreak") else piece.content
