"""Rotary positions as angles: undo them, move them, average them.

A base model's RoPE turns component pair f of a vector at position p by the
angle p * omega_f. The memory needs three things that `mx.fast.rope` does not
offer: keys without their position (to fold them), keys at a new position (the
window slides back after each fold), and the *expected* rotation over a range
of distances (to read a memory whose keys have no position any more).
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.rope_utils import Llama3RoPE

SUPPORTED_ROPES = (nn.RoPE, Llama3RoPE)


@dataclass(frozen=True)
class Rotation:
    """The rotary embedding of one attention layer.

    omega: (d/2,) radians per position of each component pair.
    interleaved: pairs are (0, 1), (2, 3), ... instead of (0, d/2), (1, d/2 + 1), ...
    """

    omega: mx.array
    interleaved: bool

    @classmethod
    def of(cls, rope: nn.Module, head_dim: int) -> Rotation:
        """Read the frequencies off a rope module by turning unit vectors by one position.

        Raises:
            ValueError: the module is of a kind whose rotation is not plain.
        """
        if not isinstance(rope, SUPPORTED_ROPES) or rope.dims != head_dim:
            raise ValueError(
                f"Rotary embedding {type(rope).__name__} over {getattr(rope, 'dims', '?')} of "
                f"{head_dim} components is not supported."
            )
        first, second = _pairs(mx.zeros((1, 1, 1, head_dim)), rope.traditional)
        unit = _join(first + 1, second, rope.traditional)
        # The GPU's fast sine is not exact enough near 0: the lowest frequency may be 1e-6.
        with mx.stream(mx.cpu):
            cos, sin = _pairs(rope(unit, offset=1), rope.traditional)
            omega = mx.arctan2(sin, cos).reshape(-1)
            mx.eval(omega)
        return cls(omega, rope.traditional)

    def turn(self, x: mx.array, angles: mx.array) -> mx.array:
        """Rotate the pairs of x (..., d) by `angles` (..., d/2), in float32; returned in x's dtype."""
        wide = x.astype(mx.float32)
        return self.between(wide, self.across(wide), angles).astype(x.dtype)

    def across(self, x: mx.array) -> mx.array:
        """x (..., d) with each pair turned by a right angle."""
        first, second = _pairs(x, self.interleaved)
        return _join(-second, first, self.interleaved)

    def between(self, x: mx.array, across: mx.array, angles: mx.array) -> mx.array:
        """x (..., d) turned by `angles` (..., d/2): for many angles, `across` is worked out once."""
        return x * self.expand(mx.cos(angles)) + across * self.expand(mx.sin(angles))

    def remove(self, keys: mx.array, start: int) -> mx.array:
        """Undo the rotation of keys (B, G, T, d) that stand at positions start, start + 1, ..."""
        positions = mx.arange(start, start + keys.shape[2], dtype=mx.float32)
        return self.turn(keys, -positions[:, None] * self.omega)

    def shift(self, keys: mx.array, by: int) -> mx.array:
        """Move rotated keys (B, G, T, d) by a number of positions."""
        return self.turn(keys, by * self.omega)

    def attenuation(self, spread: mx.array) -> mx.array:
        """(..., d/2): length of the mean of rotations spread evenly over `spread` (...) positions.

        mean over delta in [-s/2, s/2] of cos(omega * delta) = sin(x) / x, x = omega * s / 2.
        """
        x = mx.maximum(spread[..., None] * self.omega / 2, 1e-6)
        return mx.sin(x) / x

    def expand(self, per_pair: mx.array) -> mx.array:
        """(..., d/2) one number per pair -> (..., d) the same number for both components."""
        return _join(per_pair, per_pair, self.interleaved)


def _pairs(x: mx.array, interleaved: bool) -> tuple[mx.array, mx.array]:
    if interleaved:
        return x[..., 0::2], x[..., 1::2]
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _join(first: mx.array, second: mx.array, interleaved: bool) -> mx.array:
    if interleaved:
        return mx.stack([first, second], axis=-1).reshape(*first.shape[:-1], -1)
    return mx.concatenate([first, second], axis=-1)
