"""What the model wrote, as HTML that can show words and nothing else.

A hostile document can talk the model into writing an image or a link whose address carries
text of the document away. So markup of the model's own is escaped, and Markdown keeps only
what shapes text: images, links and references stay the characters they are.
"""

from __future__ import annotations

from markdown_it import MarkdownIt

REACHING_OUT = ["image", "link", "autolink", "reference"]

MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True})
MARKDOWN.enable("table").disable(REACHING_OUT)


def prose(text: str) -> str:
    """Render the model's Markdown as HTML without links, images or raw HTML."""
    return MARKDOWN.render(text)
