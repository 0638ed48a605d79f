from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from tiny import LAYOUT, byte_tokenizer, cut, llama_model, with_memory

from mlx_edgeinf.adapter import AdapterConfig, gate_parameters
from mlx_edgeinf.cache import ExactCache, Layout, state_bytes
from mlx_edgeinf.measure import asking
from mlx_edgeinf.measure.answers import Examiner, measure_answers
from mlx_edgeinf.measure.asking import Asked
from mlx_edgeinf.measure.gap import (
    BY_MASS,
    FULL,
    HALF,
    OURS,
    RECALL,
    RECALL_ALONE,
    RECALL_SHUFFLED,
    RECALL_UNTRAINED,
    ROWS,
    SHUFFLED,
    UNTRAINED,
    WINDOW,
    ZEROED,
)
from mlx_edgeinf.measure.metrics import Metric
from mlx_edgeinf.measure.results import Results
from mlx_edgeinf.measure.subject import Subject
from mlx_edgeinf.measure.tasks import Exam, Question

# The template of a tokenizer without one, around question and answer.
ANSWER = "\n\nAnswer: "
STORY = "A ship left the harbour of Bergen with nine men and a cat."
QUESTIONS = (Question("How many men?", ("nine", "nine men"), 0.7), Question("From where?", ("Bergen",)))
EXAMS = {
    "story": Exam((STORY, "It came back."), QUESTIONS),
    "letter": Exam(("Dear Ann, all of us are well here, and the garden is in bloom again.",), QUESTIONS[:1]),
}
WRITTEN = Metric(6, lambda written, answers: {"exact_match": float(written in answers)})


@pytest.fixture
def subject() -> Subject:
    return subject_of(LAYOUT)


def subject_of(layout: Layout) -> Subject:
    model = with_memory(llama_model(max_position_embeddings=120), layout=layout)
    untrained = {path: 0.5 * value for path, value in gate_parameters(model).items()}
    return Subject(model, byte_tokenizer(), AdapterConfig("tiny", ""), untrained, "trained")


@pytest.fixture
def examiner(subject) -> Examiner:
    return Examiner(subject, EXAMS, None)


def asked(examiner: Examiner, name: str, row: str) -> dict:
    return examiner.measure(name, row)[name, row]


def scores(examiner: Examiner, name: str, row: str) -> list[float]:
    return [question["log_probability"] for question in asked(examiner, name, row)["questions"]]


def stock_log_probability(model: nn.Module, before: str, answer: str) -> float:
    """Mean over an answer's tokens, of a text read at once by mlx-lm's own forward pass."""
    tokens = byte_tokenizer().encode(before + answer)
    logits = model(mx.array(tokens[:-1])[None], cache=[KVCache() for _ in model.layers])[0]
    log_p = np.array(nn.log_softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]
    return log_p[-len(answer) :].mean()


def test_full_attention_finds_answers_as_likely_as_stock_mlx_lm_in_one_reading(subject, examiner):
    read = f"{STORY}\n\nIt came back.\n\nHow many men?{ANSWER}"
    expected = np.mean([stock_log_probability(subject.model, read, each) for each in ("nine", "nine men")])
    assert scores(examiner, "story", FULL)[0] == pytest.approx(expected, abs=1e-3)


def test_questions_do_not_see_each_other(subject, examiner):
    alone = Examiner(subject, EXAMS | {"story": Exam(EXAMS["story"].pages, QUESTIONS[1:])}, None)
    for row in (OURS, WINDOW, FULL):
        assert scores(alone, "story", row) == pytest.approx(scores(examiner, "story", row)[1:], abs=1e-5)


def test_no_token_of_an_answer_is_told_by_what_comes_back_for_a_later_one(examiner, monkeypatch):
    forked, causal = asking.forked, []

    def noting(cache: list, **said) -> list:
        causal.append(said.get("causal", False))
        return forked(cache, **said)

    monkeypatch.setattr(asking, "forked", noting)
    scores(examiner, "story", RECALL)
    # Each question, and then its answers.
    assert causal == [each for question in QUESTIONS for each in (False, *(True for _ in question.answers))]


def test_what_a_question_names_comes_back_for_its_answers(examiner, monkeypatch):
    """But not for other questions."""
    named = {question.text: np.array([at]) for at, question in enumerate(QUESTIONS)}
    monkeypatch.setattr(examiner._lexicon, "named", lambda tokens, texts, cache: named[texts[-1]])
    asked, predicted = [], Asked.predicted
    monkeypatch.setattr(Asked, "predicted", lambda self, *a: asked.append(self.cache) or predicted(self, *a))
    scores(examiner, "story", RECALL)
    own = [named[question.text] for question in QUESTIONS for _ in question.answers]
    assert len(own) == len(asked)
    for pages, cache in zip(own, asked):
        assert all(layer.recall.named is pages for layer in cache)


def test_every_row_answers_and_no_two_alike(examiner):
    # Of so short a text everything is recalled, and the memory adds nothing.
    same = (ZEROED, RECALL_ALONE, RECALL_SHUFFLED, *BY_MASS, RECALL_UNTRAINED)
    rows = [row for row in ROWS if row not in same]
    answered = np.array([scores(examiner, "story", row) for row in rows])
    differences = [np.abs(a - b).max() for at, a in enumerate(answered) for b in answered[:at]]
    assert answered.max() < 0 and min(differences) > 1e-4


def test_the_memory_lent_is_that_of_the_next_document(subject, examiner):
    lent = scores(examiner, "story", SHUFFLED)
    other = Exam(("Nothing of the kind was ever seen, heard or read of in the north.",), QUESTIONS)
    changed = Examiner(subject, EXAMS | {"letter": other}, None)
    assert scores(changed, "story", SHUFFLED) != pytest.approx(lent, abs=1e-4)
    assert lent != pytest.approx(scores(examiner, "story", WINDOW), abs=1e-4)


def test_a_document_that_borrows_its_own_memory_answers_as_ever():
    """Nothing more is folded while the questions are read: a borrower adds nothing to what is lent."""
    wide = subject_of(Layout(sinks=2, window=8, segment=64))
    same = Examiner(wide, {"one": EXAMS["story"], "two": EXAMS["story"]}, None)
    assert scores(same, "one", SHUFFLED) == pytest.approx(scores(same, "one", OURS), abs=1e-5)


def test_a_lender_that_ends_first_goes_on_lending_what_it_has(subject):
    exams = {"story": EXAMS["story"], "short": Exam((STORY[:30],), QUESTIONS)}
    examiner = Examiner(subject, exams, None)
    assert scores(examiner, "story", SHUFFLED) != pytest.approx(scores(examiner, "story", WINDOW), abs=1e-4)


def test_other_gates_and_sizes_are_the_models_only_for_their_row(examiner):
    before = scores(examiner, "story", OURS)
    for row in (UNTRAINED, HALF):
        assert scores(examiner, "story", row) != pytest.approx(before, abs=1e-4)
    assert scores(examiner, "story", OURS) == before


def test_full_attention_has_room_for_document_question_and_answer(subject, monkeypatch):
    def fold(_):
        raise AssertionError

    monkeypatch.setattr(ExactCache, "make_room", fold)
    long = Exam((STORY,), (Question("Tell it once more.", (STORY + STORY,)), *QUESTIONS))
    assert len(scores(Examiner(subject, {"long": long}, WRITTEN), "long", FULL)) == 3


def test_what_is_longer_than_the_trained_context_does_not_fit(subject):
    fitting = Examiner(subject, EXAMS, WRITTEN)
    writing = Examiner(subject, EXAMS, Metric(60, WRITTEN.score))
    assert [fitting.fits(name) for name in EXAMS] == [True, True]
    assert [writing.fits(name) for name in EXAMS] == [False, False]


def test_an_entry_says_how_much_was_read_and_held_at_most(subject, examiner):
    entry = asked(examiner, "story", OURS)
    assert entry["tokens"] == len(STORY) + 2 + len("It came back.") + 2
    cache, held, tokens = subject.model.make_cache(), [], mx.array(examiner.documents["story"])
    for length in [LAYOUT.capacity, *cut(entry["tokens"] - LAYOUT.capacity, LAYOUT.segment)]:
        subject.model(tokens[None, :length], cache=cache)
        held.append(state_bytes(cache))
        tokens = tokens[length:]
    assert entry["state_bytes"] == max(held) > min(held)
    assert [question["depth"] for question in entry["questions"]] == [0.7, None]


def test_the_answer_written_is_the_likeliest(subject):
    exam = Exam((STORY,), QUESTIONS[1:])
    (question,) = asked(Examiner(subject, {"story": exam}, WRITTEN), "story", FULL)["questions"]
    prompt = byte_tokenizer().encode(f"{STORY}\n\nFrom where?{ANSWER}")
    cache = [KVCache() for _ in subject.model.layers]
    own = mlx_lm.generate(subject.model, byte_tokenizer(), prompt, max_tokens=6, prompt_cache=cache)
    assert question["written"] == own.strip() and question["exact_match"] == 0


def test_a_metric_has_its_own_length_and_way_of_writing(subject):
    def only_x(tokens: mx.array, logits: mx.array) -> mx.array:
        return mx.where(mx.arange(logits.shape[-1]) == byte_tokenizer().encode("x")[0], 0.0, -mx.inf)[None]

    metric = Metric(4, WRITTEN.score, [only_x])
    exams = {"story": Exam((STORY,), (Question("What?", ("no", "xxxx")),))}
    (question,) = asked(Examiner(subject, exams, metric), "story", OURS)["questions"]
    assert question["written"] == "xxxx" and question["exact_match"] == 1


def test_all_that_fits_is_measured_and_told(subject, examiner, tmp_path, capsys):
    setup = {"task": "tales", "documents": dict.fromkeys(EXAMS), "rows": [FULL, WINDOW], "exact": ["letter"]}
    results = Results(tmp_path / "tales.json", setup)
    measure_answers(examiner, results, {})
    assert {name: set(rows) for name, rows in results.entries.items()} == {
        "story": {WINDOW}, "letter": {FULL, WINDOW},
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("tales: 1 of 3: story, sinks + window: log-probability -")
