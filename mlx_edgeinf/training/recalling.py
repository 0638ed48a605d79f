"""Reading with what left the window on disk: caches that recall throughout a text, and have no memory.

So the gates of exact recall are trained, which then stand for all that is older than the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlx.nn as nn

from ..cache import EdgeCache
from ..document_pages import store_shape
from ..pagestore import PageStore
from ..recall import summarize

QUOTA = 100 << 30  # bytes of pages on disk: more than any text here takes


def learn_recall(model: nn.Module) -> None:
    """Make the gates of exact recall what is trained, and `model.make_cache` one of such caches.

    Each time it is called, the pages of the time before are removed.
    """
    for layer in model.layers:
        layer.self_attn.memory_gate.freeze()
        layer.self_attn.recall_gate.unfreeze()
    make_cache, before = model.make_cache, ExitStack()

    def keeping() -> list[EdgeCache]:
        before.close()
        pages = before.enter_context(temporary_pages(model))
        return without_memory(model, make_cache(pages=pages, throughout=True))

    model.make_cache = keeping


def without_memory(model: nn.Module, caches: list[EdgeCache]) -> list[EdgeCache]:
    """Empty caches that recall as these do, and forget the rest."""
    rotations = (layer.self_attn.memory_gate.rotation for layer in model.layers)
    return [
        EdgeCache(cache.layout, None, rotation, recall=cache.recall)
        for cache, rotation in zip(caches, rotations, strict=True)
    ]


def forget_pages(cache: list[EdgeCache]) -> None:
    """Go on from the memory alone, as where recall is off."""
    for layer in cache:
        layer.recall = None


@contextmanager
def temporary_pages(model: nn.Module, precision: str = "int8") -> Iterator[PageStore]:
    """An empty page store for a model, removed after use."""
    with TemporaryDirectory() as folder:
        shape = store_shape(model, precision)
        store = PageStore.create(Path(folder) / "pages", shape, "a text", QUOTA, summarize)
        with closing(store):
            yield store


def check_recall(cache: list[EdgeCache]) -> None:
    """Raise the StoreError that ended the recall of these caches: the rest would be read otherwise."""
    if (recall := cache[0].recall) and recall.failed:
        raise recall.pages.failure
