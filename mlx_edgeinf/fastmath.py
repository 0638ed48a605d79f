"""A vectorised exponential for MLX's CPU back end.

MLX computes `exp` on the CPU one element at a time: 12-16 ns each on two AMD
EPYC cores, where a multiply takes 0.2 ns, so that softmax, not the matrix
products, bounds attention there. The replacement is plain arithmetic that
`mx.compile` fuses into one vector loop: 1.4 ns an element, relative error
below 1e-4 up to |x| = 30 and 1 % at 80, where it decides nothing. Metal has a
fast `exp`; there the plain function is used.
"""

from __future__ import annotations

import mlx.core as mx


def exp(x: mx.array) -> mx.array:
    """e**x for x <= 80, float32. Below -60 it returns e**-60 (8.8e-27)."""
    return _vector_exp(x) if mx.default_device() == mx.Device(mx.cpu) else mx.exp(x)


@mx.compile
def _polynomial(x: mx.array) -> mx.array:
    """e**x = (e**(x / 128))**128: a degree-5 Taylor polynomial and seven squarings."""
    y = mx.maximum(x, -60.0) * (1 / 128)
    p = 1 + y * (1 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120)))))
    for _ in range(7):
        p = p * p
    return p


@mx.custom_function
def _vector_exp(x: mx.array) -> mx.array:
    return _polynomial(x)


@_vector_exp.vjp
def _vector_exp_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    # The derivative is the output itself, so the squarings are not differentiated.
    return cotangent * output
