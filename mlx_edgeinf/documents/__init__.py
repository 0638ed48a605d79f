"""Documents: PDF, Word, EPUB, HTML, text and Markdown as pages of clean text. Stands alone, without MLX.

A file's way through this room: `read` asks `kinds` what it is. What strangers can make dangerous
is taken apart in a process of its own: `parts` has a `child` run one of the `workers`, which gives
`pdf` the lines of a PDF's pages, and `scans` those recognised in pictures of them, and `books` the
blocks of a Word document, EPUB or web page. `clean` turns lines into text with `characters`,
`furniture`, `hyphens` and `paragraphs`; `plain` cuts blocks into pages. `collection` joins documents.
`tail` and `live` bring a text that grows while it is read. `picture` has a child draw a page of a PDF.
"""

from .collection import joined
from .document import Document, DocumentError, Origin, Page, PasswordRequired
from .kinds import READABLE
from .live import LiveText, known_bytes
from .read import name_of, pasted_document, piped_document, read_document
from .scans import obstacle as ocr_obstacle
from .tail import Arrival, Pipe, Tail, opened

__all__ = [
    "READABLE",
    "Arrival",
    "Document",
    "DocumentError",
    "LiveText",
    "Origin",
    "Page",
    "PasswordRequired",
    "Pipe",
    "Tail",
    "joined",
    "known_bytes",
    "name_of",
    "ocr_obstacle",
    "opened",
    "pasted_document",
    "piped_document",
    "read_document",
]
