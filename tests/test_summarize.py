from __future__ import annotations

import re
from threading import Event
from types import SimpleNamespace

import pytest
from tiny import book, document

from mlx_edgeinf import summarize as home
from mlx_edgeinf.documents import DocumentError
from mlx_edgeinf.events import Draft, Finished, Reading
from mlx_edgeinf.summarize import APART as SHIPPED
from mlx_edgeinf.summarize import MILESTONES, STRATEGIES, parts, summarize

ALL = sorted(STRATEGIES)
FROM_MEMORY = ["one-shot", "rolling"]
BOOK = book(6)
SEGMENT = 16


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Two pages a part, and answers so short that three of them fit in a part."""
    monkeypatch.setattr(home, "PART_TOKENS", 130)
    monkeypatch.setattr(home, "PART_ANSWER_TOKENS", 4)
    monkeypatch.setattr(home, "LEAST_EXACT", 1)


@pytest.fixture
def questions(engine, monkeypatch) -> list[list[str]]:
    """What the engine is asked."""
    asked, generate = [], engine.generate

    def watched(texts, *args):
        asked.append(texts)
        return generate(texts, *args)

    monkeypatch.setattr(engine, "generate", watched)
    return asked


def run(engine, strategy: str, doc=BOOK, stop=None, cancel=None) -> list:
    """All events; Stop is pressed at the first event for which `stop` is true."""
    cancel, events = cancel or Event(), []
    for event in summarize(engine, doc, strategy, cancel, max_tokens=6):
        events.append(event)
        if stop and stop(event):
            cancel.set()
    return events


def of(kind: type, events: list) -> list:
    return [event for event in events if isinstance(event, kind)]


# -- whole runs ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize(
    "doc", [book(1), BOOK, document("a" * 62, "", "b" * 62)], ids=["short", "long", "blank"]
)
def test_every_run_ends_with_one_receipt(engine, strategy, doc):
    events = run(engine, strategy, doc)
    assert of(Finished, events) == events[-1:]
    finished, drafts = events[-1], of(Draft, events)
    assert finished.summary == drafts[-1].text and drafts[-1].final
    assert finished.memory.complete and not finished.receipt.stopped
    assert (finished.receipt.strategy, finished.receipt.model) == (strategy, engine.name)
    assert finished.receipt.pages_without_text == doc.pages_without_text
    assert finished.receipt.state_bytes > 0 and finished.receipt.peak_bytes > finished.receipt.state_bytes


@pytest.mark.parametrize("strategy", ALL)
def test_nothing_that_is_reported_goes_back(engine, strategy):
    events = run(engine, strategy)
    stats = [event.stats for event in of(Reading, events)]
    for name in ("pages", "tokens", "seconds", "full_cache_bytes"):
        values = [getattr(s, name) for s in stats]
        assert values == sorted(values), name
    assert all(s.pages_total == 6 and s.tokens <= s.tokens_total for s in stats)
    receipt = events[-1].receipt
    assert (receipt.pages_read, receipt.tokens_read) == (stats[-1].pages, stats[-1].tokens)


@pytest.mark.parametrize("strategy", ALL)
def test_drafts_never_claim_pages_that_were_not_read(engine, strategy):
    read = 0
    for event in run(engine, strategy):
        if isinstance(event, Reading):
            read = event.stats.pages
        elif isinstance(event, Draft):
            assert event.page == read


@pytest.mark.parametrize("strategy", FROM_MEMORY)
def test_a_long_document_has_a_draft_at_each_milestone(engine, strategy, questions):
    events = run(engine, strategy)
    places = [after.page for before, after in zip(events, events[1:]) if isinstance(before, Reading)
              and isinstance(after, Draft) and not after.final]  # fmt: skip
    assert places == [int(share * 6) for share in MILESTONES]
    assert len(questions) == len(MILESTONES) + 1


@pytest.mark.parametrize(
    "read, apart, pages",
    [(0, 1, [0, 1, 3, 4]), (0, 64, [1, 3, 4]), (0, 128, [3]), (100, 64, [3, 4]), (0, 250, [])],
)
def test_drafts_are_so_far_apart_that_reading_takes_longer(engine, monkeypatch, read, apart, pages):
    """And from where the reading was resumed, and from its end: of 6 pages of 64 tokens."""
    monkeypatch.setattr(home, "APART", apart)
    memory = engine.open(book(6))
    memory.position = read
    assert [int(place / 64) for place in home._milestones(memory)] == pages


@pytest.mark.parametrize(
    "tokens, places", [(12_000, []), (20_000, [10_000]), (150_000, [7_500, 37_500, 75_000, 112_500])]
)
def test_short_documents_have_fewer_drafts_in_the_program(tokens, places, monkeypatch):
    monkeypatch.setattr(home, "APART", SHIPPED)
    assert home._milestones(SimpleNamespace(tokens=range(tokens), position=0, long=True)) == places


def test_milestones_passed_in_one_segment_make_one_draft(engine, questions, monkeypatch):
    monkeypatch.setattr(home, "MILESTONES", (0.01, 0.02, 0.03, 0.04))
    places = {draft.page for draft in of(Draft, run(engine, "one-shot")) if not draft.final}
    assert places == {0} and len(questions) == 1 + 1


@pytest.mark.parametrize("strategy", FROM_MEMORY)
def test_a_short_document_is_summarised_once(engine, strategy, questions):
    events = run(engine, strategy, book(1))
    assert len(questions) == 1 and all(draft.final for draft in of(Draft, events))


def test_only_rolling_carries_the_draft_on(engine, questions):
    run(engine, "one-shot")
    assert {question for [question] in questions} == {home.QUESTION}
    questions.clear()
    events = run(engine, "rolling")
    drafts = of(Draft, events)
    wholes = [a.text for a, b in zip(drafts, drafts[1:]) if (b.page, b.final) != (a.page, a.final) and a.text]
    assert wholes and questions[0] == [home.QUESTION]
    assert questions[-1] == [home.REVISION.format(draft=wholes[-1])]


def test_map_reduce_asks_each_part_and_then_the_answers(engine, questions, monkeypatch):
    monkeypatch.setattr(engine, "exact_tokens", 130)
    events = run(engine, "map-reduce")
    assert questions == [[home.SECTION]] * 3 + [[home.UNION]]
    sections = [draft for draft in of(Draft, events) if not draft.final]
    assert [draft.page for draft in sections] == [2, 4, 6]
    answers = sections[-1].text.split("\n\n")
    assert [page.text for page in events[-1].memory.document.pages] == answers and len(answers) == 3


def test_map_reduce_condenses_answers_that_are_too_many(engine, questions, monkeypatch):
    monkeypatch.setattr(home, "PART_TOKENS", 64)
    monkeypatch.setattr(home, "PART_ANSWER_TOKENS", 8)
    finished = run(engine, "map-reduce")[-1]
    assert len(questions) > 6 + 1 and questions[-1] == [home.UNION]
    assert sum(engine.count(page.text) for page in finished.memory.document.pages) <= 64
    assert finished.receipt.pages_read == 6


def test_parts_are_no_longer_than_the_model_reads_exactly(engine, monkeypatch):
    monkeypatch.setattr(home, "PART_TOKENS", 10**6)
    opened, open_one = [], engine.open
    monkeypatch.setattr(engine, "open", lambda part: opened.append(part) or open_one(part))
    run(engine, "map-reduce")
    sizes = [sum(engine.count(page.text) for page in part.pages) for part in opened]
    assert len(sizes) > 2 and max(sizes) <= engine.exact_tokens


@pytest.mark.parametrize("strategy", ["map-reduce", "truncate"])
def test_a_model_that_reads_next_to_nothing_exactly_refuses_to(engine, strategy, monkeypatch):
    monkeypatch.setattr(home, "LEAST_EXACT", engine.exact_tokens + 1)
    with pytest.raises(DocumentError, match="choose a summary from memory"):
        run(engine, strategy)


def test_truncate_reads_what_fits_and_says_so(engine):
    finished = run(engine, "truncate")[-1]
    assert finished.memory.cache[0].folded == 0 and not finished.receipt.stopped
    assert finished.receipt.pages_read == 1
    assert finished.receipt.sentence().startswith("Read only pages 1 to 1 of 6 (64 of 372 tokens)")


# -- Stop ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL)
def test_stopped_before_the_start(engine, strategy):
    cancel = Event()
    cancel.set()
    [finished] = run(engine, strategy, cancel=cancel)
    assert (finished.summary, finished.memory, finished.receipt.stopped) == ("", None, True)
    assert finished.receipt.sentence().startswith("Stopped within page 1 of 6 (0 of 372 tokens)")


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("tokens", [1, 50])
def test_stopped_while_reading(engine, strategy, tokens):
    events = run(engine, strategy, stop=lambda e: isinstance(e, Reading) and e.stats.tokens >= tokens)
    finished, readings = events[-1], of(Reading, events)
    assert finished.receipt.stopped and of(Finished, events) == [finished]
    assert readings[-1].stats.tokens < tokens + SEGMENT
    assert finished.memory.position == readings[-1].stats.tokens == finished.receipt.tokens_read


@pytest.mark.parametrize(
    "strategy, final",
    [(name, final) for name in ALL for final in (True, False) if (name, final) != ("truncate", False)],
)
def test_stopped_while_writing(engine, strategy, final):
    events = run(engine, strategy, stop=lambda e: isinstance(e, Draft) and e.final == final)
    stopped = next(n for n, e in enumerate(events) if isinstance(e, Draft) and e.final == final)
    assert events[stopped + 1 :] == [events[-1]] and isinstance(events[-1], Finished)
    assert events[-1].receipt.stopped and events[-1].memory.position > 0
    assert events[-1].receipt.pages_read == of(Draft, events)[-1].page


@pytest.mark.parametrize("strategy", FROM_MEMORY)
def test_a_draft_cut_short_does_not_replace_a_whole_one(engine, strategy):
    drafts = of(Draft, events := run(engine, strategy, stop=lambda e: isinstance(e, Draft) and e.page > 1))
    assert events[-1].summary == [d for d in drafts if d.page <= 1][-1].text != drafts[-1].text


def test_stopped_between_the_parts_keeps_the_part_before(engine, monkeypatch):
    monkeypatch.setattr(engine, "exact_tokens", 130)
    events = run(engine, "map-reduce", stop=lambda e: isinstance(e, Draft) and e.page == 4)
    assert [page.number for page in events[-1].memory.document.pages] == [3, 4]
    assert events[-1].memory.complete and events[-1].receipt.pages_read == 4


def test_what_was_stopped_can_be_read_on_and_asked(engine):
    memory = run(engine, "one-shot", stop=lambda e: isinstance(e, Reading) and e.stats.pages == 2)[-1].memory
    assert list(engine.generate(["Who?"], memory, 4)) and memory.pages_read == 2
    list(engine.ingest(memory))
    assert memory.complete


# -- failures ------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL)
def test_a_document_without_text_is_refused_in_one_sentence(engine, strategy):
    with pytest.raises(DocumentError) as refusal:
        run(engine, strategy, document("", " 12 ", ""))
    assert re.fullmatch(r"book\.pdf has no text [^.]*\.", str(refusal.value))


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("work", ["_read_segment", "_spoken"])
def test_a_failure_of_the_engine_is_not_swallowed(engine, strategy, work, monkeypatch):
    def broken(*args, **options):
        raise MemoryError(work)

    monkeypatch.setattr(engine, work, broken)
    with pytest.raises(MemoryError, match=work):
        run(engine, strategy)


# -- parts ---------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [
    [10, 10, 10, 10], [0, 50, 0, 0, 20, 20], [60], [0, 0], [25, 0, 60, 5, 30, 0], [41, 41], [40, 1],
    [60, 0, 0],
])  # fmt: skip
def test_parts_keep_every_page_in_order_and_their_size(lengths):
    doc = document(*("x" * length for length in lengths))
    found = list(parts(doc, len, 40))
    assert [page for part in found for page in part.pages] == list(doc.pages)
    for part in found:
        with_text = [page for page in part.pages if page.text]
        assert len(part.text.replace("\n", "")) <= 40 or len(with_text) == 1
        assert with_text or len(found) == 1
    for part, following in zip(found, found[1:]):
        first = next(page for page in following.pages if page.text)
        assert sum(len(page.text) for page in part.pages) + len(first.text) > 40
