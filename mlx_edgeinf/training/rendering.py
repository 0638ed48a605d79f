"""Exercises as the app puts them to the model: the document, then the question, then the answer.

Segmented supervised fine-tuning (EdgeInfinite-Instruct): the document is read into memory as
in inference, and only the answer is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..turns import PAGE_BREAK, Prompter
from .corpus import Corpus
from .formats import Exercise


class Renderer:
    """Turns exercises into the tokens that `engine.Engine` would make of them.

    Args:
        length: of an excerpt in tokens; of an exercise, the most.
        capacity: how many of them are read before there is a memory (`Layout.capacity`).
    """

    def __init__(self, tokenizer: TokenizerWrapper, length: int, capacity: int):
        self.tokenizer, self.length, self.capacity = tokenizer, length, capacity
        self._prompter = Prompter(tokenizer)

    def render(
        self, pages: Sequence[str], dialogues: Sequence[Sequence[str]]
    ) -> Iterator[tuple[list[int], int]]:
        """Of dialogues about a document their tokens, and where among them their last answers begin.

        A document that leaves no room for the longest of them loses its end, the same for all.
        """
        parts = [self._parts(dialogue) for dialogue in dialogues]
        room = self.length - max(sum(map(len, each)) for each in parts)
        document = self._document(pages, room)
        for opening, prompt, answer in parts:
            read = opening + document + prompt
            yield read + answer, len(read)

    def teaching(self, exercise: Exercise) -> tuple[tuple[str, ...], ...]:
        """The dialogues with an answer that is told with a memory, at least in part, and that fit."""
        document = len(self._document(exercise.pages, self.capacity + 2))
        least, most = self.capacity + 2 - document, self.length - len(self._prompter.text(PAGE_BREAK))
        return tuple(d for d in exercise.dialogues if least <= sum(map(len, self._parts(d))) <= most)

    def _document(self, pages: Sequence[str], room: int) -> list[int]:
        tokens: list[int] = []
        for page in pages:
            tokens += self._prompter.page(page)
            if len(tokens) > room:
                end = self._prompter.text(PAGE_BREAK)
                return tokens[: room - len(end)] + end
        return tokens

    def _parts(self, dialogue: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
        """What stands before the document, after it, and the last answer with the end of its turn."""
        *before, answer = dialogue
        prompter = self._prompter
        return prompter.opening, prompter.conversation(before), [*prompter.text(answer), prompter.end]


def teaching(documents: Corpus, renderer: Renderer) -> tuple[Corpus, int]:
    """The documents without the dialogues that teach the memory nothing; and how many those are."""
    kept: Corpus = {}
    left_out = 0
    for name, document in documents.items():
        if isinstance(document, Exercise):
            dialogues = renderer.teaching(document)
            left_out += len(document.dialogues) - len(dialogues)
            if dialogues:
                kept[name] = replace(document, dialogues=dialogues)
        else:
            kept[name] = document
    return kept, left_out
