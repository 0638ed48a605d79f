from __future__ import annotations

import json
from itertools import islice

import pytest
from tiny import byte_tokenizer

from mlx_edgeinf.training.corpus import CorpusError, excerpts, read_corpus, split


def line(text: str) -> str:
    return json.dumps({"text": text}) + "\n"


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


# -- reading -------------------------------------------------------------------------


def test_text_files_are_one_document_each_wherever_they_lie(tmp_path):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "deep" / "down" / "b.md").write_text("second")
    assert read_corpus([tmp_path]) == {"a.txt": "first", "deep/down/b.md": "second"}


def test_every_line_of_a_jsonl_file_is_a_document(tmp_path):
    (tmp_path / "train.jsonl").write_text(line("one\ntwo") + line("three"))
    assert read_corpus([tmp_path]) == {"train.jsonl:1": "one\ntwo", "train.jsonl:2": "three"}


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x1c"])
def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path, separator):
    text = json.dumps({"text": f"one{separator}two"}, ensure_ascii=False)
    (tmp_path / "train.jsonl").write_text(text + "\n", encoding="utf-8")
    assert json.loads(text)["text"] in read_corpus([tmp_path]).values()


def test_other_files_and_the_readme_are_left_out(tmp_path):
    for name in ("README.md", "README.txt", "picture.png", "book.txt"):
        (tmp_path / name).write_text("text")
    assert list(read_corpus([tmp_path])) == ["book.txt"]


def test_several_folders_make_one_corpus(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
    assert sorted(read_corpus([tmp_path / "one", tmp_path / "two"]).values()) == ["one", "two"]


def test_bytes_that_are_no_text_do_not_stop_the_reading(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 is open")
    assert read_corpus([tmp_path]) == {"a.txt": "caf\ufffd is open"}


@pytest.mark.parametrize("bad", ["not json\n", '{"prompt": "a"}\n', '["text"]\n', "3\n", "\n"])
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path, bad):
    path = tmp_path / "train.jsonl"
    path.write_text(line("good") + bad + line("good"))
    with pytest.raises(CorpusError, match=f'Line 2 of {path} is not a JSON object with a "text" field'):
        read_corpus([tmp_path])


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_documents_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=f"No .txt, .md or .jsonl documents found in {tmp_path / name}"):
        read_corpus([tmp_path / name])


# -- training and validation ---------------------------------------------------------


@pytest.mark.parametrize("names, held_out", [
    (["train.jsonl:1", "valid.jsonl:1", "valid.jsonl:2"], ["valid.jsonl:1", "valid.jsonl:2"]),
    (["train/a.txt", "valid/b.txt", "valid/c/d.md"], ["valid/b.txt", "valid/c/d.md"]),
    (["valid.txt", "validity.txt", "invalid.txt"], ["valid.txt"]),
])  # fmt: skip
def test_what_is_called_valid_is_held_out(names, held_out):
    train, valid = split({name: name for name in names})
    assert list(valid) == held_out
    assert sorted([*train, *valid]) == sorted(names)


def test_without_that_every_tenth_document_is_held_out():
    documents = {f"{number:02}.txt": "text" for number in range(25)}
    train, valid = split(documents)
    assert list(valid) == ["09.txt", "19.txt"]
    assert train.keys() == documents.keys() - valid.keys()


# -- excerpts ------------------------------------------------------------------------

BOOKS = {name: "".join(f"{name}{number:06} " for number in range(200)) for name in "abc"}


def take(documents: dict[str, str], tokenizer, count: int = 60, seed: int = 0) -> list[list[int]]:
    return list(islice(excerpts(documents, tokenizer, 40, seed), count))


def test_excerpts_have_their_length_and_are_of_the_documents(tokenizer):
    for tokens in take(BOOKS, tokenizer):
        assert len(tokens) == 40
        assert any(tokenizer.decode(tokens) in book for book in BOOKS.values())


def test_the_seed_decides_the_excerpts(tokenizer):
    assert take(BOOKS, tokenizer, seed=1) == take(dict(reversed(BOOKS.items())), tokenizer, seed=1)
    assert take(BOOKS, tokenizer, seed=1) != take(BOOKS, tokenizer, seed=2)


def test_each_document_is_as_likely_whatever_its_length(tokenizer):
    documents = BOOKS | {"a": BOOKS["a"] * 20}
    names = [tokenizer.decode(tokens) for tokens in take(documents, tokenizer, 300)]
    assert all(60 < sum(name in text for text in names) < 140 for name in "abc")


def test_an_excerpt_may_begin_anywhere(tokenizer):
    starts = {BOOKS["a"].index(tokenizer.decode(t)) for t in take({"a": BOOKS["a"]}, tokenizer, 100)}
    assert len(starts) > 80 and min(starts) < 200 < 1000 < max(starts)


def test_documents_that_are_too_short_are_passed_over(tokenizer):
    documents = BOOKS | {"d": "d" * 200}
    assert not any("d" in tokenizer.decode(tokens) for tokens in take(documents, tokenizer))


def test_without_a_long_enough_document_the_length_is_named(tokenizer):
    with pytest.raises(CorpusError, match="long enough for excerpts of 40 tokens"):
        take({"d": "d" * 200}, tokenizer)
