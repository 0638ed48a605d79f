"""OpenAI's shapes: what may be asked, and what is answered.

Answers are always the likeliest, so what steers chance (temperature, top_p, seed, penalties) and what
is for accounting (user, metadata, store, service_tier) is ignored, and so is what is unknown here.
What would make the answer another thing (tools, formats, several choices) is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .errors import ApiError

MOST_TOKENS = 65_536
USUAL_TOKENS = 1024

# Refused, but for the values that ask for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "logprobs": (False,),
    "top_logprobs": (0,), "logit_bias": ({},), "modalities": (["text"],), "audio": (), "prediction": (),
    "web_search_options": (),
}  # fmt: skip


class File(BaseModel):
    """A document: one that was uploaded, or all of it in base64."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str = "document"


class TextPart(BaseModel):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class FilePart(BaseModel):
    """A document that a message is about."""

    type: Literal["file"]
    file: File


Part = Annotated[TextPart | FilePart, Field(discriminator="type")]


class Message(BaseModel):
    """One message; a text alone is taken as its only part."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[Part]

    @field_validator("content", mode="before")
    @classmethod
    def _parted(cls, content: Any) -> Any:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def text(self) -> str:
        """All of its text."""
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))


class StreamOptions(BaseModel):
    """What a stream brings beside the text."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] = []

    @field_validator("stream_options", mode="before")
    @classmethod
    def _given(cls, options: Any) -> Any:
        return {} if options is None else options

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop or []

    @property
    def most_tokens(self) -> int:
        """Length of the answer at most."""
        return self.max_completion_tokens or self.max_tokens or USUAL_TOKENS

    @property
    def files(self) -> list[File]:
        """The documents of all messages."""
        return [part.file for each in self.messages for part in each.content if isinstance(part, FilePart)]

    def refuse_unsupported(self) -> None:
        """Raise `ApiError` if anything is asked for that would make the answer another thing."""
        for name, neutral in REFUSED.items():
            value = self.model_extra.get(name)
            if value is not None and value not in neutral:
                raise ApiError(
                    400, f"{name} is not supported here: leave it out.", name, "unsupported_parameter"
                )

    def texts(self) -> list[str]:
        """User and assistant texts in turn, the last one the user's.

        A base model's template need not know a system's turn: its text opens the user's.

        Raises:
            ApiError: the last message is not the user's, or says nothing.
        """
        if self.messages[-1].role == "assistant" or not self.messages[-1].text.strip():
            raise ApiError(400, "The last message must be a question of the user's, in words.", "messages")
        return [_joined(turn) for turn in self._turns()]

    def asked(self) -> list[str]:
        """Of each of the user's texts what the user says: instructions are not what a document is asked."""
        return [_joined(each for each in turn if each.role == "user") for turn in self._turns()[::2]]

    def _turns(self) -> list[list[Message]]:
        """Messages behind one another that are the assistant's, or not; the first ones are not."""
        turns: list[list[Message]] = [[]]
        for message in self.messages:
            answered = message.role == "assistant"
            if answered == (len(turns) % 2 == 1):
                turns.append([])
            turns[-1].append(message)
        return turns


def _joined(messages: Iterable[Message]) -> str:
    return "\n\n".join(filter(None, (message.text for message in messages)))


@dataclass(frozen=True)
class Ended:
    """How an answer ended. Tokens of prompt and answer; cached: those of the prompt read before.

    consulted: pages, from 0, that exact recall went back to; see `Piece`.
    """

    reason: str
    prompt_tokens: int
    tokens: int
    cached: int
    consulted: tuple[int, ...] = ()

    def usage(self) -> dict[str, Any]:
        """OpenAI's count."""
        return {
            "prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens + self.tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }  # fmt: skip

    def beside(self) -> dict[str, Any]:
        """What OpenAI's answers do not have, and their clients pass on: pages as people count them."""
        return {"pages_consulted": [page + 1 for page in self.consulted]} if self.consulted else {}


class Completion:
    """One answer on its way out, whole or in chunks."""

    def __init__(self, model: str):
        self._head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, text: str, ended: Ended) -> dict[str, Any]:
        """All of it."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended.reason}
        answer = {"object": "chat.completion", "choices": [choice], "usage": ended.usage()}
        return self._head | answer | ended.beside()

    def chunk(self, delta: dict[str, str], ended: Ended | None = None) -> dict[str, Any]:
        """A piece of it; the last one tells how it ended."""
        reason, beside = (ended.reason, ended.beside()) if ended else (None, {})
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]} | beside

    def count(self, ended: Ended) -> dict[str, Any]:
        """The last piece, which has no text but the usage."""
        return self._head | {"object": "chat.completion.chunk", "choices": [], "usage": ended.usage()}
