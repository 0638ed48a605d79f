"""Which pages on disk a question names: those that share its rare words.

What one line of many says is asked for by the words in it. Attention, estimated for a page as a whole, does
not find that line among thousands of pages; its words do, in documents of any length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cache import EdgeCache
from .turns import Prompter

# Pages that are named at most.
MOST = 32
# What an earlier question's words weigh beside those of the next one: "And who told it?" goes on about them.
FADING = 0.5


class Namer:
    """Finds words of a question in a document, token by token; capitals and spaces make no difference."""

    def __init__(self, prompter: Prompter):
        self._prompter = prompter
        vocabulary = prompter.vocabulary
        plain = {text: number for number, text in enumerate(sorted({_plain(text) for text in vocabulary}))}
        self._alike = np.zeros(max(vocabulary.values()) + 1, np.int32)
        for text, token in vocabulary.items():
            self._alike[token] = plain[_plain(text)]

    def named(self, tokens: Sequence[int], questions: Sequence[str], cache: list[EdgeCache]) -> np.ndarray:
        """Pages (k,) of the tokens read into a cache that the last of some questions names, best first.

        k <= MOST; none where nothing is recalled.
        """
        if not (recall := cache[0].recall):
            return np.zeros(0, int)
        # The sinks never leave the window, so what is on disk begins behind them.
        evicted = np.array(tokens[cache[0].layout.sinks : cache[0].layout.sinks + recall.index.tokens], int)
        size = recall.pages.shape.page_tokens
        pages = self._alike[evicted[: len(evicted) // size * size]].reshape(-1, size)
        return _best(_matches(pages, self._weights(questions)))

    def _weights(self, questions: Sequence[str]) -> dict[int, float]:
        """Of all that is asked for, how much it counts: of what several ask for, as for the last of them."""
        weights: dict[int, float] = {}
        for age, question in reversed(list(enumerate(reversed(questions)))):
            # With capitals too, which cut a name into other tokens than without.
            asked = {*self._prompter.text(f" {question}"), *self._prompter.text(f" {question.title()}")}
            weights |= dict.fromkeys(self._alike[list(asked)].tolist(), FADING**age)
        return weights


def _matches(pages: np.ndarray, weights: dict[int, float]) -> np.ndarray:
    """(n,): how much of what is asked for each of pages (n, P) and the page behind it hold together.

    The rarer, the more: weight * ln((n - m + 0.5) / (m + 0.5) + 1) for what is on m of n pages (Okapi BM25,
    Robertson and Zaragoza 2009, for passages of one length).
    """
    scores = np.zeros(len(pages))
    for asked, weight in weights.items():
        there = (pages == asked).any(axis=1)
        rarity = np.log((len(pages) - there.sum() + 0.5) / (there.sum() + 0.5) + 1)
        # A sentence may go on behind the page.
        there[:-1] |= there[1:]
        scores += weight * rarity * there
    return scores


def _best(matches: np.ndarray) -> np.ndarray:
    """The best pages, each with the one behind it."""
    order = np.argsort(-matches, kind="stable")[:MOST]
    order = order[matches[order] > 0]
    pairs = np.stack([order, order + 1], axis=1).ravel()
    pages = np.array(list(dict.fromkeys(pairs[pairs < len(matches)].tolist())), int)
    return pages[:MOST]


def _plain(text: str) -> str:
    """A token of the vocabulary without its space, which is written as one of these."""
    return text.lstrip("Ġ▁ ").lower()
