"""Documents: PDF, text and Markdown files as pages of clean text. Stands alone, without MLX.

A PDF's way through this room: `read` decides what a file is, `pdf` and `pdf_process` have
`pdf_worker` take its lines out in a process of its own, and `clean` turns lines into text with
`characters`, `furniture`, `hyphens` and `paragraphs`. Text and Markdown go through `plain`.
"""

from .document import Document, DocumentError, Page, PasswordRequired
from .read import read_document

__all__ = ["Document", "DocumentError", "Page", "PasswordRequired", "read_document"]
