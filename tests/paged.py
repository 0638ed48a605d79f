"""A small text's keys and values, and stores of them, for the tests of mlx_edgeinf.recall."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlx_edgeinf.pagestore.pages import Pages
from mlx_edgeinf.pagestore.shape import StoreShape
from mlx_edgeinf.pagestore.store import PageStore

LAYERS, HEADS, DIM, PAGE, ROWS = 3, 2, 8, 16, 4
SHAPE = StoreShape(LAYERS, HEADS, DIM, ROWS, PAGE, "float16")
QUOTA = 1 << 30

# Keys and values (layer, key or value, head, token, d) of one text.
TEXT = np.random.default_rng(7).standard_normal((LAYERS, 2, HEADS, 6000, DIM)).astype(np.float16)

# The first page of each kv head.
PAGE_0 = np.zeros((HEADS, 1), int)


def sub_means(keys: np.ndarray) -> np.ndarray:
    """Means of the keys of four tokens each."""
    heads, count, tokens, dim = keys.shape
    return keys.reshape(heads, count, ROWS, tokens // ROWS, dim).mean(axis=3)


def new_store(folder: Path, shape: StoreShape = SHAPE, quota_bytes: int = QUOTA) -> PageStore:
    return PageStore.create(folder, shape, "a text", quota_bytes, sub_means)


def resumed(folder: Path) -> PageStore:
    return PageStore.resume(folder, QUOTA, sub_means)


def extend(pages: Pages, count: int, text: np.ndarray = TEXT) -> None:
    """Append the text's next tokens in all layers."""
    start = pages.tokens
    for layer, (keys, values) in enumerate(text):
        pages.append(layer, keys[:, start : start + count], values[:, start : start + count])


def stored(folder: Path, tokens: int) -> PageStore:
    """A store with the text's first tokens, open and synced."""
    store = new_store(folder)
    extend(store, tokens)
    store.sync()
    return store


def assert_holds(pages: Pages, tokens: int, text: np.ndarray = TEXT) -> None:
    """All of the text's first tokens are there, exactly, by every way of reading, and no others."""
    assert pages.tokens == tokens
    count = tokens // PAGE
    for layer, (keys, values) in enumerate(text[..., :tokens, :]):
        assert pages.pages(layer) == count
        every = np.tile(np.arange(count), (HEADS, 1))
        whole = pages.gather(layer, every, np.float16)
        assert_same(whole, (keys[:, : count * PAGE], values[:, : count * PAGE]))
        assert_same(pages.waiting(layer), (keys[:, count * PAGE :], values[:, count * PAGE :]))
        paged = keys[:, : count * PAGE].astype(np.float32).reshape(HEADS, count, PAGE, DIM)
        assert np.array_equal(pages.summaries(layer, every), sub_means(paged).astype(np.float16))


def assert_same(ours: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    for mine, other in zip(ours, expected):
        assert mine.shape == other.shape and np.array_equal(mine, other)
