"""The base model's chat template, cut into the pieces between texts.

A document is read long before its question is known, so the prompt is never
rendered whole: the opening is read once, then the document, and each question
continues from a fork.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlx_lm.tokenizer_utils import TokenizerWrapper

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
        """Cut the tokenizer's chat template; plain labels where it has none."""
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
        opening, rest = text.split(first)
        _, rest = rest.split(reply)
        question, answer = rest.split(second)
        return cls(opening, answer, question)
