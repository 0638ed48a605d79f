"""Tasks: documents, what is asked after each was read, and the answers known to be right.

    needles-TOKENS   invented facts in so many tokens of a book          DATA/classics
    gather-TOKENS    where somebody went, told in several places     DATA/classics
    lines-LINES      LongEval: the number in one of so many lines        DATA/longeval/LINES_lines.jsonl
    topics-TOPICS    LongEval: the first of so many topics of a talk     DATA/longeval/TOPICS_topics.jsonl
    squality         questions about a story, four people's answers      DATA/squality
    qmsum            questions about a meeting, one person's answer      DATA/qmsum

LongEval asks one question a record. Since reading is what takes time, `lines` asks for
lines in the middle of each fifth as well.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..training.corpus import CorpusError, read_corpus
from ..training.formats import Exercise
from .passages import chosen, passages

# Where needles stand and lines are asked for: the middle of each fifth.
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)

NEEDLE = "The access code of the archive in {place} is {number}."
NEEDLE_QUESTION = "What is the access code of the archive in {place}? Answer with the number alone."
PLACES = (
    "Antwerp", "Bergen", "Cartagena", "Dakar", "Erfurt", "Fukuoka", "Granada", "Hobart", "Izmir", "Jaipur",
    "Kaunas", "Lucerne", "Montevideo", "Nairobi", "Odense", "Palermo", "Quito", "Riga", "Salta", "Tampere",
)  # fmt: skip
VISIT = "{who} went to {place}."
VISIT_QUESTION = "To which places did {who} go? Answer with the names of the places alone, in their order."
TRAVELLERS = ("Aldous Finch", "Berta Lund", "Casper Holm")
# Kept free for what is hidden, the chat template, a question and its answer.
NEEDLE_TOKENS, VISIT_TOKENS = 256, 512

LINES_END, TOPICS_END = "Now the record is over.", "Now the record ends."
LINE = re.compile(r"^line (\S+): REGISTER_CONTENT is <(\d+)>$", re.MULTILINE)


@dataclass(frozen=True)
class Question:
    """What is asked after a document was read.

    answers: of several people, or the one that is right.
    depth: share of the document before what answers it; None if that is not one place.
    """

    text: str
    answers: tuple[str, ...]
    depth: float | None = None


@dataclass(frozen=True)
class Exam:
    """A document, as pages of text, and the questions about it."""

    pages: tuple[str, ...]
    questions: tuple[Question, ...]


def load_task(task: str, data: Path, documents: int, tokenizer: TokenizerWrapper) -> dict[str, Exam]:
    """Some documents of a task with their questions, by name.

    Args:
        task: one of those above, such as "needles-4096" or "squality".
        data: the folder that holds those above.
        documents: how many, evenly from their sorted names.

    Raises:
        CorpusError: there is no such task, or its data are missing, too few or of another form.
    """
    kind, _, size = task.partition("-")
    if kind in HIDDEN and size.isdigit():
        hidden = HIDDEN[kind]
        if int(size) <= hidden.tokens:
            raise CorpusError(f"{task} is too short: {hidden.tokens} tokens are kept for what is hidden.")
        books = passages(data / "classics", tokenizer, documents, int(size) - hidden.tokens)
        texts = {name: tokenizer.decode(tokens) for name, tokens in books.items()}
        return {name: hidden.exam(text, random.Random(f"{name} {size}")) for name, text in texts.items()}
    if kind in LONGEVAL and size.isdigit():
        path = data / "longeval" / f"{size}_{kind}.jsonl"
        exams = dict(_longeval(path, LONGEVAL[kind]))
    elif task in ("squality", "qmsum"):
        path = data / task
        corpus = read_corpus([path])
        asked = {name: found for name, found in corpus.items() if isinstance(found, Exercise)}
        exams = {name: _exam(found) for name, found in asked.items() if found.dialogues}
    else:
        raise CorpusError(
            f"There is no task {task}: choose needles-TOKENS, gather-TOKENS, lines-LINES, topics-TOPICS, "
            "squality or qmsum."
        )
    return {name: exams[name] for name in chosen(exams, documents, path)}


def is_gathering(task: str) -> bool:
    """Whether an answer is put together from many places."""
    return task.partition("-")[0] == "gather"


def is_retrieval(task: str) -> bool:
    """Whether one answer is right and all others are wrong."""
    return task.partition("-")[0] in ("needles", *LONGEVAL)


def _needles(text: str, rng: random.Random) -> Exam:
    """A text with an invented fact at each depth, each asked for."""
    facts = list(zip(rng.sample(PLACES, len(DEPTHS)), rng.sample(range(10_000, 100_000), len(DEPTHS))))
    sentences = [NEEDLE.format(place=place, number=number) for place, number in facts]
    hidden, depths = _hide(text, DEPTHS, sentences)
    questions = (
        Question(NEEDLE_QUESTION.format(place=place), (str(number),), depth)
        for (place, number), depth in zip(facts, depths)
    )
    return Exam((hidden,), tuple(questions))


def _visits(text: str, rng: random.Random) -> Exam:
    """A text with a journey of each traveller at each depth; all that one went to is asked for together."""
    places = rng.sample(PLACES, len(DEPTHS) * len(TRAVELLERS))
    journeys = list(zip(TRAVELLERS * len(DEPTHS), places))
    # Together in the second half of each fifth.
    apart = (DEPTHS[1] - DEPTHS[0]) / len(TRAVELLERS) / 2
    depths = [depth + apart * at for depth in DEPTHS for at in range(len(TRAVELLERS))]
    hidden, _ = _hide(text, depths, [VISIT.format(who=who, place=place) for who, place in journeys])
    questions = (
        Question(VISIT_QUESTION.format(who=who), (", ".join(place for w, place in journeys if w == who),))
        for who in TRAVELLERS
    )
    return Exam((hidden,), tuple(questions))


def _hide(text: str, depths: Sequence[float], sentences: Sequence[str]) -> tuple[str, list[float]]:
    """A text with a sentence behind the one that ends first after each depth; and where these stand."""
    parts, places, done = [], [], 0
    for depth, sentence in zip(depths, sentences, strict=True):
        at = max(int(depth * len(text)), done)
        end = text.find(". ", at)
        cut = at if end < 0 else end + 2
        parts += [text[done:cut], sentence, " "]
        places.append(cut / len(text))
        done = cut
    return "".join([*parts, text[done:]]), places


class Hidden(NamedTuple):
    """What is hidden in a passage of a book: how many tokens are kept free for it, and how it is done."""

    tokens: int
    exam: Callable[[str, random.Random], Exam]


HIDDEN = {"needles": Hidden(NEEDLE_TOKENS, _needles), "gather": Hidden(VISIT_TOKENS, _visits)}


def _lines(record: dict) -> Exam:
    """The line that LongEval asks for, and those at each depth."""
    text, asked = record["prompt"].split(LINES_END)
    lines, given = LINE.findall(text), record["random_idx"][0]
    wanted = {[name for name, _ in lines].index(given), *(int(depth * len(lines)) for depth in DEPTHS)}

    def question(index: int) -> Question:
        name, number = lines[index]
        words = (LINES_END + asked).strip().replace(f"line {given}?", f"line {name}?")
        return Question(words, (number,), index / len(lines))

    return Exam((text.strip(),), tuple(question(index) for index in sorted(wanted)))


def _topics(record: dict) -> Exam:
    text, asked = record["prompt"].split(TOPICS_END)
    return Exam((text.strip(),), (Question((TOPICS_END + asked).strip(), (record["topics"][0],), 0.0),))


LONGEVAL: dict[str, Callable[[dict], Exam]] = {"lines": _lines, "topics": _topics}


def _longeval(path: Path, exam: Callable[[dict], Exam]) -> Iterator[tuple[str, Exam]]:
    """Exams of the records of one file, by name."""
    with path.open(encoding="utf-8") as records:
        for number, record in enumerate(records, start=1):
            try:
                yield f"{path.name}:{number}", exam(json.loads(record))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CorpusError(f"Line {number} of {path} is not a record of LongEval's.") from error


def _exam(exercise: Exercise) -> Exam:
    """People's answers to one question put together."""
    answers: dict[str, list[str]] = {}
    for question, answer in exercise.dialogues:
        answers.setdefault(question, []).append(answer)
    return Exam(exercise.pages, tuple(Question(text, tuple(people)) for text, people in answers.items()))
