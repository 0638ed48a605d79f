"""Training data as it is published: a JSON record of a known form becomes a text or an exercise.

    {"text"}                         a text, learnt by its next tokens (mlx-lm)
    {"prompt", "completion"}         a question and its answer (mlx-lm)
    {"messages": [...]}              a chat of user and assistant, its last answer learnt (mlx-lm)
    {"document", ...}                with either of the two: a long document they are about
    {"document", "questions"}        SQuALITY v1.3 (arXiv 2205.11465)
    {"meeting_transcripts", ...}     QMSum (arXiv 2104.05938)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..documents.plain import cut, plain_blocks

EXPECTED = (
    'is not a JSON object with a "text" field, with "prompt" and "completion" (and "document", the text '
    'that they are about), or with "messages"; nor is it SQuALITY\'s or QMSum\'s.'
)
CHAT = (
    'has "messages" that cannot be learnt from: after a system message, if any, user and assistant must '
    "take turns, the assistant last."
)
# QMSum's {vocalsound} and {disfmarker}: 15 % of the tokens, and in no transcript of a person's own.
MARKS = re.compile(r"\{[a-z]+\} ?")


class FormatError(ValueError):
    """A record of no known form; the message follows on the record's place ("Line 3 of ...")."""


@dataclass(frozen=True)
class Exercise:
    """A document and what is asked about it.

    pages: clean text, as the app reads a text file; empty if nothing is read before the question.
    dialogues: user and assistant texts in turn; the last one, the assistant's, is to be learnt.
    """

    pages: tuple[str, ...]
    dialogues: tuple[tuple[str, ...], ...]


def parse(line: str) -> str | Exercise:
    """What a JSON record teaches: a text, or answers to questions.

    Raises:
        FormatError: none of the forms above.
    """
    try:
        return _parsed(json.loads(line))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FormatError(EXPECTED) from error


def _parsed(record: object) -> str | Exercise:
    if not isinstance(record, dict):
        raise FormatError(EXPECTED)
    for fields, dialogues in FORMS:
        if fields <= record.keys():
            return Exercise(_pages(_document(record)), tuple(dialogues(record)))
    return _text(record["text"])


def _document(record: dict) -> str:
    if "meeting_transcripts" not in record:
        return _text(record.get("document", ""))
    turns = ((turn["speaker"], MARKS.sub("", turn["content"])) for turn in record["meeting_transcripts"])
    return "\n".join(f"{speaker}: {words.strip()}" for speaker, words in turns if words.strip())


def _pages(document: str) -> tuple[str, ...]:
    return tuple(page for page in cut(plain_blocks([document])[0], "\n") if page)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"A text is expected, not {value!r}.")
    # JSON can spell halves of characters, which no tokenizer takes.
    return value.encode(errors="replace").decode()


def _queries(record: dict) -> Iterator[tuple[str, ...]]:
    for query in record["general_query_list"] + record["specific_query_list"]:
        yield _text(query["query"]).strip(), _text(query["answer"]).strip()


def _responses(record: dict) -> Iterator[tuple[str, ...]]:
    # All four people's: what they say alike is the story's, what they do not is their own.
    for question in record["questions"]:
        for response in question["responses"]:
            yield _text(question["question_text"]).strip(), _text(response["response_text"]).strip()


def _completion(record: dict) -> Iterator[tuple[str, ...]]:
    yield _text(record["prompt"]), _text(record["completion"])


def _chat(record: dict) -> Iterator[tuple[str, ...]]:
    roles = [message["role"] for message in record["messages"]]
    texts = [_text(message["content"]) for message in record["messages"]]
    # The app has no turn for the system: its instructions stand at the head of the first question.
    system = [texts.pop(0)] if roles[:1] == ["system"] else []
    if not texts or roles[len(system) :] != ["user", "assistant"] * (len(texts) // 2):
        raise FormatError(CHAT)
    yield "\n\n".join([*system, texts[0]]), *texts[1:]


# Fields that tell a form, and the dialogues in it; mlx-lm's in the order in which it looks for them.
FORMS: tuple[tuple[set[str], Callable[[dict], Iterator[tuple[str, ...]]]], ...] = (
    ({"meeting_transcripts"}, _queries),
    ({"document", "questions"}, _responses),
    ({"prompt", "completion"}, _completion),
    ({"messages"}, _chat),
)
