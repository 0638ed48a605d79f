"""Lexical retrieval: the pages on disk that a question names, those that share its rare words.

What one line of many says is asked for by the words in it. Attention, estimated for a page as a whole, does
not find that line among thousands of pages; its words do, in documents of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..pagestore.shape import StoreShape
from .recall import ASKED, Recall

if TYPE_CHECKING:
    from ..turns import Prompter

# Of what comes back at most half is named.
MOST = ASKED // 2 // StoreShape.page_tokens
# Pages that hold less of what is asked for than this share of what the best of them holds are not named: what
# is like the right one leads a small model astray. Sixty facts in 32k of 98k tokens got, with 0, 0.5 and 0.7:
# single ones -0.41, -0.31 and -0.23 nats a token, of one kind -0.61, -0.57 and -0.45, three together -0.82,
# -0.79 and -0.94; answers about one story -3.207, -3.208 and -3.211. In 8k tokens single ones lose 0.03.
WORTH = 0.5
# Words on a larger share of the pages name none of them.
COMMON = 0.1
# What an earlier question's words weigh beside those of the next one: "And who told it?" goes on about them.
FADING = 0.5


class Lexicon:
    """The tokens of a model as words to look for: capitals and spaces make no difference."""

    def __init__(self, prompter: Prompter):
        self._prompter = prompter
        texts = [text.strip().lower() for text in prompter.spellings()]
        texts = [text if any(map(str.isalnum, text)) else "" for text in texts]
        # (vocabulary,): a number for each token's text, 0 for what is no word.
        self._words = np.unique(["", *texts], return_inverse=True)[1][1:]

    def named(self, tokens: Sequence[int], questions: Sequence[str], recall: Recall | None) -> np.ndarray:
        """Pages (k,) named by the last question, and less by those before it; best first.

        Args:
            tokens: what was read, or more.
            recall: of any layer; k <= MOST, 0 where there is none.
        """
        if not recall:
            return np.zeros(0, int)
        size = recall.pages.shape.page_tokens
        count = recall.index.tokens // size
        evicted = tokens[recall.first_token(0) : recall.first_token(count)]
        evicted = np.array(evicted, int).reshape(count, size)
        return _best(self._matches(self._words.take(evicted, mode="clip"), self._weights(questions)))

    def _weights(self, questions: Sequence[str]) -> dict[int, float]:
        """Words that are asked for, and how much each counts: a word of several questions as in the last."""
        weights: dict[int, float] = {}
        for at, question in enumerate(questions):
            # With other capitals too, which cut a word into other tokens.
            forms = (question, question.lower(), question.title())
            asked = {token for form in forms for token in self._prompter.text(f" {form}")}
            words = filter(None, self._words[list(asked)].tolist())
            weights |= dict.fromkeys(words, FADING ** (len(questions) - 1 - at))
        return weights

    def _matches(self, pages: np.ndarray, weights: dict[int, float]) -> np.ndarray:
        """(n,): how much of what is asked for each of pages (n, P) and the page behind it hold together.

        The rarer, the more: weight * ln((n - m + 0.5) / (m + 0.5) + 1) for a word on m of n pages (Okapi
        BM25, Robertson and Zaragoza 2009, for passages of one length).
        """
        number, asked = len(pages), len(weights)
        if not asked:
            return np.zeros(number)
        place = np.full(self._words.max() + 1, -1)
        place[list(weights)] = np.arange(asked)
        found = place[pages]
        # A number for each word on each page, once.
        hits = np.unique((np.arange(number)[:, None] * asked + found)[found >= 0])
        counts = np.bincount(hits % asked, minlength=asked)
        rarity = np.log((number - counts + 0.5) / (counts + 0.5) + 1) * (counts <= COMMON * number)
        # On the page before too: a sentence may go on behind a page. Where that holds no word itself it comes
        # as what was said before: single facts in 8k tokens got -0.40 nats a token with it and -0.41 without,
        # those of one kind -0.60 and -0.62.
        hits = np.unique(np.concatenate([hits, hits[hits >= asked] - asked]))
        page, word = np.divmod(hits, asked)
        return np.bincount(page, (np.array(list(weights.values())) * rarity)[word], minlength=number)


def _best(matches: np.ndarray) -> np.ndarray:
    """The best pages, each with the one behind it."""
    order = np.argsort(-matches, kind="stable")[:MOST]
    order = order[(matches[order] > 0) & (matches[order] >= WORTH * matches.max(initial=0))]
    pairs = np.stack([order, order + 1], axis=1).ravel()
    pages = np.array(list(dict.fromkeys(pairs[pairs < len(matches)].tolist())), int)
    return pages[:MOST]
