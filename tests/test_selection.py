from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from held_out import save_trained, write_books

from mlx_edgeinf import evaluate
from mlx_edgeinf.measure.gap import FULL, WINDOW
from mlx_edgeinf.measure.results import Results
from mlx_edgeinf.measure.selection import IN_PLACE, WAYS

N, G, Q, PAGES, P, D = 2, 2, 6, 5, 16, 8


def normal(seed: int, *shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


@pytest.fixture(scope="module")
def asked() -> tuple[mx.array, mx.array]:
    return normal(0, N, G, Q, D), normal(1, G, PAGES, P, D)


def exact(queries: mx.array, keys: mx.array) -> np.ndarray:
    q, k = np.array(queries, dtype=float), np.array(keys, dtype=float)
    return np.log(np.exp(np.einsum("ngqd,gptd->ngqpt", q, k)).sum(axis=-1))


def test_the_oracle_knows(asked):
    assert np.allclose(WAYS["oracle"].estimate(*asked), exact(*asked), atol=1e-4)


@pytest.mark.parametrize("name", set(WAYS) - {"oracle"})
def test_of_a_page_of_equal_keys_all_know(name, asked):
    queries, keys = asked[0], mx.repeat(asked[1][:, :, :1], P, axis=2)
    assert np.allclose(WAYS[name].estimate(queries, keys), exact(queries, keys), atol=1e-4)


def test_means_say_too_little_and_bounds_too_much(asked):
    true = exact(*asked)
    coarse, fine = (np.array(WAYS[name].estimate(*asked)) for name in ("mean key", "means of 4"))
    assert (coarse < fine).all() and (fine < true).all()
    assert (np.array(WAYS["Quest"].estimate(*asked)) > true).all()


def test_the_gaussian_knows_normal_keys():
    queries, keys = 0.3 * normal(0, 1, 1, 50, D), normal(1, 1, 1, 20_000, D)
    assert np.allclose(WAYS["Gaussian"].estimate(queries, keys), exact(queries, keys), atol=0.05)


@pytest.fixture
def run(tmp_path, tiny_subject):
    books, gates = write_books(tmp_path / "books"), save_trained(tmp_path / "gates")

    def command(*options: str) -> int:
        usual = ["--data", str(books), "--documents", "2", "--length", "72", "--adapter-path", str(gates)]
        return evaluate.main(["selection", *usual, "--output", str(tmp_path / "s.json"), *options])

    return command


def test_each_way_to_choose_is_measured_beside_full_attention_and_none(run, tmp_path, capsys):
    assert run("--tokens", "16", "32") == 0
    entries = Results.read(tmp_path / "s.json").entries
    ways = {f"{name}, {tokens} tokens" for name in WAYS for tokens in (16, 32)}
    assert all(rows.keys() == {FULL, WINDOW} | ways for rows in entries.values())
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ways) + 2 and "minus" not in table[0]


def test_where_all_is_recalled_all_ways_are_one(run, tmp_path):
    assert run("--tokens", "512", "--ways", "oracle", "mean key", IN_PLACE) == 0
    for rows in Results.read(tmp_path / "s.json").entries.values():
        nats = [rows[f"{name}, 512 tokens"]["nats"] for name in ("oracle", "mean key", IN_PLACE)]
        assert nats[0] == nats[1] == pytest.approx(nats[2], rel=1e-5)


def test_true_distances_are_others_where_not_all_is_recalled(run, tmp_path):
    assert run("--tokens", "16", "--ways", "means of 4", IN_PLACE) == 0
    for rows in Results.read(tmp_path / "s.json").entries.values():
        assert rows["means of 4, 16 tokens"]["nats"] != rows[f"{IN_PLACE}, 16 tokens"]["nats"]
