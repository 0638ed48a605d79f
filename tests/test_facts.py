from __future__ import annotations

import json
from itertools import chain, repeat

import numpy as np
import pytest
from held_out import save_trained
from tiny import byte_tokenizer, llama_model, with_memory

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig, gate_parameters
from mlx_edgeinf.document_memory import SaveFileError
from mlx_edgeinf.measure import facts, hiding, sides
from mlx_edgeinf.measure.gap import FULL, OURS, RECALL, RECALL_ALONE, WINDOW
from mlx_edgeinf.measure.results import Results, ResultsError
from mlx_edgeinf.measure.subject import Subject
from mlx_edgeinf.pagestore import Pages, PageStore
from mlx_edgeinf.pagestore.errors import DiskFull, StoreDamaged
from mlx_edgeinf.training.corpus import CorpusError

# A fact takes some 60 tokens of a byte tokenizer.
LADDER, FACTS, ASKING, CONTEXT = (400, 800), 2, 70, 512
SETUP = {
    "command": "python -m it", "machine": "a machine", "packages": {"mlx": "0"}, "lengths": list(LADDER),
    "context": CONTEXT,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(hiding, "FACTS", FACTS)
    for module in (hiding, facts):
        monkeypatch.setattr(module, "ASKING", ASKING)
    monkeypatch.setattr(evaluate, "LADDER", LADDER)
    monkeypatch.setattr(facts, "KEPT", 300)
    monkeypatch.setattr(sides, "DECODED", sides.UNTIMED + 1)


@pytest.fixture
def subject() -> Subject:
    model = with_memory(llama_model())
    return Subject(model, byte_tokenizer(), AdapterConfig("tiny", ""), gate_parameters(model), "trained")


def text(length: int = LADDER[-1]) -> hiding.Text:
    sentence = byte_tokenizer().encode("It rained. ")
    return hiding.hide(chain.from_iterable(repeat(sentence)), byte_tokenizer(), length, LADDER)


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path / "facts.json", dict(SETUP))


def read(tokens: list[int]) -> str:
    return byte_tokenizer().decode(tokens)


def test_facts_stand_behind_a_sentence_where_they_belong():
    hidden = text()
    assert len(hidden.tokens) == LADDER[-1] and {len(some) for some in hidden.facts.values()} == {FACTS}
    for length, some in hidden.facts.items():
        for fact in some:
            before, found, _ = read(hidden.tokens).partition(fact.sentence)
            assert found and before.endswith(". "), fact
            place = fact.depth * (length - ASKING)
            assert place <= len(before) < place + 100


def test_the_text_of_a_shorter_length_is_the_beginning_of_that_of_a_longer_one():
    assert text(LADDER[0]).tokens == text().tokens[: LADDER[0]]


def test_no_two_facts_are_about_the_same_and_no_two_numbers_alike():
    every = list(chain.from_iterable(text().facts.values()))
    assert len({fact.beginning for fact in every}) == len({fact.number for fact in every}) == len(every)
    assert all(fact.number in fact.sentence and fact.number not in fact.beginning for fact in every)


def test_a_text_that_is_too_short_is_refused():
    facts_alone = sum(len(fact.sentence) + 1 for some in text().facts.values() for fact in some)
    for missing in (400, 100):
        book = byte_tokenizer().encode("Short. " * 200)[: LADDER[1] - facts_alone - missing]
        with pytest.raises(CorpusError, match="800 are to be read"):
            hiding.hide(book, byte_tokenizer(), LADDER[1], LADDER)


def test_every_row_is_asked_at_every_length_that_it_can_read(subject, results):
    facts.measure_facts(subject, text(), results)
    assert set(results.entries["400"]) == {FULL, RECALL, OURS, RECALL_ALONE, WINDOW}
    assert set(results.entries["800"]) == {RECALL, OURS, RECALL_ALONE, WINDOW}
    for entry in chain.from_iterable(rows.values() for rows in results.entries.values()):
        assert len(entry["likelier"]) == len(entry["log_probabilities"]) == FACTS
        assert all(0 <= number < FACTS for number in entry["likelier"]) and entry["decode"] > 0
    disk = {row: entry["disk_bytes"] > 0 for row, entry in results.entries["800"].items()}
    assert disk == {RECALL: True, OURS: False, RECALL_ALONE: True, WINDOW: False}


def test_recall_changes_the_answers_of_one_reading(subject, results, monkeypatch):
    read_on, lengths = facts.read_on, []
    monkeypatch.setattr(facts, "read_on", lambda *a: read_on(*a) or lengths.append(a[2][0].tokens))
    facts.measure_facts(subject, text(), results)
    # With memory, and without; before each last question.
    assert lengths.count(LADDER[1] - ASKING) == 2
    at = results.entries["800"]
    assert at[RECALL]["log_probabilities"] != at[OURS]["log_probabilities"]
    assert at[RECALL_ALONE]["log_probabilities"] != at[WINDOW]["log_probabilities"]


def test_the_likelier_numbers_are_those_of_other_facts_at_the_same_length(subject, monkeypatch, results):
    def told(model, last, answer, asked):
        return float(read(answer) == right)

    right = f" {text().facts[400][0].number}"
    monkeypatch.setattr(facts, "log_probability", told)
    facts.measure_facts(subject, text(), results)
    assert results.entries["400"][OURS]["likelier"] == [0, 1]
    assert results.entries["800"][OURS]["likelier"] == [0, 0]


def test_a_reading_that_was_stopped_goes_on_where_it_was_kept(subject, results, tmp_path, monkeypatch):
    plain, read_on = Results(tmp_path / "plain.json", dict(SETUP)), facts.read_on
    facts.measure_facts(subject, text(), plain)

    def stopping(model, tokens, cache) -> None:
        read_on(model, tokens, cache)
        if cache[0].tokens > 660:
            raise KeyboardInterrupt

    monkeypatch.setattr(facts, "read_on", stopping)
    with pytest.raises(KeyboardInterrupt):
        facts.measure_facts(subject, text(), results, tmp_path / "kept")
    assert set(results.entries) == {"400"}
    before = []
    monkeypatch.setattr(facts, "read_on", lambda *a: before.append(a[2][0].tokens) or read_on(*a))
    facts.measure_facts(subject, text(), results, tmp_path / "kept")
    assert 600 <= before[0] < 660
    again, once = (each.entries["800"][RECALL]["log_probabilities"] for each in (results, plain))
    assert np.allclose(again, once, atol=1e-3)


def test_a_disk_that_fails_ends_the_measurement(subject, results, tmp_path, monkeypatch):
    append, full = PageStore.append, DiskFull("The disk is full.")

    def failing(self, *args) -> None:
        if self.pages(0) > 10:
            raise full
        append(self, *args)

    monkeypatch.setattr(PageStore, "append", failing)
    for kept in (None, tmp_path / "kept"):
        with pytest.raises(DiskFull):
            facts.measure_facts(subject, text(), results, kept)
    assert not any(RECALL in rows for rows in results.entries.values())


def test_a_damaged_page_ends_the_measurement(subject, results, monkeypatch):
    def damaged(self, *args) -> None:
        raise StoreDamaged("A page is damaged.")

    monkeypatch.setattr(Pages, "gather", damaged)
    with pytest.raises(StoreDamaged):
        facts.measure_facts(subject, text(), results)


def test_a_kept_reading_whose_pages_are_gone_is_not_measured_without_them(subject, results, tmp_path):
    kept = tmp_path / "kept"
    facts.measure_facts(subject, text(), results, kept)
    (kept / "pages" / "header").unlink()
    results.entries["800"].pop(RECALL)
    with pytest.raises(SaveFileError, match="without exact recall"):
        facts.measure_facts(subject, text(), results, kept)


def test_the_tables_say_what_was_picked_and_what_it_took(subject, results):
    facts.measure_facts(subject, text(), results)
    summary = facts.summary(results)
    assert "| picked among 10; log-probability | 400 tokens | 800 tokens |" in summary
    lines = {cells[1].strip(): cells for line in summary.splitlines() if len(cells := line.split("|")) > 3}
    assert lines[FULL][3].strip() == "-" and lines["800 tokens"][4].strip().endswith("kB")
    assert summary.endswith("`python -m it` on a machine; mlx 0.")
    del results.entries["800"][WINDOW]
    with pytest.raises(ResultsError, match="not finished"):
        facts.summary(results)


def test_the_command_goes_on_where_it_was(tmp_path, tiny_subject, capsys):
    books, gates = tmp_path / "books", save_trained(tmp_path / "gates")
    books.mkdir()
    (books / "rain.txt").write_text("It rained. " * 200)
    command = [
        "facts", "--data", str(books), "--adapter-path", str(gates), "--lengths", "400",
        "--output", str(tmp_path / "f.json"),
    ]  # fmt: skip
    assert evaluate.main(command) == 0
    entries = json.loads((tmp_path / "f.json").read_text())["entries"]
    assert "ours with recall, 400 tokens: picked" in capsys.readouterr().out
    assert evaluate.main(command) == 0
    assert json.loads((tmp_path / "f.json").read_text())["entries"] == entries
