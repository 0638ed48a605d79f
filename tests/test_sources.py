from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference

from mlx_edgeinf.sources import QUERY_BLOCK, attend, grouped, lengthened, weigh

B, H, G, D, SCALE = 2, 4, 2, 8, 8**-0.5


def normal(seed: int, *shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def exact(q: mx.array, k: mx.array, v: mx.array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Causal attention of the last L tokens, its masses, and what each key received, in float64."""
    q, k, v = (np.array(x, dtype=np.float64) for x in (q, k, v))
    past = k.shape[2] - q.shape[2]
    outputs, masses, received = np.zeros(q.shape), np.zeros(q.shape[:3]), np.zeros(k.shape[:3])
    for b, h, i in np.ndindex(*masses.shape):
        g, seen = h * G // H, past + i + 1
        outputs[b, h, i], masses[b, h, i], weights = reference.attend(
            q[b, h, i], k[b, g, :seen], v[b, g, :seen], SCALE
        )
        received[b, g, :seen] += weights
    return outputs, masses, received


@pytest.mark.parametrize(
    "length, total", [(1, 1), (1, 20), (5, 5), (5, 20), (QUERY_BLOCK, 140), (2 * QUERY_BLOCK + 3, 300)]
)
def test_attention_its_mass_and_what_keys_receive_are_exact_and_causal(length, total):
    q, k, v = normal(0, B, H, length, D), normal(1, B, G, total, D), normal(2, B, G, total, D)
    output, log_mass, received = attend(q, k, v, SCALE)
    expected = exact(q, k, v)
    assert np.allclose(output, expected[0], atol=2e-5)
    assert np.allclose(log_mass, expected[1], atol=2e-5)
    assert np.allclose(received, expected[2], rtol=1e-4, atol=2e-5)
    # Each of the queries that share a kv head gives away one.
    assert np.allclose(received.sum(axis=-1), length * H / G, rtol=1e-4)


def test_later_keys_have_received_nothing_yet():
    received = normal(0, B, G, 3)
    longer = lengthened(received, 5)
    assert mx.array_equal(longer[:, :, :3], received) and longer.shape == (B, G, 5)
    assert not mx.any(longer[:, :, 3:]).item()


def test_large_scores_do_not_overflow():
    q, k, v = 100 * normal(0, 1, H, 4, D), 100 * normal(1, 1, G, 9, D), normal(2, 1, G, 9, D)
    assert all(np.all(np.isfinite(np.array(x))) for x in attend(q, k, v, SCALE))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_many_large_values_do_not_overflow(dtype):
    """Their sum is beyond what float16 holds, their mean is not."""
    same, values = mx.zeros((1, 1, 1028, 8), dtype), mx.full((1, 1, 1028, 8), 70).astype(dtype)
    assert mx.allclose(attend(same[:, :, :1], same, values, 1.0).output, values[:, :, :1], rtol=0.01)


def test_exact_sources_mixed_are_exact_attention_over_their_union():
    """Three sets of keys that everyone may see, and the causal one, answer apart and are mixed."""
    q, k, v = normal(0, B, H, 6, D), normal(1, B, G, 40, D), normal(2, B, G, 40, D)
    sets = [slice(0, 4), slice(4, 29), slice(29, 30)]
    scores = [grouped(q * SCALE, G) @ k[:, :, part].swapaxes(-1, -2) for part in sets]
    sources = [weigh(s, v[:, :, part], q.shape) for s, part in zip(scores, sets)]
    local = attend(q, k[:, :, 30:], v[:, :, 30:], SCALE)
    output, log_mass = reference.mix([source[:2] for source in (*sources, local)])
    expected = exact(q, k, v)
    assert np.allclose(output, expected[0], atol=2e-5)
    assert np.allclose(log_mass, expected[1], atol=2e-5)


def test_gradients_are_those_of_plain_attention():
    q, k, v = normal(0, 1, H, 5, D), normal(1, 1, G, 9, D), normal(2, 1, G, 9, D)
    weight = normal(3, 1, H, 5, D)

    def ours(q, k, v):
        output, log_mass, _ = attend(q, k, v, SCALE)
        return (weight * output).sum() + log_mass.sum()

    def plain(q, k, v):
        k, v = mx.repeat(k, H // G, axis=1), mx.repeat(v, H // G, axis=1)
        future = mx.arange(9) > mx.arange(4, 9)[:, None]
        scores = mx.where(future, -1e9, SCALE * q @ k.swapaxes(-1, -2))
        return (weight * (mx.softmax(scores, axis=-1) @ v)).sum() + mx.logsumexp(scores, axis=-1).sum()

    for a, b in zip(mx.grad(ours, (0, 1, 2))(q, k, v), mx.grad(plain, (0, 1, 2))(q, k, v)):
        assert mx.allclose(a, b, atol=1e-4)


def test_what_keys_received_is_a_constant_to_gradients():
    q, k, v = normal(0, 1, H, 5, D), normal(1, 1, G, 9, D), normal(2, 1, G, 9, D)
    gradients = mx.grad(lambda *qkv: mx.square(attend(*qkv, SCALE).received).sum(), (0, 1, 2))(q, k, v)
    assert not any(mx.any(gradient).item() for gradient in gradients)


def test_half_precision_keeps_masses_and_what_keys_received_in_float32():
    half = [normal(s, 1, h, 5, D).astype(mx.bfloat16) for s, h in enumerate((H, G, G))]
    dtypes = tuple(part.dtype for part in attend(*half, SCALE))
    assert dtypes == (mx.bfloat16, mx.float32, mx.float32)
