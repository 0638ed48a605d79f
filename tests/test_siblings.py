"""Several answers about one document, which is read once."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from test_sft import CAPACITY, NEXT_TOKEN, TOKENS, exercise, renderer
from tiny import LAYOUT, close, llama_model, sequence, with_memory

from mlx_edgeinf.generation import read_on
from mlx_edgeinf.training import bptt
from mlx_edgeinf.training.bptt import excerpt_gradients, validation_loss
from mlx_edgeinf.training.excerpts import Excerpt, excerpts, taught


def family(document: int, *lengths: int) -> Excerpt:
    """Answers of so many tokens, each its own, behind the same question about a document of so many."""
    told = [Excerpt(TOKENS[:document] + sequence(length, seed=length).tolist(), learnt=document + 1)
            for length in lengths]  # fmt: skip
    return replace(told[0], siblings=tuple(told[1:]))


# Where a segment ends and beside it.
@pytest.mark.parametrize("document", [CAPACITY + 7, CAPACITY + 8, CAPACITY + 9])
def test_answers_together_lose_what_each_does_alone(document):
    model, together = with_memory(llama_model()), family(document, 5, 11, 30)
    alone = [validation_loss(model, [replace(each, siblings=())]) for each in together.family]
    expected = np.average(alone, weights=[4, 10, 29])
    assert validation_loss(model, [together]) == pytest.approx(expected, rel=1e-4)
    assert excerpt_gradients(model, together, NEXT_TOKEN)[0] == pytest.approx(expected, rel=1e-4)


def test_answers_behind_a_whole_segment_teach_what_each_does_alone():
    model, together = with_memory(llama_model()), family(CAPACITY + LAYOUT.segment, 5, 11, 30)
    alone = [excerpt_gradients(model, replace(each, siblings=()), NEXT_TOKEN) for each in together.family]
    parts = [dict(tree_flatten(gradients)) for _, gradients in alone]
    for path, gradient in tree_flatten(excerpt_gradients(model, together, NEXT_TOKEN)[1]):
        expected = sum(tokens / 43 * part[path] for tokens, part in zip([4, 10, 29], parts))
        assert close(gradient, expected, 1e-3), path
        assert mx.any(gradient != 0).item(), path


def test_what_answers_have_in_common_is_read_once(monkeypatch):
    model, reads = with_memory(llama_model()), []
    monkeypatch.setattr(bptt, "read_on", lambda *args: reads.append(args[1].size) or read_on(*args))
    document = CAPACITY + 3 * LAYOUT.segment
    together = family(document, 5, 11, 30)
    excerpt_gradients(model, together, NEXT_TOKEN)
    assert sum(reads) == document == together.shared
    assert together.size == document + 5 + 11 + 30


def test_answers_that_begin_alike_share_no_token_that_counts():
    answer = sequence(9).tolist()
    other = Excerpt(TOKENS[:40] + answer + [1], learnt=40)
    together = Excerpt(TOKENS[:40] + answer, learnt=40, siblings=(other,))
    assert together.shared == 39


def test_of_many_answers_some_others_are_learnt_from_each_reading():
    drawn = list(islice(excerpts({"a": exercise(50, *range(40, 60))}, renderer(), 0, answers=8), 50))
    assert all(len({len(each.tokens) for each in lesson.family}) == 8 for lesson in drawn)
    assert {len(each.tokens) for lesson in drawn for each in lesson.family} == {*range(90, 110)}
    assert len(next(excerpts({"a": exercise(50, 40, 45)}, renderer(), 0, answers=8)).family) == 2


def test_siblings_have_teachers_of_their_own_and_what_they_share_is_read_once(monkeypatch):
    model, together = with_memory(llama_model()), family(CAPACITY + 9, 5, 11)
    alone = [taught(model, replace(each, siblings=())).teacher for each in together.family]
    read, kind = [], type(model.model)
    forward = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, x, **k: read.append(x.size) or forward(self, x, **k))
    for own, each in zip(alone, taught(model, together).family, strict=True):
        assert close(each.teacher, own, 1e-2)
    # All but each one's last token.
    assert sum(read) == together.size - 2
