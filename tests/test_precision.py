import numpy as np
import pytest

from mlx_edgeinf.pagestore.precision import PRECISIONS, EightBit, Half, to_float, to_half

HEADS, PAGES, TOKENS, DIM = 3, 40, 16, 64


def test_every_finite_half_becomes_the_same_float32():
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    ours = to_float(half, np.float32)
    assert np.array_equal(ours.view(np.uint32), half.astype(np.float32).view(np.uint32))


def test_half_stays_half():
    half = np.ones(3, np.float16)
    assert to_half(half) is half and to_float(half, np.float16) is half


def pages(outliers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys and values (pages, P, d), and queries (n, d); some key channels are 15 times as large."""
    rng = np.random.default_rng(3)
    scale = np.ones(DIM)
    scale[:outliers] = 15
    keys = (rng.standard_normal((PAGES, TOKENS, DIM)) + rng.standard_normal(DIM)) * scale
    # Models have small queries where they have large keys.
    queries = rng.standard_normal((200, DIM)) / scale
    return to_half(keys), to_half(rng.standard_normal((PAGES, TOKENS, DIM))), queries


def score_error(codec: Half | EightBit, outliers: int) -> float:
    """Root mean square error of attention scores, relative to their standard deviation."""
    keys, values, queries = pages(outliers)
    found = codec.decode(codec.encode(keys, values), np.float32)[0]
    exact = queries @ keys.reshape(-1, DIM).astype(float).T
    return float(np.std(queries @ found.reshape(-1, DIM).T - exact) / np.std(exact))


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_page_takes_the_bytes_that_were_told(name):
    codec = PRECISIONS[name](TOKENS, DIM)
    payload = codec.encode(*pages(0)[:2])
    assert payload.shape == (PAGES, codec.nbytes) and payload.dtype == np.uint8


def test_half_precision_returns_what_it_got():
    codec, (keys, values, _) = Half(TOKENS, DIM), pages(2)
    found = codec.decode(codec.encode(keys, values), np.float16)
    assert np.array_equal(found[0], keys) and np.array_equal(found[1], values)


@pytest.mark.parametrize("outliers", [0, 3])
def test_eight_bits_keep_scores_within_a_hundredth_even_with_outlier_channels(outliers):
    """Scales per token would lose ten times as much to three large channels."""
    assert score_error(EightBit(TOKENS, DIM), outliers) < 0.01


def test_eight_bits_keep_keys_that_stand_far_from_0():
    """As a bias of the model has them stand: what tells them apart is what they vary by."""
    codec, (keys, values, _) = EightBit(TOKENS, DIM), pages(0)
    far = to_half(keys + 300 * np.eye(DIM)[3])
    found = codec.decode(codec.encode(far, values), np.float32)[0]
    assert np.abs(found - far)[..., 3].max() < 0.02 * keys[..., 3].std()


def test_eight_bits_keep_values_token_by_token():
    codec, (keys, values, _) = EightBit(TOKENS, DIM), pages(0)
    values[:, 5] *= 100
    found = codec.decode(codec.encode(keys, values), np.float32)[1]
    largest = np.abs(values.astype(np.float32)).max(axis=-1, keepdims=True)
    assert (np.abs(found - values) <= largest * 0.6 / 127).all()


def test_eight_bits_take_zeros_and_what_is_almost_zero():
    codec, nothing = EightBit(TOKENS, DIM), np.zeros((1, TOKENS, DIM), np.float16)
    keys, values = codec.decode(codec.encode(nothing, nothing + np.float16(6e-8)), np.float32)
    assert np.array_equal(keys, nothing) and np.abs(values).max() < 1e-6
