from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.rope_utils import Llama3RoPE, initialize_rope
from tiny import LLAMA3_ROPE

from mlx_edgeinf.rotation import Rotation

D = 16
ROPES = {
    "plain": nn.RoPE(D, base=1e4),
    "interleaved": nn.RoPE(D, traditional=True, base=1e4),
    "linearly scaled": nn.RoPE(D, base=1e4, scale=0.25),
    "llama3": Llama3RoPE(D, 128, False, 1e4, LLAMA3_ROPE),
}


@pytest.fixture(params=ROPES)
def rope(request) -> nn.Module:
    return ROPES[request.param]


@pytest.fixture
def rotation(rope) -> Rotation:
    return Rotation.of(rope, D)


@pytest.fixture
def keys() -> mx.array:
    return mx.random.normal((2, 3, 7, D), key=mx.random.key(0))


def test_frequencies_are_those_of_the_formula():
    omega = Rotation.of(ROPES["plain"], D).omega
    assert np.allclose(omega, 1e4 ** (-np.arange(0, D, 2) / D), rtol=1e-5)


def test_turning_by_position_is_the_base_models_rope(rope, rotation, keys):
    positions = mx.arange(100, 107)[:, None]
    assert mx.allclose(rotation.turn(keys, positions * rotation.omega), rope(keys, offset=100), atol=1e-4)


def test_removing_gives_back_the_keys_without_position(rope, rotation, keys):
    assert mx.allclose(rotation.remove(rope(keys, offset=90), 90), keys, atol=1e-4)


def test_shifting_is_standing_elsewhere(rope, rotation, keys):
    assert mx.allclose(rotation.shift(rope(keys, offset=90), -37), rope(keys, offset=53), atol=1e-4)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_stays_half_precision(rotation, keys, dtype):
    assert rotation.remove(keys.astype(dtype), 5).dtype == dtype
    assert rotation.shift(keys.astype(dtype), 5).dtype == dtype


def test_attenuation_is_the_length_of_the_average_rotation(rotation):
    spread = 40
    distances = np.linspace(-spread / 2, spread / 2, 20001)
    average = np.exp(1j * distances[:, None] * np.array(rotation.omega)).mean(axis=0)
    assert np.allclose(rotation.attenuation(mx.array(float(spread))), average.real, atol=1e-3)
    assert np.allclose(average.imag, 0, atol=1e-9)


def test_over_no_distance_nothing_is_attenuated(rotation):
    assert mx.allclose(rotation.attenuation(mx.zeros((2, 3))), mx.ones((2, 3, D // 2)))


def test_expanding_gives_both_components_of_a_pair_the_same(rope, rotation, keys):
    per_pair = mx.arange(1.0, D / 2 + 1)
    scaled = rotation.turn(keys, mx.array(1.0) * rotation.omega) * rotation.expand(per_pair)
    assert mx.allclose(scaled, rotation.turn(keys * rotation.expand(per_pair), rotation.omega), atol=1e-5)


@pytest.mark.parametrize("scaling", [
    {"type": "yarn", "factor": 4.0},
    {"type": "longrope", "original_max_position_embeddings": 32, "short_factor": [1.0] * 8,
     "long_factor": [2.0] * 8},
], ids=["yarn", "longrope"])  # fmt: skip
def test_a_rope_that_is_more_than_a_rotation_is_refused(scaling):
    rope = initialize_rope(D, 1e4, False, scaling, 128)
    with pytest.raises(ValueError, match=f"{type(rope).__name__} .* is not supported"):
        Rotation.of(rope, D)


def test_a_rope_over_half_the_head_is_refused():
    with pytest.raises(ValueError, match="over 8 of 16 components"):
        Rotation.of(nn.RoPE(8), D)
