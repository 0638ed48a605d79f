from __future__ import annotations

import json

import pytest
from held_out import save_trained
from test_report import run as report
from tiny import byte_tokenizer, llama_model, with_memory

from mlx_edgeinf import evaluate
from mlx_edgeinf.adapter import AdapterConfig, gate_parameters
from mlx_edgeinf.measure import retention
from mlx_edgeinf.measure.answers import Examiner
from mlx_edgeinf.measure.gap import OURS, RECALL, RECALL_ALONE, WINDOW
from mlx_edgeinf.measure.results import Results
from mlx_edgeinf.measure.retention import READINGS, Retelling, measure_retention, summary
from mlx_edgeinf.measure.subject import Subject
from mlx_edgeinf.measure.tasks import Exam, Question

ASKED = (Question("What is the plot?", ("It is told.",)), Question("Who was it?", ("Ann", "Ann, the cat")))
TEXTS = ("Ann went to sea with nine men.", "Ben stayed at home.", "Cid saw it.", "Dan did not.")
STORIES = {text[:3]: Exam((text,), ASKED) for text in TEXTS}
READ = 2


@pytest.fixture
def subject() -> Subject:
    model = with_memory(llama_model())
    return Subject(model, byte_tokenizer(), AdapterConfig("tiny", ""), gate_parameters(model), "trained")


@pytest.fixture
def retelling(subject) -> Retelling:
    return Retelling(subject, STORIES, READ)


@pytest.fixture
def results(tmp_path, retelling) -> Results:
    setup = {
        "command": "python -m it", "machine": "a machine", "packages": {"mlx": "0"},
        "documents": dict.fromkeys(STORIES, ""), "read": READ, "tokens": len(retelling.tokens),
    }  # fmt: skip
    return Results(tmp_path / "r.json", setup)


def test_stories_are_asked_about_whether_they_were_read_or_not(retelling, results):
    measure_retention(retelling, results)
    ago = {name: {entry["ago"] for entry in rows.values()} for name, rows in results.entries.items()}
    behind = len(retelling._tokens(STORIES["Ben"]))
    assert ago == {"Ann": {behind}, "Ben": {0}, "Cid": {None}, "Dan": {None}}
    assert all(rows.keys() == {RECALL, OURS, RECALL_ALONE, WINDOW} for rows in results.entries.values())
    # The question that does not say of which story is left out.
    assert all(len(entry["log_probability"]) == 1 for entry in results.entries["Ann"].values())


def test_an_answer_is_as_likely_as_after_one_document_of_all_that_was_read(subject, retelling):
    pages = tuple(page for name in list(STORIES)[:READ] for page in STORIES[name].pages)
    whole = Examiner(subject, {"all": Exam(pages, ASKED[1:])}, None)
    for way, rows in READINGS.items():
        found = list(retelling.measure(way, ["Cid"]))
        assert [row for _, row, _ in found] == list(rows)
        for _, row, entry in found:
            (expected,) = whole.measure("all", row)["all", row]["questions"]
            assert entry["log_probability"] == pytest.approx([expected["log_probability"]], abs=1e-4)


def test_what_was_measured_is_not_read_again(retelling, results, monkeypatch):
    monkeypatch.setattr(retention, "print", lambda *_, **__: None, raising=False)
    measure_retention(retelling, results)
    before, kept = dict(results.entries), results.entries.pop("Dan")
    results._write()
    asked, told = [], retelling._asked
    monkeypatch.setattr(retelling, "_asked", lambda *a: asked.append(a) or told(*a))
    measure_retention(retelling, results)
    assert len(asked) == 4 and results.entries == before | {"Dan": kept}
    monkeypatch.setattr(retention, "read_on", lambda *_: 1 / 0)
    measure_retention(retelling, results)


def test_the_table_tells_gains_by_time_and_what_was_never_read(results, monkeypatch):
    monkeypatch.setattr(retention, "NEAREST", 16)
    ago = {"Ann": 40, "Ben": 0, "Cid": None, "Dan": None}
    gains = {"Ann": 0.3, "Ben": 0.5, "Cid": 0.1, "Dan": 0.2}
    results.setup["tokens"] = 60
    for name, gain in gains.items():
        entry = {"ago": ago[name], "log_probability": [-1.0, -2.0]}
        more = entry | {"log_probability": [gain - 1.0, gain - 2.0]}
        measured = {WINDOW: entry, OURS: more, RECALL: entry, RECALL_ALONE: entry}
        results.add({(name, row): each for row, each in measured.items()})
    lines = [line.split(" | ") for line in summary(results).splitlines() if line.startswith("| ")]
    told = {line[0].strip("| "): (line[1], line[3].strip(" |").split(" ")[0]) for line in lines[1:]}
    assert told == {
        "at most 16 tokens ago": ("1", "0.500"), "at most 64 tokens ago": ("1", "0.300"),
        "never": ("2", "0.150"), "read minus not read": ("", "0.250"),
    }  # fmt: skip
    assert WINDOW in lines[0][2] and "60 tokens of 2 stories" in summary(results)


def test_the_command_measures_and_the_report_shows_it(tmp_path, tiny_subject, capsys):
    data, shown = tmp_path / "squality", tmp_path / "shown"
    data.mkdir()
    shown.mkdir()
    responses = [{"response_text": "Ann was the one."}] * 4
    questions = [{"question_text": text, "responses": responses} for text in ("What is it?", "Who is it?")]
    records = [{"document": text, "questions": questions} for text in TEXTS]
    (data / "dev.jsonl").write_text("\n".join(map(json.dumps, records)))
    options = ["--data", str(tmp_path), "--adapter-path", str(save_trained(tmp_path / "gates"))]
    options += ["--output", str(shown / "retention.json"), "--documents", "4"]
    assert evaluate.main(["retention", *options, "--read", "4"]) == 1
    assert "--read must be less" in capsys.readouterr().err
    assert evaluate.main(["retention", *options, "--read", "3"]) == 0
    assert "| never | 1 |" in capsys.readouterr().out
    (shown / "README.md").write_text("<!-- retention --><!-- /retention -->")
    assert report(shown) == 0 and "| never | 1 |" in (shown / "README.md").read_text()
