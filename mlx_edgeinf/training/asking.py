"""Training as the app asks: documents are read as in inference, and questions put to forks of what was read.

So the gates of questions are trained (`gate.AskedGates`), and those that a document is read with stay as
they are: what a memory holds does not depend on what is learnt here. Where the same gates read and answered
(24 iterations on the same answers), they closed 0.74 of the gap on books after it, and 1.38 before.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..cache import forked
from ..generation import read_on
from ..lexicon import Lexicon
from ..recall import ASKED, THROUGHOUT
from ..turns import Prompter
from .bptt import RECALLING, Counted, counted_from, segments
from .excerpts import Excerpt
from .recalling import check_recall, forget_pages, with_pages

# Tokens of an answer that are differentiated at a time: as much comes back as where gates of recall learn.
DIFFERENTIATED = RECALLING * THROUGHOUT // ASKED


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
            # Which comes first is the document's, so that one answer to each is by turns too.
            if (excerpt.read + number) % 2:
                forget_pages(asked)
            read_on(model, mx.array(each.tokens[each.read : each.learnt - 1]), asked)
            check_recall(asked)
            yield from counted_from(model, each, forked(asked, causal=True), each.learnt - 1, DIFFERENTIATED)
