"""Quotations as lessons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

import pytest
from tiny import byte_tokenizer

from mlx_edgeinf.training.corpus import CorpusError
from mlx_edgeinf.training.excerpts import excerpts
from mlx_edgeinf.training.quoting import LEAST, MOST, QUESTION, TOLD, quotations
from mlx_edgeinf.training.rendering import Renderer


def sentence(name: str, words: int) -> str:
    return " ".join([name, *(f"{name.lower()}{number}" for number in range(words - 1))]) + "."


TEXT = " ".join([
    "and its end was cut.", sentence("Ann", LEAST - 1), sentence("Ben", LEAST), sentence("Cid", MOST),
    sentence("Dan", MOST + 1), sentence("Eve", 20), sentence("Fay", 20),
])  # fmt: skip


def quoted(wanted: int = 9, seed: int = 0) -> dict[str, str]:
    return dict(quotations(TEXT, wanted, Random(seed)))


def test_a_sentence_is_asked_for_by_its_first_words():
    for question, answer in quoted().items():
        before, after = QUESTION.split("{}")
        assert f"{question.removeprefix(before).removesuffix(after)} {answer}" in TEXT
        assert len(question.split()) == len(QUESTION.split()) - 1 + TOLD


def test_neither_short_nor_long_ones_nor_such_as_may_be_cut():
    assert {answer.split(".")[0][:3] for answer in quoted().values()} == {"ben", "cid", "eve"}


def test_as_many_as_are_wanted_at_random():
    chosen = [frozenset(quoted(wanted=2, seed=seed)) for seed in range(20)]
    assert {len(each) for each in chosen} == {2} and len(set(chosen)) == 3


def learnt(text: str, capacity: int = 300, length: int = 1_500) -> Iterator[tuple[str, str, int]]:
    """Documents, answers, and how many tokens of the document have left the window."""
    renderer = Renderer(byte_tokenizer(), length, capacity)
    for excerpt in islice(excerpts({"a": text}, renderer, seed=0, answers=3, quoted=True), 5):
        assert 1 <= len(excerpt.family) <= 3
        for each in excerpt.family:
            assert capacity < each.learnt < len(each.tokens) <= length
            # The end of a turn is no text.
            answer = renderer.tokenizer.decode(each.tokens[each.learnt :]).split(".")[0]
            yield renderer.tokenizer.decode(each.tokens[: each.read]), answer, len(each.tokens) - capacity


SENTENCES = [sentence(f"N{number:03}", 14) for number in range(200)]


def test_texts_become_exercises_whose_answers_stand_in_what_left_the_window():
    assert all(0 <= document.find(answer) < gone for document, answer, gone in learnt(" ".join(SENTENCES)))


def test_what_the_page_does_not_show_counts_for_nothing():
    """Blank lines and indents are read as nothing, so more of such a text is needed for as many tokens."""
    text = "".join(f"{each}\n\n\n\n\n\n{' ' * 40}" for each in SENTENCES)
    assert all(0 <= document.find(answer) < gone for document, answer, gone in learnt(text))


def test_a_passage_that_is_all_in_the_window_teaches_nothing():
    text = "\n".join(each + " " * 2_000 for each in SENTENCES)
    with pytest.raises(CorpusError, match="no sentence of 12 to 60 words that leaves the window.* larger"):
        list(learnt(text, capacity=1_400))


def test_a_text_without_sentences_is_refused():
    with pytest.raises(CorpusError, match="no sentence of 12 to 60 words"):
        list(learnt("word " * 4_000))
