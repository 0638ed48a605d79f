from __future__ import annotations

import json
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from ram_pages import RamPages
from tiny import LAYOUT, byte_tokenizer, llama_model, with_memory

from mlx_edgeinf import benchmark
from mlx_edgeinf.adapter import AdapterConfig, load_weights, save_adapter
from mlx_edgeinf.basemodel import fingerprint
from mlx_edgeinf.cache import Layout
from mlx_edgeinf.measure import sides, stored
from mlx_edgeinf.measure.learning import BEGINNING, READING, WAYS, learning, learning_table
from mlx_edgeinf.measure.sides import (
    DECODED,
    UNTIMED,
    Ours,
    Recalling,
    Stock,
    by_turns,
    measure,
    prefill,
    short_path,
    with_weights_of,
)
from mlx_edgeinf.training.recalling import temporary_pages


def tokens(length: int) -> list[int]:
    return np.random.default_rng(0).integers(0, 256, length).tolist()


@pytest.fixture
def edge() -> Ours:
    return Ours(with_memory(llama_model()))


@pytest.fixture
def stock(edge) -> Stock:
    return Stock(with_weights_of(edge.model, llama_model()))


class Renewing(Recalling):
    """With pages of its own for each text."""

    def make_cache(self) -> list:
        self._pages = RamPages(self.model)
        return super().make_cache()


@pytest.fixture(params=["ours", "recall", "stock"])
def side(request, edge, stock) -> Stock:
    return {"ours": edge, "recall": Renewing(edge.model, None), "stock": stock}[request.param]


def test_both_sides_hold_the_same_weight_arrays(edge, stock):
    shared = dict(tree_flatten(edge.model.parameters()))
    assert all(shared[path] is weight for path, weight in tree_flatten(stock.model.parameters()))
    assert type(stock.model.layers[0].self_attn).__name__ == "Attention"


def test_ours_is_fed_so_that_every_piece_ends_full(edge):
    cache, rooms = edge.make_cache(), []
    for _ in range(3):
        rooms.append(edge.chunk(cache))
        prefill(edge, tokens(rooms[-1]), cache)
        assert cache[0].room() == 0
    assert rooms == [18, 8, 8]


def test_a_prompt_is_read_the_same_in_pieces_as_at_once(side):
    pieces, whole = side.make_cache(), side.make_cache()
    prefill(side, tokens(50), pieces)
    side.model(mx.array(tokens(50))[None], cache=whole)
    after = [side.model(mx.array([[7]]), cache=cache) for cache in (pieces, whole)]
    assert mx.allclose(*after, rtol=1e-4, atol=1e-4).item()


def test_decoding_in_a_branch_leaves_the_reading_as_it_was(side):
    cache, untouched = side.make_cache(), side.make_cache()
    for each in (cache, untouched):
        prefill(side, tokens(30), each)
    with side.branch(cache) as branch:
        assert len(list(sides.decode(side.model, 5, branch))) == 1 + DECODED
    after = [side.model(mx.array([tokens(9)]), cache=each) for each in (cache, untouched)]
    assert mx.array_equal(*after).item()


def test_one_reading_is_measured_at_every_length(side, monkeypatch):
    read, whole = [], sides.prefill

    def counting(side, piece, cache):
        read.extend(piece)
        return whole(side, piece, cache)

    monkeypatch.setattr(sides, "prefill", counting)
    measured = dict(measure(side, tokens(64), [64, 24]))
    assert list(measured) == [24, 64] and read == tokens(64)[:63]
    assert measured[64]["peak_bytes"] >= measured[24]["peak_bytes"] > measured[24]["state_bytes"]


def test_seconds_spent_decoding_are_not_counted_as_reading(edge, monkeypatch):
    monkeypatch.setattr(sides, "prefill", lambda *_: 2.0)
    monkeypatch.setattr(sides, "decode", lambda *_: iter([0.5, *UNTIMED * [99.0], 10.0, 10.0]))
    measured = dict(measure(edge, tokens(41), [21, 41]))
    assert measured[21] | {"prefill": 10.0, "ttft": 2.5, "decode": 0.1} == measured[21]
    assert measured[41] | {"prefill": 10.0, "ttft": 4.5, "decode": 0.1} == measured[41]


def test_what_is_held_is_constant_in_ours_and_grows_in_stock():
    model = with_memory(llama_model(), layout=Layout(4, 64, 64))
    edge, stock = Ours(model), Stock(with_weights_of(model, llama_model()))
    ours = dict(measure(edge, tokens(8192), [1024, 8192]))
    theirs = dict(measure(stock, tokens(2048), [1024, 2048]))
    growth = theirs[2048]["state_bytes"] - theirs[1024]["state_bytes"]
    assert growth > 250_000
    assert ours[8192]["state_bytes"] == ours[1024]["state_bytes"]
    # Not to the byte: when MLX's thread lets go of an array is a matter of timing.
    assert ours[8192]["peak_bytes"] - ours[1024]["peak_bytes"] < growth
    assert theirs[2048]["peak_bytes"] > 1.5 * theirs[1024]["peak_bytes"]


def test_the_short_path_is_compared_logit_by_logit(edge, stock):
    compared = short_path(edge, stock, tokens(16))
    assert compared["identical"] and compared["tokens"] == 16
    stock.model.model.norm.weight = stock.model.model.norm.weight * 1.001
    assert not short_path(edge, stock, tokens(16))["identical"]


def test_the_short_paths_speed_is_the_ratio_of_medians_in_alternation(edge, stock, monkeypatch):
    order, seconds = [], iter([8.0, 2.0, 8.0, 4.0, 8.0, 4.0, 90.0, 4.0, 8.0, 4.0])

    def timed(side, *_):
        order.append(type(side))
        return next(seconds)

    monkeypatch.setattr(sides, "prefill", timed)
    assert short_path(edge, stock, tokens(16))["speed"] == 2.0
    assert order == [Stock, Ours] * sides.PAIRS


def test_training_is_told_beside_the_reading_of_the_same_tokens(edge, stock):
    measured = learning(edge, stock, tokens(64))
    beginning, trained = LAYOUT.capacity, 2 * LAYOUT.segment
    read = [entry["tokens"] for entry in measured.values()]
    assert read == [beginning + trained, beginning, *len(WAYS) * [trained]]
    assert all(len(entry["seconds"]) == 3 and entry["peak_bytes"] > 0 for entry in measured.values())
    measured[READING]["seconds"], measured[BEGINNING]["seconds"] = [2.0, 1.0, 9.0], [1.0, 3.0, 0.0]
    first, *_ = WAYS
    measured[first] |= {"seconds": [5.0, 70.0, 1.0], "peak_bytes": 3.2e9}
    # 34 tokens in 2 s are read, 16 in 5 - 1 s trained.
    assert f"| {first} | 3.20 | 4 | 4.2 tokens |" in learning_table(measured)
    assert "| 17 | 1.0 tokens |" in learning_table(measured).splitlines()[2]


def test_steps_are_taken_by_turns():
    order = []

    def side(name, seconds):
        for each in seconds:
            order.append(name)
            yield each

    assert by_turns(side("a", [1.0, 2.0]), side("b", [3.0, 4.0])) == [[1.0, 2.0], [3.0, 4.0]]
    assert order == ["a", "b", "a", "b"]


def test_pages_are_laid_on_disk_again_until_there_are_enough(edge, monkeypatch):
    monkeypatch.setattr(stored, "READ", 64)
    counted, writing = [], stored.decode

    def counting(model, token, cache):
        counted.append({layer.recall and layer.recall.index.tokens for layer in cache})
        return writing(model, token, cache)

    monkeypatch.setattr(stored, "decode", counting)
    with temporary_pages(edge.model) as pages:
        before = pages.bytes_used
        told = dict(stored.costs(Recalling(edge.model, pages), edge, tokens(64), [1000, 100]))
        last = pages.gather(1, np.full((pages.shape.kv_heads, 1), pages.pages(1) - 3))[0]
    assert counted == [{100}, {None}, {1000}, {None}]
    assert list(told) == [stored.AT_FIRST, "100", "1000"]
    assert before < told["100"]["disk_bytes"] <= told["1000"]["disk_bytes"] and last.any()


def test_what_recall_costs_is_with_over_without():
    entry = {"with": 3.0, "without": 4.0}
    entries = {stored.AT_FIRST: entry, "1000": entry | {"disk_bytes": 15e9}}
    assert stored.table(entries).splitlines()[-1] == "| 1,000 | 15.00 | 3.0 | 4.0 | 0.75 |"
    assert "8,192 tokens are read at 0.75 times the speed without" in stored.reading_line(entries)


def test_the_first_steps_are_not_timed(edge, monkeypatch):
    monkeypatch.setattr(stored, "READ", 64)
    pieces, steps = [9.0, 0.5, 0.5], [9.0, *UNTIMED * [9.0], 0.5, 0.5]

    def seconds(each: list[float], cache: list) -> Iterator[float]:
        return (2 * second if cache[0].recall else second for second in each)

    with temporary_pages(edge.model) as pages:
        side = Recalling(edge.model, pages)
        prefill(side, tokens(64), cache := side.make_cache())
        monkeypatch.setattr(stored, "decode", lambda model, token, cache: seconds(steps, cache))
        monkeypatch.setattr(stored, "prefilling", lambda side, tokens, cache: seconds(pieces, cache))
        assert stored._speeds(side, cache, 5) == {"with": 1.0, "without": 2.0}
        _, read = next(stored.costs(side, edge, tokens(64), []))
    timed = 63 - LAYOUT.capacity
    assert read == {"with": timed / 2, "without": timed}


# -- the command ----------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command on a short text with a tiny model; later options win."""
    tokenizer = byte_tokenizer()
    model = with_memory(llama_model())
    config = AdapterConfig("tiny", fingerprint(model), features=4, **vars(LAYOUT))
    save_adapter(model, config, tmp_path / "gates")
    load_weights(model, config, tmp_path / "gates")
    monkeypatch.setattr(benchmark, "load", lambda *_, exact_limit: (model, tokenizer))
    monkeypatch.setattr(benchmark, "load_base", lambda _: (llama_model(), tokenizer))
    monkeypatch.setattr(stored, "READ", 64)
    (tmp_path / "book.txt").write_text("Once upon a time. " * 10)

    def command(*options: str) -> int:
        return benchmark.main([
            "--text", str(tmp_path / "book.txt"), "--adapter-path", str(tmp_path / "gates"),
            "--lengths", "32", "64", "96", "--stock-up-to", "64", "--stored", "64", "640",
            "--output", str(tmp_path / "out" / "b.json"), *options,
        ])  # fmt: skip

    return command


def test_a_run_measures_all_sides_and_prints_the_table(run, tmp_path, capsys):
    assert run() == 0
    saved = json.loads((tmp_path / "out" / "b.json").read_text())
    assert {name: list(entries) for name, entries in saved["entries"].items()} == {
        "short": ["path"], "gates": ["swap"], "training": [READING, BEGINNING, *WAYS], "stock": ["32", "64"],
        "ours": ["32", "64", "96"], "recall": ["32", "64", "96"], "recall costs": ["read", "64", "640"],
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "| 96 | ours | " in printed and "| 96 | ours with recall | " in printed
    assert "| 96 | mlx-lm | " not in printed and "logits identical to stock mlx-lm's" in printed
    assert "Gates of a loaded model are swapped in " in printed
    assert "--lengths 32 64 96" in printed and str(tmp_path) not in json.dumps(saved)


def test_a_second_run_measures_nothing_again(run, monkeypatch):
    assert run() == 0
    monkeypatch.setattr(benchmark, "measure", None)
    monkeypatch.setattr(benchmark, "short_path", None)
    monkeypatch.setattr(benchmark, "learning", None)
    monkeypatch.setattr(stored, "costs", None)
    assert run() == 0


def test_a_side_that_was_stopped_is_measured_again_alone(run, monkeypatch):
    measured = []

    def stopping(side, *rest):
        measured.append(type(side))
        for length, entry in measure(side, *rest):
            if measured == [Stock, Ours] and length == 64:
                raise KeyboardInterrupt
            yield length, entry

    monkeypatch.setattr(benchmark, "measure", stopping)
    assert run() == 130
    assert run() == 0
    assert measured == [Stock, Ours, Ours, Recalling]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lengths", "64", "999"), "has 180 tokens and 999 are to be read"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
        (("--stored", "32"), "--stored must all be 64 or more"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(run, capsys, options, words):
    assert run(*options) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_the_promises_are_ratios_within_one_run(run, tmp_path):
    run()
    results = benchmark.Results.read(tmp_path / "out" / "b.json")
    entry = {"peak_bytes": 1e9, "state_bytes": 1e6, "ttft": 9.0, "prefill": 100.0, "decode": 5.0}
    results.entries["stock"] = {"8192": entry}
    results.entries["ours"] = {"8192": entry | {"prefill": 250.0}, "65536": entry | {"peak_bytes": 1.03e9}}
    lines = " ".join(benchmark.ratio_lines(results))
    assert "With recall, 64 tokens are read at" in lines
    assert "ours over mlx-lm: 2.50 at 8,192 tokens" in lines
    assert "at 65,536 tokens at 1.030 times its peak at 8,192" in lines
