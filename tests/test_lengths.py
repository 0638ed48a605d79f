from __future__ import annotations

import numpy as np
import pytest
from tiny import byte_tokenizer, llama_model, with_memory

from mlx_edgeinf.adapter import AdapterConfig, gate_parameters
from mlx_edgeinf.measure import lengths
from mlx_edgeinf.measure.gap import FULL, OURS
from mlx_edgeinf.measure.readings import Reader
from mlx_edgeinf.measure.results import Results, ResultsError
from mlx_edgeinf.measure.subject import Subject

COUNTED, LENGTHS = 12, [40, 80, 160]
SETUP = {"command": "python -m it", "machine": "a machine", "packages": {"mlx": "0"}}


def tokens(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, LENGTHS[-1]).tolist()


@pytest.fixture
def subject() -> Subject:
    model = with_memory(llama_model())
    return Subject(model, byte_tokenizer(), AdapterConfig("tiny", ""), gate_parameters(model), "trained")


@pytest.fixture
def documents() -> dict[str, list[int]]:
    return {"a": tokens(1), "b": tokens(2)}


@pytest.fixture
def results(tmp_path, subject, documents, monkeypatch) -> Results:
    monkeypatch.setattr(lengths, "COUNTED", COUNTED)
    setup = SETUP | {"documents": dict.fromkeys(documents, ""), "lengths": LENGTHS, "recent": LENGTHS[0]}
    results = Results(tmp_path / "l.json", setup)
    lengths.measure_lengths(subject, documents, results)
    return results


def test_the_losses_are_those_of_the_last_tokens_before_each_length(results, subject, documents):
    reader = Reader(subject.model, {}, documents, first=1)
    losses = np.concatenate([piece.losses for piece in reader.read(tokens(1), subject.model.make_cache())])
    # The first token of a text is told by nothing: loss i is that of token i + 1.
    expected = [losses[length - 1 - COUNTED : length - 1].mean() for length in LENGTHS]
    assert np.allclose(results.entries["a"][OURS]["everything"], expected)


def test_recent_tokens_are_read_as_a_text_of_their_own(results, subject, documents):
    start = LENGTHS[1] - LENGTHS[0]
    reader = Reader(subject.model, {}, documents, first=LENGTHS[0] - COUNTED)
    for row in (OURS, FULL):
        with reader.caches(row, LENGTHS[0]) as cache:
            read = list(reader.read(tokens(2)[start : LENGTHS[1]], cache))
        losses = np.concatenate([piece.losses for piece in read])
        assert results.entries["b"][row]["recent"][1] == pytest.approx(losses.mean(), rel=1e-5)


def test_at_the_shortest_length_everything_is_recent(results):
    for rows in results.entries.values():
        for entry in rows.values():
            assert entry["everything"][0] == entry["recent"][0]
            assert entry["everything"][1] != pytest.approx(entry["recent"][1], rel=1e-5)


def test_full_attention_reads_twice_the_recent_tokens_at_most(results):
    assert len(results.entries["a"][FULL]["everything"]) == 2
    assert len(results.entries["a"][OURS]["everything"]) == 3


def test_a_line_for_each_way_of_reading_and_two_for_what_the_far_past_changes(results):
    table = lengths.table(results)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[4:]]
    by_label = {line[0]: line[1:] for line in lines}
    assert table.startswith("2 documents") and "before | 40 | 80 | 160 |" in table
    assert by_label["full attention, everything"][-1] == "-" and len(by_label) == 6
    ours = [results.entries[name][OURS] for name in ("a", "b")]
    change = np.mean([entry["everything"][2] - entry["recent"][2] for entry in ours])
    assert by_label["ours, everything, minus ours, last 40 tokens"][2].startswith(f"{change:.3f} (")


def test_a_table_of_unfinished_results_is_refused(results):
    assert lengths.summary(results).endswith("`python -m it` on a machine; mlx 0.")
    del results.entries["b"][OURS]
    with pytest.raises(ResultsError, match="not finished"):
        lengths.summary(results)
