from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from tiny import byte_tokenizer

from mlx_edgeinf.measure.tasks import (
    DEPTHS,
    NEEDLE_TOKENS,
    TRAVELLERS,
    Exam,
    is_gathering,
    is_retrieval,
    load_task,
)
from mlx_edgeinf.training.corpus import CorpusError

NEEDLE = re.compile(r"The access code of the archive in (\w+) is (\d{5})\. ")
LENGTH = 3000


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of handmade files in the forms of those that are evaluated on."""
    for name in ("classics", "longeval", "squality", "qmsum"):
        (tmp_path / name).mkdir()
    for name in ("b.md", "a.txt", "README.md"):
        sentences = (f"Sentence {number} of {name} says little." for number in range(400))
        (tmp_path / "classics" / name).write_text(" ".join(sentences))
    write_lines(tmp_path / "longeval" / "20_lines.jsonl", [line_record(20, asked) for asked in (3, 19)])
    write_lines(tmp_path / "longeval" / "2_topics.jsonl", [TOPICS])
    write_lines(tmp_path / "squality" / "dev.jsonl", [STORY, STORY])
    (tmp_path / "qmsum" / "one.json").write_text(json.dumps(MEETING))
    return tmp_path


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def line_record(lines: int, asked: int) -> dict:
    """As LongEval's: the line `asked` is asked for."""
    names = [f"big-cat{number}" for number in range(lines)]
    record = [f"line {name}: REGISTER_CONTENT is <{100 + at}>\n" for at, name in enumerate(names)]
    question = f"Tell me what is the <REGISTER_CONTENT> in line {names[asked]}? I need the number. "
    return {
        "random_idx": [names[asked], asked], "expected_number": 100 + asked, "num_lines": lines,
        "correct_line": record[asked],
        "prompt": f"Remember:\n\n{''.join(record)}\nNow the record is over. {question}",
    }  # fmt: skip


TOPICS = {
    "test_id": 0, "topics": ["The role of art", "Sports"],
    "prompt": "USER: Let us discuss the role of art. \n ASSISTANT: Sure. Now the record ends. What is first?",
}  # fmt: skip
STORY = {
    "metadata": {"passage_id": "1"},
    "document": "A ship leaves.\n\nIt returns.",
    "questions": [
        {
            "question_text": f"What about {thing}?", "question_number": number,
            "responses": [{"response_text": f"{person} on {thing}"} for person in ("Ann", "Bo")],
        }
        for number, thing in enumerate(["the ship", "the crew"], start=1)
    ],
}  # fmt: skip
MEETING = {
    "meeting_transcripts": [{"speaker": "Chair", "content": "Hello {vocalsound} all ."}],
    "general_query_list": [{"query": "Summarize.", "answer": "They greeted."}],
    "specific_query_list": [{"query": "Who spoke?", "answer": "The chair.", "relevant_text_span": []}],
}


def load(task: str, data: Path, documents: int = 1) -> dict[str, Exam]:
    return load_task(task, data, documents, byte_tokenizer())


def test_needles_stand_behind_a_sentence_at_each_depth_and_are_asked_for(data):
    exams = load(f"needles-{LENGTH}", data, 2)
    assert exams.keys() == {"a.txt", "b.md"}
    for exam in exams.values():
        (text,), found = exam.pages, list(NEEDLE.finditer(exam.pages[0]))
        assert [match.start() / len(text) for match in found] == pytest.approx(DEPTHS, abs=0.05)
        assert all(text[: match.start()].endswith("little. ") for match in found)
        assert [(match[1], (match[2],)) for match in found] == [
            (question.text.partition("archive in ")[2].partition("?")[0], question.answers)
            for question in exam.questions
        ]
        depths = [question.depth for question in exam.questions]
        assert [at / (LENGTH - NEEDLE_TOKENS) for at in clean_places(text, found)] == pytest.approx(depths)


def clean_places(text: str, found: list[re.Match]) -> list[int]:
    """Where needles would stand in the text without them."""
    return [len(NEEDLE.sub("", text[: match.start()])) for match in found]


def test_needles_take_nothing_from_the_text_and_are_others_in_every_document_and_length(data):
    exams = load(f"needles-{LENGTH}", data, 2)
    bare = NEEDLE.sub("", exams["a.txt"].pages[0])
    assert bare in (data / "classics" / "a.txt").read_text() and len(bare) == LENGTH - NEEDLE_TOKENS
    codes = [question.answers for exam in exams.values() for question in exam.questions]
    codes += [question.answers for question in load("needles-2900", data)["a.txt"].questions]
    assert len(set(codes)) == len(codes) == 3 * len(DEPTHS)
    assert load(f"needles-{LENGTH}", data, 2) == exams


def test_needles_are_hidden_in_a_text_without_sentences_too(data):
    (data / "classics" / "a.txt").write_text("word " * 3000)
    (exam,) = load(f"needles-{LENGTH}", data).values()
    assert len(NEEDLE.findall(exam.pages[0])) == len(DEPTHS)


def test_what_one_traveller_did_is_hidden_in_every_fifth_and_asked_for_together(data):
    exams = load("gather-3000", data, 2)
    for exam in exams.values():
        (text,) = exam.pages
        found = list(re.finditer(r"(?<=little\. )([A-Z]\w+ [A-Z]\w+) went to (\w+)\. ", text))
        visits = [match.groups() for match in found]
        assert all(after.start() > before.end() for before, after in pairwise(found))
        assert len(visits) == len({place for _, place in visits}) == len(DEPTHS) * len(TRAVELLERS)
        assert len(exam.questions) == len(TRAVELLERS)
        for who, question in zip(TRAVELLERS, exam.questions):
            assert f"did {who} go" in question.text and question.depth is None
            assert question.answers == (", ".join(place for name, place in visits if name == who),)
            names = question.answers[0].split(", ")
            assert [5 * text.index(f"{who} went to {name}") // len(text) for name in names] == [0, 1, 2, 3, 4]
    assert load("gather-3000", data, 2) == exams


def test_of_longeval_the_given_line_is_asked_for_and_one_in_each_fifth(data):
    exams = load("lines-20", data, 2)
    first, second = exams["20_lines.jsonl:1"], exams["20_lines.jsonl:2"]
    assert [question.depth for question in first.questions] == [0.1, 0.15, 0.3, 0.5, 0.7, 0.9]
    assert [question.answers for question in second.questions][-2:] == [("118",), ("119",)]
    assert second.questions[-1].text == (
        "Now the record is over. Tell me what is the <REGISTER_CONTENT> in line big-cat19? I need the number."
    )
    assert "line big-cat2?" in first.questions[0].text and first.questions[0].answers == ("102",)
    assert first.pages[0].startswith("Remember:") and first.pages[0].endswith("is <119>")


def test_of_a_talk_the_first_topic_is_asked_for(data):
    (exam,) = load("topics-2", data).values()
    (question,) = exam.questions
    assert question.text == "Now the record ends. What is first?" and question.answers == ("The role of art",)
    assert exam.pages[0].endswith("ASSISTANT: Sure.")


def test_all_peoples_answers_to_a_question_of_squality_belong_together(data):
    exam = load("squality", data, 2)["dev.jsonl:2"]
    assert [(question.text, question.answers) for question in exam.questions] == [
        ("What about the ship?", ("Ann on the ship", "Bo on the ship")),
        ("What about the crew?", ("Ann on the crew", "Bo on the crew")),
    ]
    assert "It returns." in exam.pages[0] and exam.questions[0].depth is None


def test_meetings_are_asked_about_as_a_whole_and_in_particular(data):
    exam = load("qmsum", data)["one.json"]
    assert exam.pages == ("Chair: Hello all .",)
    assert [question.answers for question in exam.questions] == [("They greeted.",), ("The chair.",)]


@pytest.mark.parametrize(
    "task, words",
    [
        ("haystacks-4096", "no task haystacks-4096"),
        ("needles", "no task needles:"),
        ("needles-long", "no task needles-long"),
        ("squality-3", "no task squality-3"),
        ("needles-256", "needles-256 is too short"),
        ("gather-512", "gather-512 is too short"),
        ("needles-99999", "a.txt is too short"),
        ("qmsum", "holds 1 documents and --documents asks for 2"),
    ],
)
def test_a_task_that_cannot_be_set_is_named(data, task, words):
    with pytest.raises(CorpusError, match=words):
        load(task, data, 2)


@pytest.mark.parametrize(
    "change",
    [{"prompt": "line a: REGISTER_CONTENT is <1>"}, {"random_idx": ["elsewhere", 1]}, {"prompt": None}],
)
def test_a_record_of_another_form_is_told_by_its_line(data, change):
    path = data / "longeval" / "20_lines.jsonl"
    write_lines(path, [line_record(20, 3), line_record(20, 4) | change])
    with pytest.raises(CorpusError, match="Line 2 of .*20_lines.jsonl is not a record of LongEval's"):
        load("lines-20", data)


def test_a_length_that_is_not_there_is_an_error_of_its_file(data):
    with pytest.raises(FileNotFoundError, match="30_lines.jsonl"):
        load("lines-30", data)


@pytest.mark.parametrize(
    "task, retrieval, gathering",
    [
        ("needles-4096", True, False), ("lines-20", True, False), ("topics-2", True, False),
        ("qmsum", False, False), ("gather-4096", False, True),
    ],
)  # fmt: skip
def test_retrieval_has_one_right_answer_and_gathering_one_of_many_parts(task, retrieval, gathering):
    assert (is_retrieval(task), is_gathering(task)) == (retrieval, gathering)
