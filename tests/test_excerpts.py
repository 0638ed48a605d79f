from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import mlx.core as mx
import pytest
from tiny import LAYOUT, MODELS, byte_tokenizer, close, llama_model, sequence, with_memory

from mlx_edgeinf.training import excerpts as home
from mlx_edgeinf.training.corpus import CorpusError
from mlx_edgeinf.training.excerpts import Excerpt, Lessons, excerpts, taught
from mlx_edgeinf.training.rendering import Renderer

# -- excerpts ------------------------------------------------------------------------

BOOKS = {name: "".join(f"{name}{number:06} " for number in range(200)) for name in "abc"}


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def take(documents: dict[str, str], tokenizer, count: int = 60, seed: int = 0) -> list[list[int]]:
    stream = excerpts(documents, Renderer(tokenizer, 40, LAYOUT.capacity), seed)
    return [excerpt.tokens for excerpt in islice(stream, count)]


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


def lengths_and_places(documents: dict[str, str], tokenizer, longest: int) -> list[tuple[int, int]]:
    stream = excerpts(documents, Renderer(tokenizer, longest, capacity=20), 0, counted=30)
    return [(len(excerpt.tokens), excerpt.learnt) for excerpt in islice(stream, 600)]


def test_where_the_last_tokens_count_excerpts_are_of_all_lengths(tokenizer):
    drawn = lengths_and_places({name: text * 3 for name, text in BOOKS.items()}, tokenizer, 320)
    assert all(learnt == length - 30 for length, learnt in drawn)
    lengths = [length for length, _ in drawn]
    # Three doublings, from twice what is exact.
    counts = [sum(low <= length < 2 * low for length in lengths) for low in (40, 80, 160)]
    assert min(lengths) >= 40 and max(lengths) <= 320 and all(150 < count < 250 for count in counts)


def test_a_short_document_lends_shorter_excerpts(tokenizer):
    lengths = [length for length, _ in lengths_and_places({"a": "a" * 600}, tokenizer, 320)]
    assert max(lengths) <= 600 // home.LETTERS


def test_no_more_tokens_count_than_there_are(tokenizer):
    stream = excerpts(BOOKS, Renderer(tokenizer, 40, capacity=20), 0, counted=100)
    assert next(stream).learnt == 0


def test_without_a_long_enough_document_the_length_is_named(tokenizer):
    with pytest.raises(CorpusError, match="long enough for excerpts of 40 tokens"):
        take({"d": "d" * 200}, tokenizer)


def test_documents_of_too_few_tokens_a_letter_are_not_searched_for_ever(tokenizer, monkeypatch):
    monkeypatch.setattr(home, "LETTERS", 1)
    with pytest.raises(CorpusError, match="100 passages in a row .* with 1 characters to each"):
        take(BOOKS, tokenizer)


# -- what full attention makes of them -----------------------------------------------


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("length", [LAYOUT.capacity + 2, LAYOUT.capacity + 3 * LAYOUT.segment + 5])
def test_a_teacher_is_full_attention_from_the_first_token_that_reads_memory_on(make, length):
    tokens = sequence(length)
    full = make().model(tokens[None, :-1])[0, LAYOUT.capacity :]
    excerpt = taught(with_memory(make()), Excerpt(tokens.tolist()))
    assert excerpt.tokens == tokens.tolist()
    assert excerpt.teacher.shape == full.shape
    assert close(excerpt.teacher, full, 2e-3)


def test_a_teacher_is_kept_in_half_precision_and_has_no_graph_behind_it():
    model = with_memory(llama_model())
    excerpt = Excerpt(sequence(LAYOUT.capacity + 100).tolist())
    taught(model, excerpt)
    before = mx.get_active_memory()
    teacher = taught(model, excerpt).teacher
    mx.eval(teacher)
    assert teacher.dtype == mx.float16
    assert mx.get_active_memory() - before <= teacher.nbytes + 4096


# -- lessons -------------------------------------------------------------------------


def stream() -> Iterator[Excerpt]:
    """Excerpts of one token each, their number."""
    return (Excerpt([number]) for number in range(100))


def read(lessons: Lessons, iterations: int, start: int = 0) -> list[int]:
    return [lessons[iteration].tokens[0] for iteration in range(start, iterations)]


@pytest.fixture
def teachings(monkeypatch) -> list[int]:
    """Which excerpts were taught, in order."""
    numbers = []

    def teach(model, excerpt: Excerpt) -> Excerpt:
        numbers.append(excerpt.tokens[0])
        return Excerpt(excerpt.tokens, mx.array(excerpt.tokens))

    monkeypatch.setattr(home, "taught", teach)
    return numbers


def test_without_a_number_lessons_are_ever_new(teachings):
    assert read(Lessons(None, stream(), None, with_teacher=True), 7) == list(range(7))
    assert teachings == list(range(7))


def test_a_number_of_lessons_is_read_in_turn_and_each_is_taught_once(teachings):
    assert read(Lessons(None, stream(), 3, with_teacher=True), 8) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert teachings == [0, 1, 2]


def test_without_a_teacher_nothing_is_taught(teachings):
    lessons = Lessons(None, stream(), None, with_teacher=False)
    assert [lessons[iteration].teacher for iteration in range(3)] == [None] * 3
    assert not teachings


@pytest.mark.parametrize("number", [None, 2, 5])
@pytest.mark.parametrize("with_teacher", [False, True])
def test_lessons_go_on_after_a_resumption_as_if_there_had_been_none(teachings, number, with_teacher):
    unbroken = read(Lessons(None, stream(), number, with_teacher), 12)
    assert read(Lessons(None, stream(), number, with_teacher), 12, start=7) == unbroken[7:]


def test_after_a_resumption_only_what_is_read_is_taught(teachings):
    read(Lessons(None, stream(), None, with_teacher=True), 9, start=7)
    assert teachings == [7, 8]


def test_a_lesson_carries_what_full_attention_says_of_its_tokens():
    model, excerpt = with_memory(llama_model()), Excerpt(sequence(LAYOUT.capacity + 10).tolist())
    lesson = Lessons(model, iter([excerpt]), 1, with_teacher=True)[4]
    assert lesson.tokens == excerpt.tokens
    assert mx.array_equal(lesson.teacher, taught(model, excerpt).teacher)
