"""Invented facts, hidden in books that are read one behind the other.

For each length of a ladder some facts stand in the text up to there, evenly; so a text holds those of all
lengths, and the ones of other lengths, or of the same building or place, are there to distract.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..training.corpus import CorpusError, read_corpus
from ..turns import Prompter
from .passages import text_of
from .tasks import PLACES

LADDER = (8192, 32768, 131072, 1048576)
# Hidden for each length.
FACTS = 20
# Tokens of each length that are kept free, for what is asked and answered.
ASKING = 256
FACT = "The access code of the {building} in {place} is"
BUILDINGS = ("archive", "harbour", "museum", "station")


@dataclass(frozen=True)
class Fact:
    """What was hidden: the beginning of its sentence, and the number that ends it.

    depth: share of the text before it.
    """

    beginning: str
    number: str
    depth: float

    @property
    def sentence(self) -> str:
        return f"{self.beginning} {self.number}."


@dataclass(frozen=True)
class Text:
    """Tokens of books with facts in them, and the facts by the length at which they are asked for."""

    tokens: list[int]
    facts: dict[int, list[Fact]]


def hide(
    book: Iterable[int], tokenizer: TokenizerWrapper, length: int, ladder: Sequence[int]
) -> Text:
    """The first tokens of a book with facts in them, `length` together.

    The text is the same for all lengths, as far as it goes.

    Raises:
        CorpusError: the book is too short.
    """
    facts, prompter = dict(_facts(ladder)), Prompter(tokenizer)
    every = ((int(fact.depth * (at - ASKING)), fact) for at, some in facts.items() for fact in some)
    places = sorted(((place, fact) for place, fact in every if place < length), key=lambda each: each[0])
    ends = {tokenizer.encode(mark, add_special_tokens=False)[-1] for mark in ".!?;"}
    tokens, source = list(prompter.opening), iter(book)
    for place, fact in places:
        for token in source:
            tokens.append(token)
            if len(tokens) >= place and token in ends:
                break
        else:
            raise CorpusError(f"The texts end after {len(tokens)} tokens and {length} are to be read.")
        tokens += prompter.text(f" {fact.sentence}")
    tokens += islice(source, max(length - len(tokens), 0))
    if len(tokens) < length:
        raise CorpusError(f"The texts end after {len(tokens)} tokens and {length} are to be read.")
    return Text(tokens[:length], facts)


def _facts(ladder: Sequence[int]) -> Iterator[tuple[int, list[Fact]]]:
    """Facts by length, evenly deep; no two alike in place and building, and none in number."""
    rng = random.Random(0)
    about = iter(rng.sample(list(product(BUILDINGS, PLACES)), FACTS * len(ladder)))
    numbers = iter(rng.sample(range(10_000, 100_000), FACTS * len(ladder)))
    for length in ladder:
        facts = []
        for at, (building, place), number in zip(range(FACTS), about, numbers):
            facts.append(Fact(FACT.format(building=building, place=place), str(number), (at + 0.5) / FACTS))
        yield length, facts


def books(folder: Path, tokenizer: TokenizerWrapper) -> Iterator[int]:
    """Tokens of all texts of a folder, one behind the other in the order of their names."""
    for _, document in sorted(read_corpus([folder]).items()):
        yield from tokenizer.encode(text_of(document) + "\n\n", add_special_tokens=False)
