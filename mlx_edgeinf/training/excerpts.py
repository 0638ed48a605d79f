"""Excerpts of long documents, and what full attention makes of them."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os.path import commonprefix

import mlx.core as mx
import mlx.nn as nn

from ..cache import ExactCache
from .corpus import Corpus, CorpusError
from .formats import Exercise
from .rendering import Renderer

# Characters that are enough for a token: English runs at 3 to 5.
LETTERS = 6
# Passages drawn in vain before it is said so.
PATIENCE = 100


@dataclass(frozen=True)
class Excerpt:
    """What is read and learnt at a time.

    tokens: T + 1 of them. teacher: the last hidden states (n, D) that full attention has where the
    tokens that count are told from. learnt: the place of the first token that counts, as far as it
    is told with a memory; an answer's, behind its document, or that of the last few of a text.
    siblings: excerpts that begin alike, other answers about the document, which is read once for all.

    Hidden states stand for logits: the frozen head turns one into the other, and
    a vocabulary of 49152 takes 85 times as much room as a width of 576.
    """

    tokens: list[int]
    teacher: mx.array | None = None
    learnt: int = 0
    siblings: tuple[Excerpt, ...] = ()

    @property
    def family(self) -> tuple[Excerpt, ...]:
        """Itself and its siblings."""
        return self, *self.siblings

    @property
    def shared(self) -> int:
        """How many first tokens are read once for the family; none if there are no siblings."""
        if not self.siblings:
            return 0
        alike = len(commonprefix([each.tokens for each in self.family]))
        return min(alike, *(each.learnt - 1 for each in self.family))

    @property
    def size(self) -> int:
        """Tokens that the family reads."""
        shared = self.shared
        return shared + sum(len(each.tokens) - shared for each in self.family)

    def counts_from(self, capacity: int) -> int:
        """The place of the first token that counts, where a memory begins after `capacity` tokens."""
        return max(self.learnt, capacity + 1)


def excerpts(
    documents: Corpus, renderer: Renderer, seed: int, counted: int | None = None, answers: int = 1
) -> Iterator[Excerpt]:
    """Endless random passages of texts and dialogues of exercises; each document is as likely as any other.

    Args:
        documents: with exercises as `teaching` left them.
        counted: of a text, how many of an excerpt's last tokens count, and excerpts are of all lengths
            from twice what is exact to the renderer's or what the text has, each doubling as likely as
            any other: memories of all ages. None: all of excerpts as long as the renderer's.
        answers: of an exercise, how many of its dialogues are learnt from one reading, if it has as many.

    Raises:
        CorpusError: no text has the tokens of an excerpt, and there is no exercise.
    """
    rng = random.Random(seed)
    length = _least(renderer, counted)
    fitting = {name: text for name, text in documents.items() if not _too_short(text, length)}
    if not fitting:
        raise CorpusError(f"No document is long enough for excerpts of {length} tokens.")
    names, misses = sorted(fitting), 0
    while misses < PATIENCE:
        excerpt = _drawn(fitting[rng.choice(names)], renderer, counted, answers, rng)
        misses = 0 if excerpt else misses + 1
        if excerpt:
            yield excerpt
    raise CorpusError(
        f"{PATIENCE} passages in a row had too few tokens, with {LETTERS} characters to each: choose other "
        "documents or a smaller --max-seq-length."
    )


def _too_short(document: str | Exercise, length: int) -> bool:
    return isinstance(document, str) and len(document) <= LETTERS * length


def _least(renderer: Renderer, counted: int | None) -> int:
    """Tokens of the shortest excerpt of a text."""
    return renderer.length if counted is None else min(2 * renderer.capacity, renderer.length)


def _drawn(
    document: str | Exercise, renderer: Renderer, counted: int | None, answers: int, rng: random.Random
) -> Excerpt | None:
    """A passage from anywhere in a text, or dialogues; None if the passage has too few tokens."""
    if isinstance(document, Exercise):
        chosen = rng.sample(document.dialogues, min(answers, len(document.dialogues)))
        rendered = renderer.render(document.pages, chosen)
        first, *others = (Excerpt(tokens, learnt=learnt) for tokens, learnt in rendered)
        return replace(first, siblings=tuple(others))
    length, learnt = renderer.length, 0
    if counted is not None:
        longest = min(len(document) // LETTERS, renderer.length)
        # Uniform in its logarithm.
        length = round(math.exp(rng.uniform(math.log(_least(renderer, counted)), math.log(longest))))
        learnt = max(length - counted, 0)
    letters = LETTERS * length
    start = rng.randrange(len(document) - letters + 1)
    tokens = renderer.tokenizer.encode(document[start : start + letters], add_special_tokens=False)
    # The first token may be half a word.
    return Excerpt(tokens[1 : length + 1], learnt=learnt) if len(tokens) > length else None


class Lessons:
    """What a process trains on, by iteration, the same again after a resumption.

    Args:
        stream: excerpts without end.
        number: how many of them to read in turn; None for ever new ones.
        with_teacher: let full attention read each of them, once.
    """

    def __init__(
        self, model: nn.Module, stream: Iterator[Excerpt], number: int | None, with_teacher: bool
    ):
        self._model, self._stream, self._number = model, stream, number
        self._with_teacher = with_teacher
        self._drawn = 0
        # Of ever new ones the latest alone: a run may be long.
        self._excerpts: dict[int, Excerpt] = {}

    def __getitem__(self, iteration: int) -> Excerpt:
        """Of an iteration not before the latest, if they are ever new."""
        index = iteration % self._number if self._number else iteration
        while self._drawn <= index:
            if not self._number:
                self._excerpts.clear()
            self._excerpts[self._drawn] = next(self._stream)
            self._drawn += 1
        if self._with_teacher and self._excerpts[index].teacher is None:
            self._excerpts[index] = taught(self._model, self._excerpts[index])
        return self._excerpts[index]


def taught(model: nn.Module, excerpt: Excerpt) -> Excerpt:
    """The excerpt with the last hidden states that full attention has where what counts is told from.

    Each of its siblings too; what all begin with is read once.
    """
    known, shared = model.make_cache(), excerpt.shared
    longest = max(len(each.tokens) for each in excerpt.family)
    cache = [ExactCache.like(layer, longest) for layer in known]
    layout = known[0].layout
    for _ in _read_exactly(model, excerpt.tokens[:shared], cache, layout.segment):
        pass
    family = []
    for each in excerpt.family:
        first = each.counts_from(layout.capacity) - 1 - shared
        read = _read_exactly(model, each.tokens[shared:-1], copy.deepcopy(cache), layout.segment)
        states = [hidden[max(first - start, 0) :] for start, hidden in read if start + len(hidden) > first]
        family.append(replace(each, teacher=mx.concatenate(states).astype(mx.float16)))
    return replace(family[0], siblings=tuple(family[1:]))


def _read_exactly(
    model: nn.Module, tokens: list[int], cache: list[ExactCache], segment: int
) -> Iterator[tuple[int, mx.array]]:
    """Read tokens with full attention, a segment at a time: where it begins, and its hidden states (L, D)."""
    for start in range(0, len(tokens), segment):
        hidden = model.model(mx.array(tokens[start : start + segment])[None], cache=cache)[0]
        mx.eval(hidden)
        yield start, hidden
