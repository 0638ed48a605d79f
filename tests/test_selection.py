from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from held_out import evaluating

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
    return evaluating(tmp_path, "selection", "s", "--length", "72")


def nats(path) -> dict[str, dict[str, list[float]]]:
    """By document and row."""
    entries = Results.read(path / "s" / "72.json").entries
    return {name: {row: entry["nats"] for row, entry in rows.items()} for name, rows in entries.items()}


def test_each_choice_is_measured_beside_full_attention_and_none_and_can_be_added_later(run, tmp_path, capsys):
    assert run("--rows", *(f"{name}:16:16" for name in WAYS)) == 0
    capsys.readouterr()
    assert run("--rows", "Quest:32:4") == 0
    rows = {f"{name}:16:16" for name in WAYS} | {"Quest:32:4"}
    assert all(measured.keys() == {FULL, WINDOW} | rows for measured in nats(tmp_path).values())
    table = [line.split(" | ")[:3] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows) + 2
    assert table[1 + 2 + list(WAYS).index("Quest") + 1] == ["| Quest", "32", "4"]


def test_where_all_is_recalled_all_ways_are_one(run, tmp_path):
    assert run("--rows", "oracle:512:16", "mean key:512:16", f"{IN_PLACE}:512:16", "oracle:512:1") == 0
    for rows in nats(tmp_path).values():
        assert rows["oracle:512:16"] == rows["mean key:512:16"]
        assert rows["oracle:512:16"] == pytest.approx(rows[f"{IN_PLACE}:512:16"], rel=1e-5)
        assert rows["oracle:512:16"] == pytest.approx(rows["oracle:512:1"], rel=1e-5)


@pytest.mark.parametrize("other", [f"{IN_PLACE}:16:16", "means of 4:16:4", "means of 4:32:16"])
def test_distances_queries_and_tokens_matter_where_not_all_is_recalled(run, tmp_path, other):
    assert run("--rows", "means of 4:16:16", other) == 0
    assert all(rows["means of 4:16:16"] != rows[other] for rows in nats(tmp_path).values())


def test_tokens_that_are_no_whole_pages_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--rows", "oracle:24:16")
    assert "no whole pages of 16" in capsys.readouterr().err


def test_what_was_begun_and_left_hides_no_other_row(run, tmp_path, capsys):
    assert run("--rows", "Quest:16:16", "oracle:16:16") == 0
    fields = json.loads((tmp_path / "s" / "72.json").read_text())
    next(iter(fields["entries"].values())).pop("Quest:16:16")
    (tmp_path / "s" / "72.json").write_text(json.dumps(fields))
    assert run("--rows", "oracle:16:16") == 0
    shown = capsys.readouterr().out.rpartition("2 documents:")[2]
    assert "| oracle |" in shown and "Quest" not in shown


@pytest.mark.parametrize("text", ["oracle", "oracle:16", "guess:16:16", "oracle:0:16", "oracle:16:x"])
def test_what_is_no_choice_is_refused(run, text, capsys):
    with pytest.raises(SystemExit):
        run("--rows", text)
    assert "way:tokens:queries" in capsys.readouterr().err
