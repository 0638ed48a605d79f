"""Invented facts, hidden in books that are read one behind the other.

For each length of a ladder facts of two kinds stand in the text up to there, evenly: single ones, each
about a thing of its own, and ones that differ from others by building and place alone. So a text holds
those of all lengths. What is asked about them:

    single          the number of a single fact
    alike           that of one among many alike
    three together  those of three single facts, a third of the text apart
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product
from pathlib import Path

from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..training.corpus import CorpusError, read_corpus
from ..turns import Prompter
from .passages import text_of
from .tasks import PLACES

LADDER = (8192, 32768, 131072, 1048576)
# Hidden of each kind for each length.
FACTS = 20
# Tokens of each length that are kept free, for what is asked and answered.
ASKING = 256

SINGLE, ALIKE, TOGETHER = KINDS = ("single", "alike", "three together")
NUMBERS = (
    "account number", "alarm code", "catalogue number", "customer number", "insurance number",
    "licence number", "postal code", "serial number", "tax number", "telephone number",
)  # fmt: skip
THINGS = """
    abbey airfield aquarium arena bakery ballroom barracks bathhouse boathouse bookshop brewery bridge
    butchery cabin canal casino castle cathedral cemetery chapel cinema circus citadel clinic college
    convent cottage courthouse creamery dairy distillery embassy factory farm ferry forge fortress foundry
    gallery garage gatehouse greenhouse gymnasium hermitage hospital hostel inn kiln laboratory laundry
    library lighthouse mansion market mill mine mint monastery observatory orchard palace parsonage
    pharmacy playhouse prison quarry refinery sawmill school shipyard smithy stable tannery tavern temple
    theatre vineyard warehouse windmill workshop
""".split()
BUILDINGS = ("archive", "harbour", "museum", "station")


@dataclass(frozen=True)
class Fact:
    """What was hidden: the number of something.

    depth: share of the text before it.
    """

    kind: str
    about: str
    number: str
    depth: float

    @property
    def sentence(self) -> str:
        return f"The {self.about} is {self.number}."


@dataclass(frozen=True)
class Gap:
    """The beginning of a sentence, and how it goes on according to what was hidden."""

    beginning: str
    answer: str


@dataclass(frozen=True)
class Text:
    """Tokens of books with facts in them, and the facts by the length at which they are asked for."""

    tokens: list[int]
    facts: dict[int, list[Fact]]

    def gaps(self, length: int) -> dict[str, list[Gap]]:
        """What is asked at a length, by kind."""
        of = {kind: [fact for fact in self.facts[length] if fact.kind == kind] for kind in (SINGLE, ALIKE)}
        asked = {kind: [_gap(fact) for fact in facts] for kind, facts in of.items()}
        single, third = of[SINGLE], len(of[SINGLE]) // 3
        turned = (single[at:] + single[:at] for at in (0, third, 2 * third))
        return asked | {TOGETHER: [_gap(*three) for three in zip(*turned)]}


def hide(
    book: Iterable[int], tokenizer: TokenizerWrapper, length: int, ladder: Sequence[int], seed: int = 0
) -> Text:
    """The first tokens of a book with facts in them, `length` together; seed: of the facts.

    The text is the same for all lengths, as far as it goes.

    Raises:
        CorpusError: the book is too short.
    """
    facts, prompter = dict(_facts(ladder, seed)), Prompter(tokenizer)
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


def _gap(fact: Fact, *others: Fact) -> Gap:
    if not others:
        return Gap(f"The {fact.about} is", fact.number)
    *before, last = (fact, *others)
    names, numbers = ", the ".join(each.about for each in before), ", ".join(each.number for each in before)
    return Gap(f"The {names} and the {last.about} are", f"{numbers} and {last.number}")


def _facts(ladder: Sequence[int], seed: int) -> Iterator[tuple[int, list[Fact]]]:
    """Facts by length, evenly deep; no two alike in what they are about, and none in number."""
    rng = random.Random(seed)
    things = rng.sample(THINGS, FACTS * len(ladder))
    single = iter([f"{rng.choice(NUMBERS)} of the {thing} in {rng.choice(PLACES)}" for thing in things])
    alike = iter(rng.sample([f"access code of the {b} in {p}" for b, p in product(BUILDINGS, PLACES)],
                            FACTS * len(ladder)))  # fmt: skip
    numbers = map(str, rng.sample(range(10_000, 100_000), 2 * FACTS * len(ladder)))
    for length in ladder:
        kinds = chain.from_iterable(zip([SINGLE] * FACTS, [ALIKE] * FACTS))
        yield length, [
            Fact(kind, next(single if kind == SINGLE else alike), next(numbers), (at + 0.5) / (2 * FACTS))
            for at, kind in enumerate(kinds)
        ]


def books(folder: Path, tokenizer: TokenizerWrapper, first: int = 0) -> Iterator[int]:
    """Tokens of all texts of a folder, one behind the other in the order of their names.

    first: number of the one to begin with; the earlier ones follow behind the last, which the first follows.
    """
    documents = sorted(read_corpus([folder]).items())
    first %= len(documents)
    for _, document in documents[first:] + documents[:first]:
        yield from tokenizer.encode(text_of(document) + "\n\n", add_special_tokens=False)
