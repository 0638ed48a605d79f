"""Keys and values of a page as bytes: in half precision, or in 8 bits.

In 8 bits a number is an integer in [-127, 127] times a scale. Keys have a few
channels far larger than the rest, in all tokens alike, so their scales are per
channel within a page; values have none, so theirs are per token (the split of
KIVI, arXiv 2402.02750). From the keys the mean of each channel is taken off
first: the keys of Qwen2.5 stand hundreds away from 0 in some, hardly varying,
and without it 16 of them came back as 3 different ones. Those of the starter
model come back with 0.6 of the error, for 6 % more on disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import Unstorable

_SIGN_AND_REST = np.int32(-0x70002000)
_EXPONENT = np.uint16(0x7C00)


def to_half(array: np.ndarray) -> np.ndarray:
    """Any floats in half precision.

    Raises:
        Unstorable: a number is not finite, or too large (above 65504).
    """
    with np.errstate(over="ignore"):
        half = np.asarray(array).astype(np.float16, copy=False)
    if ((half.view(np.uint16) & _EXPONENT) == _EXPONENT).any():
        raise Unstorable(
            "This model computes keys or values beyond half precision (65,504), which pages cannot hold: "
            "read without exact recall."
        )
    return half


def to_float(half: np.ndarray, dtype: type) -> np.ndarray:
    """Finite half-precision numbers as float16 or float32, exactly."""
    if dtype == np.float16:
        return half
    # NumPy converts one number at a time (5x slower). Shifted into place, only the exponent's bias
    # of 127 - 15 is missing.
    bits = half.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_REST
    numbers = bits.view(np.float32)
    numbers *= np.float32(2.0**112)
    return numbers


@dataclass(frozen=True)
class Half:
    """float16: what the model computed, or 11 bits of it."""

    tokens: int
    head_dim: int

    @property
    def nbytes(self) -> int:
        """Of one page of one kv head."""
        return 2 * 2 * self.tokens * self.head_dim

    def encode(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Pages (..., P, d) in half precision as bytes (..., nbytes)."""
        both = np.stack([keys, values], axis=-3)
        return both.reshape(*keys.shape[:-2], -1).view(np.uint8)

    def decode(self, payload: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """Bytes (n, nbytes) as keys and values (n, P, d)."""
        both = payload.view(np.float16).reshape(-1, 2, self.tokens, self.head_dim)
        keys, values = np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])
        return to_float(keys, dtype), to_float(values, dtype)


@dataclass(frozen=True)
class EightBit:
    """int8 with half-precision scales, per channel for keys, per token for values; and means of keys."""

    tokens: int
    head_dim: int

    @property
    def nbytes(self) -> int:
        """Of one page of one kv head."""
        return 2 * self.tokens * self.head_dim + 2 * (2 * self.head_dim + self.tokens)

    def encode(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Pages (..., P, d) in half precision as bytes (..., nbytes)."""
        keys, values = (to_float(np.ascontiguousarray(each), np.float32) for each in (keys, values))
        means = keys.mean(axis=-2, keepdims=True).astype(np.float16)
        integers, scales = zip(_quantized(keys - to_float(means, np.float32), -2), _quantized(values, -1))
        parts = (*integers, *scales, means)
        return np.concatenate([part.reshape(*keys.shape[:-2], -1).view(np.uint8) for part in parts], axis=-1)

    def decode(self, payload: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """Bytes (n, nbytes) as keys and values (n, P, d)."""
        size, shape = self.tokens * self.head_dim, (len(payload), self.tokens, self.head_dim)
        numbers = payload[:, : 2 * size].view(np.int8).astype(np.float32).reshape(len(payload), 2, *shape[1:])
        halves = to_float(payload[:, 2 * size :].view(np.float16), np.float32)
        of_keys, of_values, means = np.split(halves, [self.head_dim, self.head_dim + self.tokens], axis=1)
        keys = numbers[:, 0] * of_keys[:, None] + means[:, None]
        values = numbers[:, 1] * of_values[:, :, None]
        return keys.astype(dtype, copy=False), values.astype(dtype, copy=False)


def _quantized(numbers: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers of float32 pages, and the scales that undo them, one for all numbers along the axis."""
    scales = (np.abs(numbers).max(axis, keepdims=True) / 127).astype(np.float16)
    # Numbers so small that their scale is 0 in half precision are 0 as well.
    safe = np.where(scales == 0, np.float32(1), to_float(scales, np.float32))
    integers = np.clip(np.rint(numbers / safe), -127, 127).astype(np.int8)
    return integers, scales


PRECISIONS = {"float16": Half, "int8": EightBit}
