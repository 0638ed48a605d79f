"""What a page store holds, and how many bytes that takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .precision import PRECISIONS, EightBit, Half

PAGE_SIZES = (16, 32, 64)


@dataclass(frozen=True)
class StoreShape:
    """Of the keys and values of one document.

    layers, kv_heads, head_dim: of the model. summary_rows: vectors of `head_dim`
    numbers, in half precision, that sum up one page of one kv head.
    page_tokens: tokens per page. precision: "float16" or "int8".

    Raises:
        ValueError: there are no such stores.
    """

    layers: int
    kv_heads: int
    head_dim: int
    summary_rows: int
    page_tokens: int = 16
    precision: str = "int8"

    def __post_init__(self) -> None:
        if self.page_tokens not in PAGE_SIZES:
            raise ValueError(f"A page has {PAGE_SIZES} tokens, not {self.page_tokens}.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"A precision is one of {', '.join(PRECISIONS)}, not {self.precision}.")
        if min(self.layers, self.kv_heads, self.head_dim, self.summary_rows) < 1:
            raise ValueError(f"{self} holds nothing.")

    @cached_property
    def codec(self) -> Half | EightBit:
        return PRECISIONS[self.precision](self.page_tokens, self.head_dim)

    @property
    def summary_bytes(self) -> int:
        """Of one page of one kv head."""
        return 2 * self.summary_rows * self.head_dim
