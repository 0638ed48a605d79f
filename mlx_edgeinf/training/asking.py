"""Training as the app asks: documents are read as in inference, and questions put to forks of what was read.

So the gates of questions are trained (`gate.AskedGates`), and those that a document is read with stay as
they are: what a memory holds does not depend on what is learnt here.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..cache import EdgeCache, forked
from ..generation import read_on
from ..lexicon import Lexicon
from ..turns import Prompter
from .bptt import RECALLING, Counted, counted_from, segments
from .excerpts import Excerpt
from .recalling import check_recall, with_pages


class Asking:
    """How answers are learnt: a `bptt.Reading` of exercises.

    Makes the gates of questions what is trained, and `model.make_cache` one of caches that keep on disk what
    leaves the window.
    """

    def __init__(self, model: nn.Module, tokenizer: TokenizerWrapper):
        self._lexicon = Lexicon(Prompter(tokenizer))
        with_pages(model)
        for layer in model.layers:
            layer.self_attn.memory_gate.freeze()
            layer.self_attn.asked.unfreeze()

    def __call__(self, model: nn.Module, excerpt: Excerpt) -> Iterator[Counted]:
        """The segments of the answers of an excerpt and its siblings; of every other without exact recall.

        Raises:
            StoreError: what left the window could not be kept or read again.
        """
        cache, document = model.make_cache(), excerpt.tokens[: excerpt.read]
        for inputs, _ in segments(excerpt.tokens[: excerpt.read + 1], cache[0].layout):
            read_on(model, inputs, cache)
        check_recall(cache)
        for number, each in enumerate(excerpt.family):
            asked = forked(cache, named=self._lexicon.named(document, each.questions, cache))
            if number % 2:
                _forget_pages(asked)
            read_on(model, mx.array(each.tokens[each.read : each.learnt - 1]), asked)
            check_recall(asked)
            yield from counted_from(model, each, forked(asked, causal=True), each.learnt - 1, RECALLING)


def _forget_pages(cache: list[EdgeCache]) -> None:
    """Go on from the memory alone, as where recall is off."""
    for layer in cache:
        layer.recall = None
