"""The measurement of page links, on small documents."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mlx_edgeinf import evaluate, report
from mlx_edgeinf.measure import claims, evidence
from mlx_edgeinf.measure.results import Results, ResultsError

SETUP = {"command": "python -m it", "machine": "a machine", "packages": {"mlx": "0"}}
WORDS = "harbour ice ship council winter price copper mill archive weaver bridge lantern salt orchard".split()


def meeting(seed: int) -> dict:
    """Twelve long turns, each of words of its own, and a query about the fifth."""
    rng = random.Random(seed)
    said = [" ".join(f"{rng.choice(WORDS)}{turn}{seed}" for _ in range(200)) for turn in "abcdefghijkl"]
    answer = " ".join(said[4].split()[:12]) + "."
    return {
        "meeting_transcripts": [{"speaker": "Ann", "content": each} for each in said],
        "general_query_list": [],
        "specific_query_list": [{"query": "What?", "answer": answer, "relevant_text_span": [["4", "4"]]}],
    }


def story(seed: int) -> str:
    text = f"A story {seed} of the sea. " + " ".join(random.Random(seed).choices(WORDS, k=300)) + "."
    response = {"response_text": f"A story {seed} of the sea."}
    return json.dumps({"document": text, "questions": [{"question_text": "What?", "responses": [response]}]})


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of train and dev, with two documents of each kind."""
    for part, books in (("train", "novels"), ("dev", "classics")):
        for folder in ("qmsum", "squality", books):
            (tmp_path / part / folder).mkdir(parents=True)
        for seed in range(2):
            (tmp_path / part / "qmsum" / f"{seed}.json").write_text(json.dumps(meeting(seed)))
            book = "\n\n".join(" ".join(random.Random(at).choices(WORDS, k=300)) + "." for at in range(30))
            (tmp_path / part / books / f"{seed}.md").write_text(book)
        (tmp_path / part / "squality" / "all.jsonl").write_text("\n".join(map(story, range(2))))
    return tmp_path


def test_the_evidence_of_a_meeting_is_the_pages_of_its_turns(data):
    kinds = dict(claims.cases(data / "train", 2))
    assert list(kinds) == ["meetings", "meetings as one", "invented facts", "stories"]
    case = kinds["meetings"]["0.json"]
    [(sentence, pages)] = case.own
    assert len(pages) == 1 and sentence.removesuffix(".") in case.pages[min(pages)]
    assert case.foreign == [said for said, _ in kinds["meetings"]["1.json"].own]
    [whole] = kinds["meetings as one"].values()
    assert all(said.removesuffix(".") in whole.pages[min(pages)] for said, pages in whole.own)
    assert len(whole.own) == 2


def test_invented_facts_stand_on_the_page_that_is_their_evidence(data):
    case = dict(claims.cases(data / "dev", 2))["invented facts"]["0.md"]
    for (sentence, pages), wrong in zip(case.own, case.foreign):
        place, number = sentence.removeprefix("In ").split(",")[0], sentence.split()[-4]
        [page] = pages
        assert claims.FACT.format(place, number) in case.pages[page]
        assert wrong.startswith(f"In {place},") and number not in wrong


def test_a_later_version_of_a_report_is_left_out(data):
    folder = data / "dev" / "leval"
    folder.mkdir()
    inputs = ["First " * 30, "Second " * 30, "First " * 30 + "again"]
    lines = [json.dumps({"input": each, "outputs": ["It is so."]}) for each in inputs]
    (folder / "gov_report_summ.jsonl").write_text("\n".join(lines))
    assert len(dict(claims.cases(data / "dev", 2))["reports"]) == 2


def test_a_folder_without_meetings_is_refused(tmp_path, capsys):
    assert evaluate.main(["support", "--data", str(tmp_path), "--output", str(tmp_path / "s.json")]) == 1
    assert "holds no meetings" in capsys.readouterr().err


def entry(own: int, linked: int, right: int, false: int) -> dict:
    """A document in which so many sentences have a page at every threshold up to 0.45, and none beyond."""

    def at_each(number: int) -> list[int]:
        return [number * (threshold <= 0.45) for threshold in evidence.THRESHOLDS]

    return {
        "own": own, "foreign": 100, "linked": at_each(linked), "foreign_linked": at_each(false),
        "right": at_each(right), "links": at_each(2 * linked), "right_links": at_each(right), "chance": 0.1,
    }  # fmt: skip


def results(path: Path, false: int) -> Results:
    found = Results(path, SETUP)
    choosing = entry(10, 5, 4, 0) | {"foreign_linked": [6] * 5 + [false] * 6}
    found.add({("train/meetings", "a"): choosing, ("dev/meetings", "b"): entry(10, 5, 4, 1)})
    return found


def test_the_table_reports_on_the_documents_that_were_not_chosen_on(tmp_path):
    table = evidence.summary(results(tmp_path / "s.json", 5))
    assert "| meetings | 1 | 10 | 0.50 | 0.80 | 0.40 | 0.100 | 100 | 0.01 |" in table
    assert "`python -m it` on a machine" in table


def test_a_threshold_that_is_not_the_one_chosen_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="No threshold"):
        evidence.summary(results(tmp_path / "s.json", 6))
    other = results(tmp_path / "t.json", 5)
    other.entries["train/meetings"]["a"]["foreign_linked"] = [0] * 11
    with pytest.raises(ResultsError, match="choose 0.2 as threshold"):
        evidence.summary(other)


def test_the_table_is_written_into_the_page(tmp_path, monkeypatch):
    results(tmp_path / "support.json", 5)
    (tmp_path / "README.md").write_text("<!-- support -->\n<!-- /support -->")
    # Where no other results are.
    monkeypatch.chdir(tmp_path)
    assert report.main(["README.md", "--results=."]) == 0
    assert "| meetings | 1 | 10 |" in (tmp_path / "README.md").read_text()


def test_every_sentence_is_looked_up_and_a_second_run_finds_it_measured(data, tmp_path):
    found = Results(tmp_path / "s.json", SETUP)
    evidence.measure_support(data, 2, found)
    measured = found.entries["dev/meetings"]["0.json"]
    assert measured["own"] == measured["linked"][0] == measured["right"][0] == 1
    assert measured["foreign_linked"][0] == 0 and measured["chance"] < 0.5
    facts = found.entries["train/invented facts"]["1.md"]
    assert facts["right"][0] == 5 and facts["foreign"] == 10
    before = found.path.read_text()
    evidence.measure_support(data, 2, found)
    assert found.path.read_text() == before
