"""A document's memory as a file: saved at any point of its reading, opened in a moment, read on from there.

One safetensors file holds the state of every layer and the tokens of the
document, read and unread, so nothing has to be tokenised again. Safetensors has
no checksum of its own: here the metadata carry one, of everything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .adapter import gate_parameters, save_arrays
from .basemodel import digest, dtype_of, weights_digest
from .cache import EdgeCache
from .document_memory import DocumentMemory, SaveFileError, different
from .document_pages import reopen_pages
from .documents import Document
from .insight import OPENINGS, PAGES, Insight
from .memory import State
from .pagestore import NotNow, PageStore, StoreError

FORMAT = "6"
WITHOUT_RECALL = "This document was read without exact recall: to have it, delete it and read it again."
TOKENS, PAGE_ENDS, INDEX = "tokens", "page_ends", "index"

Arrays = dict[str, mx.array]


def identity(model: nn.Module) -> dict[str, str]:
    """What must be the same for a saved memory to mean anything, by its name for people."""
    return {
        "format": FORMAT,
        "base model": weights_digest(model),
        "gates": digest(gate_parameters(model).values()),
        "layout": str(model.layout),
        "size of memory": str(model.layers[0].self_attn.memory_gate.memory.features),
    }


def save_memory(path: Path, model: nn.Module, memory: DocumentMemory) -> None:
    """Write a memory, replaced atomically.

    Raises:
        SaveFileError: a segment failed on its way through the layers, so they disagree.
        SaveError: the disk is full, or it cannot be written to.
    """
    check_whole(memory)
    arrays = {TOKENS: mx.array(memory.tokens, mx.int32), PAGE_ENDS: mx.array(memory.page_ends, mx.int32)}
    for number, layer in enumerate(memory.cache):
        arrays.update({f"{number}.{name}": array for name, array in _parts(layer).items()})
    arrays |= {name: mx.array(array) for name, array in memory.insight.arrays().items()}
    metadata = identity(model) | {
        "counts": json.dumps([[layer.folded, layer.exact_limit] for layer in memory.cache]),
        "seconds": repr(memory.seconds),
        # Those of a branch end with it.
        "recall": "pages" if memory.has_recall and memory.pages.lasting else "",
        # Not in what words: these are of this machine and this moment, and a file may go anywhere.
        "without recall": "wanted" if memory.without_recall and not memory.has_recall else "",
    }
    save_arrays(path, arrays, metadata | {"sha256": _checksum(arrays, metadata)})


def check_whole(memory: DocumentMemory) -> None:
    """See that all layers have read the same.

    Raises:
        SaveFileError: a segment failed on its way through them.
    """
    if any(layer.tokens != memory.position for layer in memory.cache):
        raise SaveFileError(
            f"The reading of {memory.document.name} broke off inside a segment, so its memory was not "
            "saved: what was saved before is unchanged, read on from there."
        )


def load_memory(
    path: Path, model: nn.Module, document: Document, pages: Path | None = None,
    quota_bytes: int | None = None,
) -> DocumentMemory:  # fmt: skip
    """Read a saved memory of a document, or of its first pages, for the model it was made with.

    pages: folder of its pages, and quota_bytes that they may take, if exact recall is wanted. Where
    they cannot be had, the memory says why in `refused`.

    Raises:
        SaveFileError: not there, not such a file, damaged, or made with another model, gates, layout or size.
        OSError: it cannot be opened now.
    """
    arrays, metadata = _load(path, document)
    if wrong := different(metadata, identity(model)):
        raise SaveFileError(
            f"The memory of {document.name} was made with another {wrong}: open it with the model it was "
            "made with, or read the document again."
        )
    try:
        folded, whole = json.loads(metadata["counts"])[0][0], arrays[TOKENS].size
        reopened = partial(reopen_pages, model, document, pages, folded, whole, quota_bytes)
        store, refused = _pages(reopened, metadata) if pages else (None, None)
        memory = _memory(arrays, metadata, model, document, store)
        memory.refused, memory.not_now = str(refused or ""), isinstance(refused, NotNow)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise damaged(document) from error
    mx.eval([layer.state for layer in memory.cache])
    return memory


def _parts(layer: EdgeCache) -> Arrays:
    """The arrays of a layer's state; none before its first token."""
    if layer.empty():
        return {}
    keys, values = layer.local.keys_and_values()
    received = {} if layer.received is None else {"received": layer.received}
    recalled = {INDEX: layer.recall.index.filled} if layer.recall and layer.recall.holds else {}
    return {"keys": keys, "values": values, **received, **recalled, **layer.memory}


def _pages(
    reopened: Callable[[], PageStore], metadata: dict[str, str]
) -> tuple[PageStore | None, StoreError | None]:
    """The pages of a saved memory, if it has some, or else why there are none though they were wanted."""
    if not metadata.get("recall"):
        return None, StoreError(WITHOUT_RECALL) if metadata.get("without recall") else None
    try:
        return reopened(), None
    except StoreError as error:
        return None, error


def _load(path: Path, document: Document) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a file that is as it was written."""
    try:
        path.open("rb").close()
        # The format is named, so that the file may have any name.
        arrays, metadata = mx.load(str(path), format="safetensors", return_metadata=True)
        mx.eval(arrays)
    except FileNotFoundError as error:
        raise damaged(document) from error
    except (RuntimeError, ValueError) as error:
        # MLX says the same of a disk that fails or of memory that runs out: no reason to give a good file up.
        path.read_bytes()
        raise damaged(document) from error
    if metadata.pop("sha256", None) != _checksum(arrays, metadata):
        raise damaged(document)
    return arrays, metadata


def damaged(document: Document) -> SaveFileError:
    """What to say of a saved memory that cannot be what it was when it was saved."""
    return SaveFileError(f"The saved memory of {document.name} is damaged: read the document again.")


def _checksum(arrays: Arrays, metadata: dict[str, str]) -> str:
    """SHA-256 of metadata, names, types, shapes and values, in no order but their own."""
    state = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        state.update(f"{name} {array.dtype} {array.shape}".encode())
        # As bytes, because Python's buffers know no bfloat16.
        state.update(memoryview(mx.contiguous(array).view(mx.uint8)))
    return state.hexdigest()


def _memory(
    arrays: Arrays, metadata: dict[str, str], model: nn.Module, document: Document, pages: PageStore | None
) -> DocumentMemory:
    """The memory in a file that may come from anywhere: ValueError where it contradicts itself."""
    tokens, page_ends = (np.array(arrays.pop(name)).tolist() for name in (TOKENS, PAGE_ENDS))
    seen = {name: np.array(arrays.pop(name)) for name in (PAGES, OPENINGS) if name in arrays}
    cache, counts = model.make_cache(pages=pages), json.loads(metadata["counts"])
    for number, (layer, (folded, exact_limit)) in enumerate(zip(cache, counts, strict=True)):
        prefix = f"{number}."
        parts = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        layer.exact_limit = int(exact_limit)
        if parts:
            empty = model.layers[number].self_attn.memory_gate.memory.empty(1)
            index = parts.pop(INDEX, None)
            _require(_fits(parts, empty))
            written = {name: parts[name] for name in empty if name in parts}
            # Another machine may read with the same weights in another precision.
            keys, values = (parts[name].astype(dtype_of(model)) for name in ("keys", "values"))
            received = parts.get("received")
            layer.state = [keys, values, keys.shape[2], received, int(folded), int(exact_limit), written]
            if pages and folded:
                _require(index is not None)
                layer.recall.index.restore(folded, index)
    read, seconds = replace(document, pages=document.pages[: len(page_ends)]), float(metadata["seconds"])
    memory = DocumentMemory(read, tokens, page_ends, cache, cache[0].tokens, seconds, pages)
    memory.insight = Insight.from_arrays(seen, len(page_ends))
    _check(memory, vocabulary=model.model.embed_tokens.weight.shape[0])
    return memory


def _fits(parts: Arrays, empty: State) -> bool:
    """Whether the arrays of a layer have the shapes that reading gives them."""
    shapes = {name: array.shape for name, array in parts.items()}
    _, heads, _, size = empty["M"].shape
    keys, values, received = shapes.pop("keys"), shapes.pop("values"), shapes.pop("received", (1, heads, 0))
    return (
        keys == values == (1, heads, keys[2], size)
        and received[:2] == (1, heads)
        and shapes in ({}, {name: array.shape for name, array in empty.items()})
    )


def _check(memory: DocumentMemory, vocabulary: int) -> None:
    """ValueError for what no reading leaves behind."""
    ends, tokens = [0, *memory.page_ends], memory.tokens
    _require(len(memory.page_ends) == len(memory.document.pages))
    _require(all(before <= after for before, after in pairwise(ends)))
    _require(ends[-1] == len(tokens) >= memory.position)
    _require(0 <= min(tokens) and max(tokens) < vocabulary)
    for layer in memory.cache:
        _require(layer.tokens == memory.position and layer.folded >= 0)
        _require(bool(layer.memory) == (layer.folded > 0) and layer.offset <= layer.capacity)


def _require(consistent: bool) -> None:
    if not consistent:
        raise ValueError("the file contradicts itself")
