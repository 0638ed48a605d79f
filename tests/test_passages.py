from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import byte_tokenizer

from mlx_edgeinf.measure.passages import chosen, passages
from mlx_edgeinf.training.corpus import CorpusError


def test_passages_begin_at_a_paragraph_a_fifth_into_the_text(tmp_path):
    paragraphs = [f"Paragraph {number:02}." for number in range(10)]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n\n".join(paragraphs))
    read = passages(tmp_path, byte_tokenizer(), 2, 30)
    assert {name: len(tokens) for name, tokens in read.items()} == {"a.txt": 30, "b.txt": 30}
    assert byte_tokenizer().decode(read["a.txt"]).startswith("Paragraph 03.")


def test_of_a_document_with_questions_the_document_alone_is_read(tmp_path):
    story = "\n\n".join(f"Chapter {number} of the story." for number in range(20))
    people = [{"response_text": "Nobody."}]
    questions = [{"question_text": "Who?", "responses": people}]
    (tmp_path / "dev.jsonl").write_text(json.dumps({"document": story, "questions": questions}))
    read = passages(tmp_path, byte_tokenizer(), 1, 60)
    taken = byte_tokenizer().decode(read["dev.jsonl:1"])
    assert taken.startswith("Chapter 5") and taken in story.replace("\n\n", "\n")


def test_a_document_that_is_too_short_is_named(tmp_path):
    (tmp_path / "short.txt").write_text("A few words.")
    with pytest.raises(CorpusError, match="short.txt is too short to read 30 tokens"):
        passages(tmp_path, byte_tokenizer(), 1, 30)


def test_names_are_chosen_evenly_from_their_order():
    assert chosen(list("dbcaef"), 3, Path("books")) == ["a", "c", "e"]


@pytest.mark.parametrize("number", [0, 7])
def test_more_documents_than_there_are_or_none_are_refused(number):
    with pytest.raises(CorpusError, match=f"books holds 6 documents and --documents asks for {number}"):
        chosen("abcdef", number, Path("books"))
