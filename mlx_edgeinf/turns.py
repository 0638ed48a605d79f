"""The base model's chat template, cut into the pieces between texts.

A document is read long before its question is known, so the prompt is never
rendered whole: the opening is read once, then the document, and each question
continues from a fork.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_lm.tokenizer_utils import TokenizerWrapper

from .basemodel import UnsupportedModel

PAGE_BREAK = "\n\n"

# Texts that no template and no tokenizer treats specially.
_MARKS = ("FIRSTQUESTION", "FIRSTANSWER", "SECONDQUESTION")


@dataclass(frozen=True)
class Turns:
    """What stands around the texts of a conversation.

    opening: before the first user text. answer: from a user text to the
    assistant's. question: from the assistant's text to the next user text.
    """

    opening: str
    answer: str
    question: str

    @classmethod
    def of(cls, tokenizer: TokenizerWrapper) -> Turns:
        """Cut the tokenizer's chat template; plain labels where it has none.

        Raises:
            UnsupportedModel: the template does not show each text once, as it is.
        """
        if tokenizer.chat_template is None:
            return cls(tokenizer.bos_token or "", "\n\nAnswer: ", "\n\nQuestion: ")
        first, reply, second = _MARKS
        messages = [
            {"role": "user", "content": first},
            {"role": "assistant", "content": reply},
            {"role": "user", "content": second},
        ]
        # Answers at once: mlx-lm has models that can think aloud do so, where it is not told.
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        if [text.count(mark) for mark in _MARKS] != [1, 1, 1]:
            raise UnsupportedModel(
                "This model's chat template does not show what people and the model say as it is, so there "
                "is no place in it for a document: choose another model."
            )
        opening, rest = text.split(first)
        _, rest = rest.split(reply)
        question, answer = rest.split(second)
        return cls(opening, answer, question)


class Prompter:
    """Tokens of a conversation about a document, in the pieces in which the model reads them.

    What looks like a template's token in a text of people or documents stays text, so that no
    document can end its turn and speak for the user.
    """

    def __init__(self, tokenizer: TokenizerWrapper):
        turns, self._tokenizer = Turns.of(tokenizer), tokenizer
        self._plain = copy.deepcopy(tokenizer.backend_tokenizer)
        self._plain.encode_special_tokens = True
        self.opening = self._template(turns.opening)
        self._answer = self._template(turns.answer)
        self._question = self._template(turns.question)
        ends = self._question[:1]
        # What ends an answer: the template's own token, where it begins the next turn.
        self.end = ends[0] if set(ends) & set(tokenizer.eos_token_ids) else tokenizer.eos_token_id

    def spellings(self) -> list[str]:
        """The text of each token, by number; of what is none by itself, how the tokenizer writes it."""
        tokens = range(max(self._plain.get_vocab().values()) + 1)
        texts = self._plain.decode_batch([[token] for token in tokens], skip_special_tokens=False)
        return [self._plain.id_to_token(at) if "\ufffd" in text else text for at, text in enumerate(texts)]

    def text(self, text: str) -> list[int]:
        """Of a text of people or documents."""
        # JSON and command lines can hold halves of characters, a tokenizer cannot.
        whole = text.encode("utf-8", "replace").decode()
        return self._plain.encode(whole, add_special_tokens=False).ids

    def page(self, text: str) -> list[int]:
        """Of a page of a document, with what parts it from the next; nothing if it is empty."""
        return self.text(text + PAGE_BREAK) if text else []

    def conversation(self, texts: Sequence[str]) -> list[int]:
        """Of user and assistant texts in turn, from behind the opening, up to the next text."""
        following = (self._answer, self._question)
        return [token for at, text in enumerate(texts) for token in self.text(text) + following[at % 2]]

    def _template(self, piece: str) -> list[int]:
        return self._tokenizer.encode(piece, add_special_tokens=False)
