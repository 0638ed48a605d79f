from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_edgeinf.training.corpus import CorpusError, read_corpus, split


def line(text: str) -> str:
    return json.dumps({"text": text}) + "\n"


# -- reading -------------------------------------------------------------------------


def test_text_files_are_one_document_each_wherever_they_lie(tmp_path):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "deep" / "down" / "b.md").write_text("second")
    assert read_corpus([tmp_path]) == {"a.txt": "first", "deep/down/b.md": "second"}


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("first")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", forbidden)
    with pytest.raises(CorpusError, match=r"a.txt cannot be read \(Permission denied\): check that you may"):
        read_corpus([tmp_path])


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
    folder = tmp_path / name
    with pytest.raises(CorpusError, match=f"No .txt, .md, .jsonl or .json documents found in {folder}"):
        read_corpus([folder])


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
