from __future__ import annotations

import json

import pytest

from mlx_edgeinf.training.corpus import CorpusError, read_corpus, split
from mlx_edgeinf.training.formats import Exercise, FormatError, parse

STORY = "The ship left.\n\nIt came back."
PAGES = ("The ship left.\nIt came back.",)


def parsed(**record) -> str | Exercise:
    return parse(json.dumps(record))


def chat(*messages: tuple[str, str], **fields) -> str | Exercise:
    return parsed(messages=[{"role": role, "content": text} for role, text in messages], **fields)


# -- mlx-lm's forms, and ours --------------------------------------------------------


def test_a_text_stays_a_text():
    assert parsed(text=STORY) == STORY


def test_a_prompt_and_its_completion_are_a_dialogue_about_nothing_read_before():
    assert parsed(prompt="Why?", completion=" Because. ") == Exercise((), (("Why?", " Because. "),))


def test_a_document_is_read_before_its_prompt():
    exercise = parsed(document=STORY, prompt="What left?", completion="The ship.")
    assert exercise == Exercise(PAGES, (("What left?", "The ship."),))


def test_a_chat_is_one_dialogue_with_all_its_turns():
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert chat(*turns) == Exercise((), (("a", "b", "c", "d"),))
    assert chat(*turns, document=STORY) == Exercise(PAGES, (("a", "b", "c", "d"),))


def test_a_system_message_stands_at_the_head_of_the_first_question():
    exercise = chat(("system", "Be brief."), ("user", "Why?"), ("assistant", "Because."))
    assert exercise.dialogues == (("Be brief.\n\nWhy?", "Because."),)


def test_of_several_forms_in_one_record_mlx_lm_s_first_choice_is_taken():
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert parsed(text="t", messages=messages, prompt="p", completion="c").dialogues == (("p", "c"),)
    assert parsed(text="t", messages=messages, prompt="p").dialogues == (("a", "b"),)
    assert parsed(text="t", prompt="p", questions=3) == "t"


def test_a_long_document_becomes_pages_of_clean_text():
    lines = [f"  Line {number}  of a   story.\r\n   \r\n" for number in range(400)]
    pages = parsed(document="".join(lines), prompt="p", completion="c").pages
    assert len(pages) > 2
    clean = [f"Line {number} of a story." for number in range(400)]
    assert [line for page in pages for line in page.split("\n")] == clean


def test_half_a_character_is_no_reason_to_stop():
    assert parse('{"text": "so \\ud83d what"}') == "so ? what"


# -- public sets ---------------------------------------------------------------------


def squality(**changes) -> dict:
    def question(text: str, *answers: str) -> dict:
        responses = [{"worker_id": "1", "uid": "2", "response_text": answer} for answer in answers]
        return {"question_text": text, "question_number": 1, "responses": responses}

    plot = question("What is the plot?", "\tA ship. \n", "A trip.")
    questions = [plot, question("Who left?", "The ship.\n\n")]
    return {"metadata": {"passage_id": "1"}, "document": STORY, "questions": questions} | changes


def qmsum(**changes) -> dict:
    turns = [
        ("Grad C", "Yeah , {disfmarker} we {vocalsound} had it ."),
        ("PhD D", "{vocalsound}"),
        ("PhD D", "It {gap} moved ."),
    ]
    return {
        "topic_list": [{"topic": "moving", "relevant_text_span": [["0", "2"]]}],
        "general_query_list": [{"query": "Summarize the whole meeting", "answer": "It moved."}],
        "specific_query_list": [
            {"query": "Who had it?", "answer": "Grad C. ", "relevant_text_span": [["0", "1"]]}
        ],
        "meeting_transcripts": [{"speaker": speaker, "content": words} for speaker, words in turns],
    } | changes


def test_squality_is_a_story_with_every_response_to_every_question():
    assert parsed(**squality()) == Exercise(
        PAGES,
        (("What is the plot?", "A ship."), ("What is the plot?", "A trip."), ("Who left?", "The ship.")),
    )


def test_qmsum_is_a_meeting_line_by_line_with_general_and_specific_queries():
    assert parsed(**qmsum()) == Exercise(
        ("Grad C: Yeah , we had it .\nPhD D: It moved .",),
        (("Summarize the whole meeting", "It moved."), ("Who had it?", "Grad C.")),
    )


# -- what is of no known form --------------------------------------------------------


@pytest.mark.parametrize("line", [
    "", "not json", "3", "null", '["text"]', '["messages"]', "{}", '{"Text": "a"}', '{"text": null}',
    '{"prompt": "a"}', '{"prompt": "a", "completion": 3}', '{"messages": 3}', '{"messages": ["a", "b"]}',
    '{"messages": {"role": "user"}}', '{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
    '{"document": 1, "prompt": "a", "completion": "b"}', '{"document": "a"}',
    json.dumps(squality(questions=[{"question_text": "a"}])), json.dumps(squality(document=None)),
    json.dumps(qmsum(general_query_list=None)), json.dumps(qmsum(meeting_transcripts=["a"])),
])  # fmt: skip
def test_what_is_of_no_known_form_is_told_what_is_expected(line):
    with pytest.raises(FormatError, match='"text" field, with "prompt" and "completion"'):
        parse(line)


@pytest.mark.parametrize("roles", [
    [], ["system"], ["user"], ["assistant"], ["assistant", "user"], ["user", "assistant", "user"],
    ["user", "user", "assistant"], ["user", "system", "assistant"], ["user", "tool", "assistant"],
], ids=" ".join)  # fmt: skip
def test_a_chat_whose_turns_are_not_in_order_is_told_which_is(roles):
    with pytest.raises(FormatError, match="user and assistant must take turns, the assistant last"):
        chat(*((role, "text") for role in roles))


# -- in a corpus ---------------------------------------------------------------------


def test_every_line_of_a_file_has_its_own_form(tmp_path):
    records = [{"text": "a"}, {"prompt": "p", "completion": "c"}, squality()]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "meeting.json").write_text(json.dumps(qmsum(), indent=2))
    documents = read_corpus([tmp_path])
    assert list(documents) == ["meeting.json", "train.jsonl:1", "train.jsonl:2", "train.jsonl:3"]
    assert documents["train.jsonl:1"] == "a"
    assert documents["train.jsonl:2"] == Exercise((), (("p", "c"),))
    assert documents["train.jsonl:3"] == parsed(**squality())
    assert documents["meeting.json"] == parsed(**qmsum())


@pytest.mark.parametrize("name, place", [("train.jsonl", "Line 2 of {}"), ("meeting.json", "{}")])
def test_a_record_of_no_known_form_is_named_with_its_place(tmp_path, name, place):
    path = tmp_path / name
    path.write_text('{"text": "good"}\n{"content": "bad"}\n')
    with pytest.raises(CorpusError, match=f'^{place.format(path)} is not a JSON object with a "text"'):
        read_corpus([tmp_path])


@pytest.mark.parametrize("name", ["train.jsonl", "book.json"])
def test_a_byte_order_mark_is_no_part_of_a_record(tmp_path, name):
    (tmp_path / name).write_text('{"text": "a"}\n', encoding="utf-8-sig")
    assert list(read_corpus([tmp_path]).values()) == ["a"]


def test_licences_and_readmes_are_no_documents(tmp_path):
    for name in ("LICENSE", "GUTENBERG_LICENSE", "LICENSE.txt", "license.md", "Readme.txt", "LICENCE.txt"):
        (tmp_path / name).write_text("text")
    (tmp_path / "book.txt").write_text("text")
    assert list(read_corpus([tmp_path])) == ["book.txt"]


def test_files_of_one_name_in_several_folders_are_all_read(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps({"text": name}))
    documents = read_corpus([tmp_path / "one", tmp_path / "two"])
    assert documents == {"one/train.jsonl:1": "one", "two/train.jsonl:1": "two"}


def test_documents_of_one_name_are_not_mistaken_for_each_other(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "books").mkdir(parents=True)
        (tmp_path / place / "books" / "train.jsonl").write_text('{"text": "a"}')
    with pytest.raises(CorpusError, match="Two documents are called books/train.jsonl:1"):
        read_corpus([tmp_path / "a" / "books", tmp_path / "b" / "books"])


@pytest.mark.parametrize("names, train, held_out", [
    (["a.txt", "test.jsonl:1", "valid.txt"], ["a.txt"], ["valid.txt"]),
    (["set/train.jsonl:1", "set/valid.json", "set/test.jsonl:1"], ["set/train.jsonl:1"], ["set/valid.json"]),
    (["train/a.txt", "valid/b.txt", "test/c.txt", "deep/test/d.md"], ["train/a.txt"], ["valid/b.txt"]),
    (["testament.txt", "contest.txt", "test.txt"], ["contest.txt", "testament.txt"], []),
])  # fmt: skip
def test_what_is_called_test_is_neither_trained_nor_validated_on(names, train, held_out):
    training, validation = split({name: "text" for name in names})
    assert sorted(training) == train
    assert sorted(validation) == held_out
