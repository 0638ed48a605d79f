"""Documents: PDF, Word, EPUB, HTML, text and Markdown as pages of clean text. Stands alone, without MLX.

A file's way through this room: `read` asks `kinds` what it is. What strangers can make dangerous
is taken apart in a process of its own: `parts` has a `child` run one of the `workers`, which gives
`pdf` the lines of a PDF's pages and `books` the blocks of a Word document, EPUB or web page. `clean`
turns lines into text with `characters`, `furniture`, `hyphens` and `paragraphs`; `plain` cuts blocks
into pages. `collection` joins documents. `picture` has a child draw a page of a PDF.
"""

from .collection import joined
from .document import Document, DocumentError, Origin, Page, PasswordRequired
from .kinds import READABLE
from .read import pasted_document, piped_document, read_document

__all__ = [
    "READABLE",
    "Document",
    "DocumentError",
    "Origin",
    "Page",
    "PasswordRequired",
    "joined",
    "pasted_document",
    "piped_document",
    "read_document",
]
