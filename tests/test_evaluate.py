from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from tiny import LAYOUT, byte_tokenizer, llama_model, with_memory

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig, fingerprint, gate_parameters, save_adapter
from mlx_edgeinf.measure import gap, readings
from mlx_edgeinf.measure.gap import FULL, LONGER, OURS, ROWS, SHUFFLED, UNTRAINED, WINDOW, ZEROED
from mlx_edgeinf.measure.readings import Reader, gates, shut_when_empty, tally, tokens_worth
from mlx_edgeinf.measure.results import Results, ResultsError

LENGTH, FIRST = 72, 2 * LAYOUT.window


def tokens(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, LENGTH).tolist()


@pytest.fixture
def reader() -> Reader:
    model = with_memory(llama_model())
    for layer in model.layers:
        layer.self_attn.memory_gate.mass = mx.abs(layer.self_attn.memory_gate.mass) + 0.1
    untrained = gate_parameters(with_memory(llama_model()))
    return Reader(model, untrained, {"first": tokens(1), "second": tokens(2)}, FIRST)


def losses(reader: Reader, name: str, row: str, of: tuple[str, str] | None = None) -> np.ndarray:
    pieces = reader.measure(name, row)[of or (name, row)]
    return np.concatenate([piece.losses for piece in pieces])


def stock_losses(model: nn.Module, text: list[int]) -> np.ndarray:
    """Of the tokens from FIRST on, by mlx-lm's own forward pass."""
    logits = model(mx.array(text[:-1])[None], cache=[KVCache() for _ in model.layers])[0]
    likelihoods = nn.log_softmax(logits)[mx.arange(len(text) - 1), mx.array(text[1:])]
    return -np.array(likelihoods)[FIRST - 1 :]


def test_full_attention_has_the_losses_of_stock_mlx_lm(reader):
    stock = stock_losses(reader.model, reader.documents["first"])
    np.testing.assert_allclose(losses(reader, "first", FULL), stock, rtol=1e-4, atol=1e-4)


def test_full_attention_never_takes_the_base_path(reader, monkeypatch):
    def base_path(*_):
        raise AssertionError

    monkeypatch.setattr("mlx_lm.models.llama.scaled_dot_product_attention", base_path)
    assert losses(reader, "first", FULL).size == LENGTH - FIRST


@pytest.mark.parametrize("row", [WINDOW, LONGER, OURS, ZEROED, UNTRAINED])
def test_every_row_counts_the_same_tokens(reader, row):
    assert losses(reader, "first", row).size == LENGTH - FIRST


def test_a_memory_changes_the_losses_and_forgetting_does_too(reader):
    rows = [losses(reader, "first", row) for row in (FULL, WINDOW, LONGER, OURS, UNTRAINED)]
    differences = [np.abs(a - b).max() for at, a in enumerate(rows) for b in rows[:at]]
    assert min(differences) > 1e-3


def test_an_empty_memory_leaves_sinks_and_window_to_the_last_bit(reader):
    assert shut_when_empty(reader.model)
    assert np.array_equal(losses(reader, "first", ZEROED), losses(reader, "first", WINDOW))


def test_a_head_that_distrusts_the_mass_is_not_shut_by_an_empty_memory(reader):
    reader.model.layers[0].self_attn.memory_gate.mass[1] = -0.5
    assert not shut_when_empty(reader.model)
    assert not np.allclose(losses(reader, "first", ZEROED), losses(reader, "first", WINDOW))


def test_the_shuffled_memory_is_that_of_the_next_document(reader):
    lent = losses(reader, "second", OURS, of=("first", SHUFFLED))
    assert not np.allclose(lent, losses(reader, "first", OURS))
    assert not np.allclose(lent, losses(reader, "first", WINDOW))


def test_a_document_with_its_own_memory_lent_to_it_reads_as_ever(reader):
    reader.documents["second"] = reader.documents["first"]
    own = losses(reader, "second", OURS)
    assert np.array_equal(losses(reader, "second", OURS, of=("first", SHUFFLED)), own)


def test_lending_does_not_disturb_the_lender(reader):
    alone = reader.read(reader.documents["first"], reader.model.make_cache())
    assert np.array_equal(losses(reader, "first", OURS), np.concatenate([piece.losses for piece in alone]))


def test_other_gates_are_in_place_for_a_while_only(reader):
    trained = {path: np.array(value) for path, value in gate_parameters(reader.model).items()}
    zeros = {path: mx.zeros(value.shape) for path, value in gate_parameters(reader.model).items()}
    with gates(reader.model, zeros):
        assert not any(value.any().item() for value in gate_parameters(reader.model).values())
    after = gate_parameters(reader.model)
    assert all(np.array_equal(after[path], value) for path, value in trained.items())


def test_a_memory_is_worth_the_tokens_that_take_its_bytes(reader):
    # 4 features per kv head: 4 * (2 * 8 + 1) = 68 numbers, and a token's key and value are 16.
    assert tokens_worth(readings.memory_gates(reader.model)[0]) == 5
    longer = reader.caches(LONGER, LENGTH)[0]
    assert longer.layout.window == LAYOUT.window + 5


def test_a_tally_sums_each_stretch():
    pieces = [readings.Piece(np.array([1.0, 2.0, 3.0]), 0.5), readings.Piece(np.array([4.0]), 0.25)]
    assert tally(pieces, [1, 3]) == {"nats": [1.0, 9.0], "tokens": [1, 3], "seconds": 0.8}


# -- the share that is closed ---------------------------------------------------


def results_with(nll: dict[str, list[float]], path: Path = Path("results.json")) -> Results:
    """Results of documents of 10 and 30 tokens in two stretches, with these NLLs by row."""
    names = [f"Book_{number}.md" for number in range(len(nll[FULL]))]
    setup = {
        "documents": dict.fromkeys(names, ""), "edges": [16, 26, 56], "command": "evaluate",
        "machine": "a machine", "packages": {"mlx": "0"},
    }  # fmt: skip
    entries = {
        name: {
            row: {"nats": [10 * nll[row][at], 30 * nll[row][at]], "tokens": [10, 30], "seconds": 1.0}
            for row in ROWS
        }
        for at, name in enumerate(names)
    }
    return Results(path, setup, entries)


@pytest.fixture
def known() -> Results:
    nll = dict.fromkeys(ROWS, [3.0, 4.0])
    return results_with({**nll, FULL: [2.0, 3.5], OURS: [2.25, 4.0], WINDOW: [3.0, 4.0]})


def test_the_share_closed_is_the_ratio_of_the_mean_gaps(known):
    gains, gaps = gap.closed(known, OURS, slice(None))
    np.testing.assert_allclose(gains / gaps, [0.75, 0.0])
    assert gains.sum() / gaps.sum() == pytest.approx(0.5)


def test_the_interval_spans_the_documents_and_repeats(known):
    pair = gap.closed(known, OURS, slice(None))
    low, high = gap.interval(*pair)
    assert (low, high) == gap.interval(*pair)
    assert low == pytest.approx(0.0) and high == pytest.approx(0.75)


def test_the_table_shows_every_row_between_forgetting_and_full_attention(known):
    lines = gap.table(known).splitlines()
    assert lines[0] == "| gap closed | NLL at 16-55 | 16-25 | 26-55 | 16-55 |"
    assert lines[2] == "| full attention | 2.7500 | 1.00 | 1.00 | 1.00 |"
    assert lines[3].endswith("| 0.50 (0.00 to 0.75) |")
    assert lines[-1] == "| sinks + window | 3.5000 | 0.00 | 0.00 | 0.00 |"


def test_each_document_stands_beside_its_gap(known):
    lines = gap.documents_table(known).splitlines()
    assert lines[2].startswith("| Book 0 | 1.000 | 0.75 |")
    assert lines[3].startswith("| Book 1 | 0.500 | 0.00 |")


def test_a_table_of_unfinished_results_is_refused(known):
    evaluate.summary(known)
    del known.entries["Book_1.md"][SHUFFLED]
    with pytest.raises(ResultsError, match="not finished"):
        evaluate.summary(known)


# -- the command ----------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path) -> Path:
    model = with_memory(llama_model())
    config = AdapterConfig("tiny", fingerprint(model), "centroids", 4, *LAYOUT.__dict__.values())
    save_adapter(model, config, tmp_path / "gates")
    return tmp_path / "gates"


@pytest.fixture
def run(tmp_path, adapter, monkeypatch):
    """Run the command on three short documents with a tiny model; later options win."""
    monkeypatch.setattr(evaluate, "load_base", lambda _: (llama_model(), byte_tokenizer()))
    monkeypatch.setattr(evaluate, "shipped_gates", lambda _: None)
    folder = tmp_path / "books"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.md", "b.txt", "c.md", "README.md"):
        paragraphs = (" ".join(map(str, numbers)) for numbers in rng.integers(0, 99, (20, 20)))
        (folder / name).write_text("\n\n".join(paragraphs))

    def command(*options: str) -> int:
        return evaluate.main([
            "--data", str(folder), "--adapter-path", str(adapter), "--documents", "2",
            "--length", str(LENGTH), "--output", str(tmp_path / "out" / "e.json"), *options,
        ])  # fmt: skip

    return command


def entries(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "e.json").read_text())["entries"]


def test_a_run_measures_every_row_of_every_document_and_prints_the_table(run, tmp_path, capsys):
    assert run() == 0
    assert {name: set(rows) for name, rows in entries(tmp_path).items()} == {
        "a.md": set(ROWS), "b.txt": set(ROWS),
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "14 of 14: b.txt, untrained gate" in printed
    assert "| ours | " in printed and "`python -m mlx_edgeinf.evaluate --data books" in printed
    assert str(tmp_path) not in (tmp_path / "out" / "e.json").read_text()


def test_a_second_run_reads_nothing_again(run, monkeypatch):
    assert run() == 0
    monkeypatch.setattr(Reader, "measure", None)
    assert run() == 0


def test_a_stopped_run_goes_on_where_it_was(run, tmp_path, monkeypatch):
    measure, calls = Reader.measure, []

    def stopping(self, name, row):
        calls.append((name, row))
        if calls == [("a.md", FULL), ("a.md", WINDOW), ("a.md", LONGER)]:
            raise KeyboardInterrupt
        return measure(self, name, row)

    monkeypatch.setattr(Reader, "measure", stopping)
    assert run() == 130
    assert entries(tmp_path).keys() == {"a.md"} and set(entries(tmp_path)["a.md"]) == {FULL, WINDOW}
    assert run() == 0
    assert calls.count(("a.md", FULL)) == 1 and set(entries(tmp_path)["b.txt"]) == set(ROWS)


def test_results_of_another_setup_are_not_mixed(run, capsys):
    assert run() == 0
    capsys.readouterr()
    assert run("--length", "80") == 1
    message = capsys.readouterr().err
    assert "another setup" in message and "edges" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--documents", "4"), "holds 3 documents"),
        (("--documents", "1"), "at least 2"),
        (("--length", "99999"), "too short"),
        (("--length", "32"), "more than 32"),
        (("--data", "nowhere"), "nowhere"),
        (("--adapter-path", "nowhere"), "No adapter found"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(run, capsys, options, words):
    assert run(*options) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_a_model_without_gates_is_not_evaluated(run, capsys, monkeypatch):
    parse = evaluate.parse
    monkeypatch.setattr(evaluate, "parse", lambda argv: parse([*argv[:2], *argv[4:]]))
    assert run() == 1
    assert "--adapter-path" in capsys.readouterr().err


def test_passages_begin_at_a_paragraph_a_fifth_into_the_text(tmp_path):
    paragraphs = [f"Paragraph {number:02}." for number in range(10)]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n\n".join(paragraphs))
    chosen = evaluate.passages(tmp_path, byte_tokenizer(), 2, 30)
    assert byte_tokenizer().decode(chosen["a.txt"]).startswith("Paragraph 03.")
