"""Questions about a document that was read in each of the ways that are compared.

A document is read once into a row's caches, then each question is asked from a fork of them,
within the app's chat turns: the document first, the question behind it. A right answer is
scored by its mean log-probability in nats per token, averaged over the people who gave one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from statistics import mean

import mlx.core as mx

from ..basemodel import trained_context
from ..cache import EdgeCache, forked, state_bytes
from ..generation import generate, read_on
from ..recall.lexicon import Lexicon
from ..training.recalling import check_recall
from ..turns import Prompter
from .asking import Asked, ask
from .gap import SHUFFLED
from .metrics import Metric
from .readings import Reader
from .results import Results
from .scores import means, pairs
from .subject import Subject
from .tasks import Exam, Question
from .work import Entries, measure_missing


class Examiner:
    """Lets a model read documents and asks it about them.

    Args:
        subject: the model.
        exams: documents and questions by name.
        metric: how a written answer is scored; None writes none.
    """

    def __init__(self, subject: Subject, exams: dict[str, Exam], metric: Metric | None):
        self.exams, self.metric = exams, metric
        self._model, self._tokenizer = subject.model, subject.tokenizer
        self._prompter = Prompter(self._tokenizer)
        self._lexicon = Lexicon(self._prompter)
        self.documents = {name: self._document(exam) for name, exam in exams.items()}
        self._reader = Reader(self._model, subject.untrained, self.documents, first=0, throughout=False)

    def fits(self, name: str) -> bool:
        """Whether document, question and answer together fit the base model's trained context."""
        return self._length(name) <= trained_context(self._model)

    def measure(self, name: str, row: str) -> Entries:
        """Read a document in one way and ask everything about it."""
        began = time.perf_counter()
        with self._reader.caches(row, self._length(name)) as cache:
            largest = max(self._read(name, row, cache))
            questions = [self._ask(name, question, cache) for question in self.exams[name].questions]
        entry = {
            "tokens": len(self.documents[name]),
            "state_bytes": largest,
            "seconds": round(time.perf_counter() - began, 1),
            "questions": questions,
        }
        return {(name, row): entry}

    def _read(self, name: str, row: str, cache: list[EdgeCache]) -> Iterator[int]:
        """Read a document piece by piece; bytes of the state after each."""
        lenders: list[EdgeCache] = []
        if row == SHUFFLED:
            lenders = self._model.make_cache()
            lending = pieces(self.documents[self._after(name)], lenders[0])
        for piece in pieces(self.documents[name], cache[0]):
            if lenders and (lent := next(lending, None)) is not None:
                read_on(self._model, lent, lenders)
            for borrower, lender in zip(cache, lenders):
                borrower.memory = lender.memory
            read_on(self._model, piece, cache)
            yield state_bytes(cache)

    def _after(self, name: str) -> str:
        """The next document, or the first after the last."""
        names = list(self.documents)
        return names[(names.index(name) + 1) % len(names)]

    def _ask(self, name: str, question: Question, cache: list[EdgeCache]) -> dict:
        named = self._lexicon.named(self.documents[name], [question.text], cache[0].recall)
        asked = ask(self._model, self._prompt(question), cache, named)
        answers = map(self._prompter.text, question.answers)
        scores = [asked.predicted(answer).log_probability for answer in answers]
        entry = {"depth": question.depth, "log_probability": mean(scores)}
        if self.metric:
            written = self._write(asked)
            entry |= self.metric.score(written, question.answers) | {"written": written}
        return entry

    def _write(self, asked: Asked) -> str:
        """The model's own answer, always the likeliest token."""
        fork = forked(asked.cache)
        written = generate(
            self._model, self._tokenizer, [asked.last], max_tokens=self.metric.max_tokens,
            prompt_cache=fork, logits_processors=self.metric.processors,
        )  # fmt: skip
        check_recall(fork)
        return written.strip()

    # -- tokens -------------------------------------------------------------------

    def _document(self, exam: Exam) -> list[int]:
        pages = map(self._prompter.page, exam.pages)
        return [*self._prompter.opening, *chain.from_iterable(pages)]

    def _prompt(self, question: Question) -> list[int]:
        return self._prompter.conversation([question.text])

    def _length(self, name: str) -> int:
        """Tokens of a document with its longest question and answer."""
        written = self.metric.max_tokens if self.metric else 0
        asked = (
            len(self._prompt(question)) + max(written, *map(len, map(self._prompter.text, question.answers)))
            for question in self.exams[name].questions
        )
        return len(self.documents[name]) + max(asked)


def measure_answers(examiner: Examiner, results: Results, digests: Mapping[str, str]) -> None:
    """Measure what the results of a task lack. digests: of the gates, by row (`Subject.asked_digests`)."""
    wanted = pairs(results.setup)

    def told(name: str, row: str) -> str:
        entry, done = results.entries[name][row], sum(map(len, results.entries.values()))
        said = [f"{label} {value:.3f}" for label, value in means(entry["questions"]).items()]
        place = f"{results.setup['task']}: {done} of {len(wanted)}: {name}, {row}"
        return f"{place}: {', '.join(said)}, {entry['seconds']:.0f} s"

    measure_missing(results, wanted, digests, examiner.measure, told)


def pieces(tokens: Sequence[int], cache: EdgeCache) -> Iterator[mx.array]:
    """Tokens in the pieces between which the cache folds."""
    edges = [0, *range(cache.layout.capacity, len(tokens), cache.layout.segment), len(tokens)]
    return (mx.array(tokens[start:stop]) for start, stop in pairwise(edges))
