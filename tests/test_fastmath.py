from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_edgeinf import fastmath
from mlx_edgeinf.fastmath import exp

GRID = mx.linspace(-10, 0, 20001)


@pytest.fixture(autouse=True)
def on_the_cpu():
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def test_it_agrees_with_float64_to_five_digits():
    exact = np.exp(np.array(GRID, dtype=np.float64))
    assert np.max(np.abs(np.array(exp(GRID), dtype=np.float64) / exact - 1)) < 2e-5


@pytest.mark.parametrize("low, high, error", [(-30, -10, 1e-4), (0, 30, 1e-4), (30, 80, 1e-2)])
def test_far_away_it_still_agrees(low, high, error):
    far = mx.linspace(low, high, 20001)
    exact = np.exp(np.array(far, dtype=np.float64))
    assert np.max(np.abs(np.array(exp(far), dtype=np.float64) / exact - 1)) < error


def test_the_largest_score_weighs_exactly_one():
    assert exp(mx.zeros(3)).tolist() == [1, 1, 1]


def test_it_rises_wherever_its_argument_does():
    rise = np.diff(np.array(exp(GRID[::20])))
    assert np.all(rise > 0)


@pytest.mark.parametrize("masked", [-61.0, -1e9, -float("inf")])
def test_what_is_masked_weighs_next_to_nothing(masked):
    assert 0 <= exp(mx.array([masked])).item() < 1e-26


def test_its_gradient_is_itself():
    x = mx.array([-10.0, -3.0, -0.5, 0.0])
    assert mx.array_equal(mx.grad(lambda x: exp(x).sum())(x), exp(x))


def test_a_gradient_stays_finite_where_scores_are_masked():
    gradient = mx.grad(lambda x: exp(x).sum())(mx.array([-float("inf"), -1.0]))
    assert np.all(np.isfinite(np.array(gradient)))


def test_elsewhere_the_plain_exponential_runs(monkeypatch):
    fast = exp(GRID)
    monkeypatch.setattr(fastmath.mx, "default_device", lambda: mx.Device(mx.gpu))
    assert mx.array_equal(exp(GRID), mx.exp(GRID))
    assert mx.allclose(exp(GRID), fast, rtol=2e-5, atol=0)
