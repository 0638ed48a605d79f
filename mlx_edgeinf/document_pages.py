"""The pages on disk of what a model reads of a document: begun before its first token, or found again."""

from __future__ import annotations

from pathlib import Path

import mlx.nn as nn

from .basemodel import head_size, weights_digest
from .document_memory import DocumentMemory
from .documents import Document
from .pagestore import PageStore, StoreError, StoreInUse, StoreShape
from .recall import SUMMARY_ROWS, begin, reopen


def store_shape(model: nn.Module, precision: str = "int8") -> StoreShape:
    """Of the pages on disk that the tokens of all layers make once they leave the window.

    8 bits take half the disk; the share of the gap that recall alone closed at 4k of two novels was
    0.75 with them and 0.76 with 16 (`evaluate selection`).
    """
    attention = model.layers[0].self_attn
    return StoreShape(
        len(model.layers), attention.n_kv_heads, head_size(attention), SUMMARY_ROWS, precision=precision
    )


def _store_id(model: nn.Module, document: Document) -> str:
    """What is read, and by which model: of the pages on disk."""
    return f"{document.sha256} read by {weights_digest(model)}"


def begin_pages(model: nn.Module, memory: DocumentMemory, folder: Path, quota_bytes: int | None) -> None:
    """Have what leaves the window kept on disk; where that cannot be, the memory says why."""
    id, tokens = _store_id(model, memory.document), len(memory.tokens)
    try:
        memory.pages = begin(folder, store_shape(model), id, tokens, quota_bytes)
    except StoreError as error:
        memory.refused, memory.not_now = str(error), isinstance(error, StoreInUse)
    else:
        memory.cache = model.make_cache(exact_limit=0, pages=memory.pages)


def reopen_pages(
    model: nn.Module, document: Document, folder: Path, folded: int, whole: int, quota_bytes: int | None
) -> PageStore:
    """Those of a reading that was saved when `folded` of `whole` tokens had left the window.

    Raises:
        StoreError: see `recall.reopen`.
    """
    return reopen(folder, _store_id(model, document), folded, whole, quota_bytes)
