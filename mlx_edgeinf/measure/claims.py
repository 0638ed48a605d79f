"""Sentences about documents whose evidence is known, to measure page links with.

    meetings         answers about a meeting, with the turns that support them    PART/qmsum
    meetings as one  the same, looked up in all the meetings as one document      PART/qmsum
    invented facts   put on known pages of a book and said in other words         PART/novels, PART/classics
    stories          people's answers about a story; their pages are not known    PART/squality
    reports          people's summaries; their pages are not known                PART/leval

PART is `train`, to choose on, or `dev`, to report on. Against each stands what should find no page:
sentences about another document of the same kind, and invented facts with the number or the place of another.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..documents.plain import PAGE, text_pages
from ..support import sentences
from ..training.corpus import Corpus, CorpusError, read_corpus
from ..training.formats import MARKS, Exercise
from .passages import chosen
from .tasks import PLACES

CHOOSING, REPORTING = "train", "dev"
FACT, RETOLD = "The {} archive is opened by the code {}.", "In {}, the code {} opens the archive."
FACTS, BOOKS = 5, 8
BEGINNING = 80
"""Characters by which two versions of a report are known."""
MOST_SENTENCES = 60
"""Of one document; of each meeting when all are one, a sixth."""

Own = Sequence[tuple[str, frozenset[int] | None]]
Said = tuple[Sequence[str], Own]
"""The pages of a document, and what is said of it."""


@dataclass(frozen=True)
class Case:
    """A document as pages of text, and what is said.

    own: sentences that are true of it, each with the indices of the pages that say so, None if not known.
    foreign: sentences of which it says nothing.
    """

    pages: Sequence[str]
    own: Own
    foreign: Sequence[str]


def cases(part: Path, documents: int) -> Iterator[tuple[str, dict[str, Case]]]:
    """Documents of each kind by name, so many at most.

    Raises:
        CorpusError: a folder is missing, or holds something else.
    """
    paths = _some(sorted((part / "qmsum").glob("*.json")), documents)
    meetings = {path.name: _meeting(path) for path in paths}
    if len(meetings) < 2:
        raise CorpusError(f"{part / 'qmsum'} holds no meetings: --data is the folder of train and dev.")
    stories = {name: _story(each) for name, each in _few(part / "squality", documents).items()}
    yield "meetings", _paired(meetings)
    yield "meetings as one", _as_one(meetings, stories)
    books = part / ("novels" if part.name == CHOOSING else "classics")
    yield "invented facts", {name: _invented(name, text) for name, text in _few(books, BOOKS).items()}
    yield "stories", _paired(stories)
    if reports := dict(_reports(part / "leval" / "gov_report_summ.jsonl")):
        yield "reports", _paired(reports)


def _meeting(path: Path) -> Said:
    """A meeting of QMSum: each sentence of an answer is supported by the pages of the answer's turns."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        pages, page_of = _paged([
            f"{turn['speaker']}: {MARKS.sub('', turn['content']).strip()}"
            for turn in record["meeting_transcripts"]
        ])  # fmt: skip
        own: list[tuple[str, frozenset[int] | None]] = []
        for query in record["specific_query_list"]:
            spans = [page_of[int(first) : int(last) + 1] for first, last in query["relevant_text_span"]]
            evidence = frozenset(page for span in spans for page in span)
            own += [(sentence, evidence) for sentence in _split(query["answer"])]
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} is not a meeting of QMSum's.") from error
    return pages, _some(own, MOST_SENTENCES)


def _paged(turns: Sequence[str]) -> tuple[list[str], list[int]]:
    """Pages of about as many characters as the app's, and for each turn the index of its page."""
    pages, page_of = [""], []
    for turn in turns:
        if pages[-1] and len(pages[-1]) + len(turn) > PAGE:
            pages.append("")
        pages[-1] += turn + "\n"
        page_of.append(len(pages) - 1)
    return pages, page_of


def _story(exercise: str | Exercise) -> Said:
    if isinstance(exercise, str):
        raise CorpusError("The stories are not SQuALITY's.")
    answers = dict(dialogue[:2] for dialogue in exercise.dialogues)
    own = [(sentence, None) for answer in answers.values() for sentence in _split(answer)]
    return exercise.pages, _some(own, MOST_SENTENCES)


def _reports(path: Path) -> Iterator[tuple[str, Said]]:
    """Reports of L-Eval; none of a later version of one, to which its summary would not be foreign."""
    if not path.exists():
        return
    beginnings: set[str] = set()
    with path.open(encoding="utf-8") as records:
        for number, record in enumerate(map(json.loads, records), 1):
            if (beginning := record["input"][:BEGINNING]) in beginnings:
                continue
            beginnings.add(beginning)
            own = [(sentence, None) for summary in record["outputs"] for sentence in _split(summary)]
            pages = text_pages(record["input"], markdown=False)
            yield f"{path.name}:{number}", (pages, _some(own, MOST_SENTENCES))


def _invented(name: str, text: str) -> Case:
    """A book with a fact at the end of some pages, and those facts retold, rightly and wrongly."""
    pages, rng = text_pages(text, markdown=name.endswith(".md")), random.Random(name)
    where = sorted(rng.sample(range(len(pages)), FACTS))
    places = rng.sample(PLACES, FACTS)
    right, wrong = rng.sample(range(10_000, 55_000), FACTS), rng.sample(range(55_000, 100_000), FACTS)
    for page, place, number in zip(where, places, right):
        pages[page] += "\n" + FACT.format(place, number)
    own = [(RETOLD.format(*fact), frozenset([page])) for page, *fact in zip(where, places, right)]
    exchanged = zip(places, [*right[1:], right[0]])
    return Case(pages, own, [RETOLD.format(*fact) for fact in (*exchanged, *zip(places, wrong))])


def _paired(said: dict[str, Said]) -> dict[str, Case]:
    """Each document against what is said of one half the list away."""
    names = list(said)
    others = [*names[len(names) // 2 :], *names[: len(names) // 2]]
    foreign = ([sentence for sentence, _ in said[other][1]] for other in others)
    return {name: Case(*said[name], sentences) for name, sentences in zip(names, foreign)}


def _as_one(meetings: dict[str, Said], stories: dict[str, Said]) -> dict[str, Case]:
    """All meetings as one long document, and stories against it."""
    pages: list[str] = []
    own: list[tuple[str, frozenset[int] | None]] = []
    for its_pages, its_own in meetings.values():
        few = _some(its_own, MOST_SENTENCES // 6)
        own += [(said, frozenset(page + len(pages) for page in evidence)) for said, evidence in few]
        pages += its_pages
    foreign = [said for _, its in stories.values() for said, _ in _some(its, MOST_SENTENCES // 6)]
    return {f"{len(meetings)} meetings": Case(pages, own, foreign)}


def _few(folder: Path, most: int) -> Corpus:
    corpus = read_corpus([folder])
    return {name: corpus[name] for name in chosen(corpus, min(most, len(corpus)), folder)}


def _some(items: Sequence, most: int) -> Sequence:
    """At most so many, evenly."""
    taken = min(most, len(items))
    return [items[index * len(items) // taken] for index in range(taken)]


def _split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]
