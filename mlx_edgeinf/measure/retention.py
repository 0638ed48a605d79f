"""What is left of a story at the end of a long reading, by how many tokens ago it was read.

Stories are read one behind the other, as one text, once with a memory and once without. Then questions
about each of them are asked from forks of these readings, and questions about others that were not read:
with exact recall and without. What is gained over sinks and window alone on stories that were not read is
not memory of them, but of what all stories are like; what is gained more on those that were read is. Each
story's first question is left out: it asks for the plot of "the story" and does not say of which.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain, islice, product
from statistics import mean

import mlx.core as mx
import numpy as np

from ..cache import EdgeCache
from ..generation import read_on
from ..recall.lexicon import Lexicon
from ..training.recalling import check_recall
from ..turns import Prompter
from ..wording import count
from .answers import pieces
from .asking import ask, fork_of
from .gap import OURS, RECALL, RECALL_ALONE, WINDOW, check_finished
from .readings import Reader
from .results import Results, described
from .subject import Subject
from .tables import apart, markdown, with_interval
from .tasks import Exam, Question
from .work import together

ROWS = (RECALL, OURS, RECALL_ALONE, WINDOW)
# Ways of reading, and the rows that are asked from forks of each; with the pages on disk that it has, or
# without. In an order that gives two processes as much each.
READINGS = {RECALL: (RECALL,), RECALL_ALONE: (RECALL_ALONE, WINDOW), OURS: (OURS,)}
# Of stories that were read at most so many tokens ago, and more than the one before.
NEAREST = 16_384


class Retelling:
    """Stories, some of them read, all of them asked about.

    Args:
        stories: by name. read: how many of them, from the first.
    """

    def __init__(self, subject: Subject, stories: dict[str, Exam], read: int):
        self._model, self._prompter = subject.model, Prompter(subject.tokenizer)
        self._lexicon = Lexicon(self._prompter)
        self._reader = Reader(subject.model, subject.untrained, {}, first=0, throughout=False)
        self._stories = stories
        texts = [self._tokens(stories[name]) for name in list(stories)[:read]]
        self.tokens = [*self._prompter.opening, *chain.from_iterable(texts)]
        ends = accumulate(map(len, texts), initial=len(self._prompter.opening))
        self._ago = {name: len(self.tokens) - end for name, end in zip(stories, list(ends)[1:])}

    def measure(self, way: str, names: list[str]) -> Iterator[tuple[str, str, dict]]:
        """Read once in one way, then ask about some of the stories in its rows; story, row and entry.

        Raises:
            StoreError: the pages on disk failed.
        """
        with self._reader.caches(way, len(self.tokens)) as cache:
            for piece in pieces(self.tokens, cache[0]):
                read_on(self._model, piece, cache)
                check_recall(cache)
            forks = {row: fork_of(cache, row) for row in READINGS[way]}
            for name, (row, fork) in product(names, forks.items()):
                asked = [self._asked(question, fork) for question in self._stories[name].questions[1:]]
                yield name, row, {"ago": self._ago.get(name), "log_probability": asked}

    def _asked(self, question: Question, cache: list[EdgeCache]) -> float:
        """Log-probability of people's answers, nats a token, on average."""
        named = self._lexicon.named(self.tokens, [question.text], cache[0].recall)
        asked = ask(self._model, self._prompter.conversation([question.text]), cache, named)
        return mean(asked.predicted(self._prompter.text(each)).log_probability for each in question.answers)

    def _tokens(self, exam: Exam) -> list[int]:
        return [*chain.from_iterable(map(self._prompter.page, exam.pages))]


def measure_retention(retelling: Retelling, results: Results) -> None:
    """Measure the stories that the results lack; each process reads in its share of the ways."""
    world = mx.distributed.init()
    for way, rows in islice(READINGS.items(), world.rank(), None, world.size()):
        lacking = [name for name in results.setup["documents"] if not {*rows} <= results.group(name).keys()]
        for name, row, entry in retelling.measure(way, lacking) if lacking else ():
            results.add({(name, row): entry})
            print(f"{name}, {row}: {mean(entry['log_probability']):.3f}", flush=True)
    together(results)


def summary(results: Results) -> str:
    """Markdown: the table, and where it was measured.

    Raises:
        ResultsError: the evaluation was stopped before its end.
    """
    check_finished(results, product(results.setup["documents"], ROWS))
    told = f"{count(results.setup['tokens'])} tokens of {count(results.setup['read'])} stories"
    return f"{told}:\n\n{markdown(list(_lines(results)))}\n\n{described(results.setup)}"


def _lines(results: Results) -> Iterator[list[str]]:
    rows = [row for row in ROWS if row != WINDOW]
    yield ["read", "stories", *(f"{row}, gained over {WINDOW}" for row in rows)]
    bins = _bins(results)
    for told, names in bins.items():
        yield [told, count(len(names)), *(with_interval(_gained(results, row, names)) for row in rows)]
    *read, unread = bins.values()
    pairs = ((_gained(results, row, [*chain(*read)]), _gained(results, row, unread)) for row in rows)
    yield ["read minus not read", "", *(apart(*pair) for pair in pairs)]


def _bins(results: Results) -> dict[str, list[str]]:
    """Names of stories by when they were read, the latest first; at the end those that were not."""
    ago = {name: results.entries[name][OURS]["ago"] for name in results.setup["documents"]}
    bins, low, high = {}, -1, NEAREST
    while low < results.setup["tokens"]:
        names = [name for name, at in ago.items() if at is not None and low < at <= high]
        if names:
            bins[f"at most {count(high)} tokens ago"] = names
        low, high = high, 2 * high
    return bins | {"never": [name for name, at in ago.items() if at is None]}


def _gained(results: Results, row: str, names: list[str]) -> np.ndarray:
    """Nats a token, by story, over its questions."""
    scores = ([results.entries[name][each]["log_probability"] for each in (row, WINDOW)] for name in names)
    return np.array([np.mean(with_it) - np.mean(without) for with_it, without in scores])
