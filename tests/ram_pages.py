"""The pages of a document in float32 and in RAM: what a page store promises, in a few lines."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from mlx_edgeinf.document_pages import store_shape
from mlx_edgeinf.recall import summarize


class RamPages:
    failure = None

    def __init__(self, model, page: int = 16):
        self.shape = replace(store_shape(model), page_tokens=page, summary_rows=2)
        empty = np.zeros((2, self.shape.kv_heads, 0, self.shape.head_dim), np.float32)
        self.tokens = [empty for _ in model.layers]
        self.asked: list[np.ndarray] = []

    def append(self, layer: int, keys: np.ndarray, values: np.ndarray) -> None:
        self.tokens[layer] = np.concatenate([self.tokens[layer], [keys, values]], axis=2)

    def pages(self, layer: int) -> int:
        return self.tokens[layer].shape[2] // self.shape.page_tokens

    def waiting(self, layer: int) -> np.ndarray:
        return self.tokens[layer][:, :, self.pages(layer) * self.shape.page_tokens :]

    def gather(self, layer: int, pages: np.ndarray) -> tuple[np.ndarray, ...]:
        self.asked.append(pages)
        paged = (np.take_along_axis(part, pages[..., None, None], axis=1) for part in self._paged(layer))
        return tuple(part.reshape(part.shape[0], -1, part.shape[-1]) for part in paged)

    def summaries(self, layer: int, pages: np.ndarray) -> np.ndarray:
        rows = summarize(self._paged(layer)[0])
        return np.take_along_axis(rows, pages[..., None, None], axis=1)

    def _paged(self, layer: int) -> np.ndarray:
        """(2, G, pages, P, d)"""
        tokens, shape = self.tokens[layer], self.shape
        whole = tokens[:, :, : self.pages(layer) * shape.page_tokens]
        return whole.reshape(2, shape.kv_heads, -1, shape.page_tokens, shape.head_dim)

    def __deepcopy__(self, memo: dict) -> RamPages:
        twin = copy.copy(self)
        twin.tokens = list(self.tokens)
        return twin
