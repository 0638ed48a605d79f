"""Quotations as lessons."""

from __future__ import annotations

from itertools import islice
from random import Random

from tiny import byte_tokenizer

from mlx_edgeinf.training.excerpts import excerpts
from mlx_edgeinf.training.quoting import LEAST, MOST, QUESTION, TOLD, quotations
from mlx_edgeinf.training.rendering import Renderer


def sentence(name: str, words: int) -> str:
    return " ".join([name, *(f"{name.lower()}{number}" for number in range(words - 1))]) + "."


TEXT = " ".join([
    "and its end was cut.", sentence("Ann", LEAST - 1), sentence("Ben", LEAST), sentence("Cid", MOST),
    sentence("Dan", MOST + 1), sentence("Eve", 20), sentence("Fay", 20),
])  # fmt: skip


def quoted(letters: int = len(TEXT), wanted: int = 9, seed: int = 0) -> dict[str, str]:
    exercise = quotations(TEXT, letters, wanted, Random(seed))
    return dict(exercise.dialogues) if exercise else {}


def test_a_sentence_is_asked_for_by_its_first_words():
    for question, answer in quoted().items():
        before, after = QUESTION.split("{}")
        assert f"{question.removeprefix(before).removesuffix(after)} {answer}" in TEXT
        assert len(question.split()) == len(QUESTION.split()) - 1 + TOLD


def test_neither_short_nor_long_ones_nor_such_as_may_be_cut():
    assert {answer.split(".")[0][:3] for answer in quoted().values()} == {"ben", "cid", "eve"}


def test_only_where_the_document_has_gone_from_the_window():
    assert {answer[:3] for answer in quoted(TEXT.index("Eve")).values()} == {"ben", "cid"}


def test_as_many_as_are_wanted_at_random():
    chosen = [frozenset(quoted(wanted=2, seed=seed)) for seed in range(20)]
    assert {len(each) for each in chosen} == {2} and len(set(chosen)) == 3


def test_a_passage_without_sentences_is_no_lesson():
    assert not quotations("word " * 400, 2_000, 8, Random(0))


def test_texts_become_exercises_whose_answers_stand_in_what_left_the_window():
    capacity, length = 300, 1_500
    text = " ".join(sentence(f"N{number:03}", 14) for number in range(200))
    renderer = Renderer(byte_tokenizer(), length, capacity)
    for excerpt in islice(excerpts({"a": text}, renderer, seed=0, answers=3, quoted=True), 5):
        assert len(excerpt.family) == 3
        for each in excerpt.family:
            assert len(each.tokens) <= length
            # The end of a turn is no text.
            answer = renderer.tokenizer.decode(each.tokens[each.learnt :]).split(".")[0]
            document = renderer.tokenizer.decode(each.tokens[: each.read])
            assert 0 <= document.find(answer) < each.read - capacity
