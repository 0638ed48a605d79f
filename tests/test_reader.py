from __future__ import annotations

from dataclasses import replace
from threading import Event

import pytest
from test_engine import same, state
from tiny import book

from mlx_edgeinf import summarize as home
from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.events import Draft, Finished, Reading
from mlx_edgeinf.library import Library, LibraryError, Reader, reader
from mlx_edgeinf.library.reader import Pace
from mlx_edgeinf.pagestore import PageStore
from mlx_edgeinf.summarize import summarize

BOOK = book(6)


@pytest.fixture
def library(library):
    library.add(BOOK)
    return library


@pytest.fixture(autouse=True)
def checkpoint_after_every_segment(monkeypatch):
    monkeypatch.setattr(reader, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(reader, "SHARE", 1e9)
    monkeypatch.setattr(reader, "MARK_SHARE", 1e9)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Two pages a part, and answers so short that three of them fit in a part."""
    monkeypatch.setattr(home, "PART_TOKENS", 130)
    monkeypatch.setattr(home, "PART_ANSWER_TOKENS", 4)
    monkeypatch.setattr(home, "LEAST_EXACT", 1)


def made(library: Library, engine: Engine) -> Reader:
    return Reader(library, engine, library.entries()[0].id)


def run(reading, strategy: str = "one-shot", stop_at: int = 10_000) -> list:
    """All events of a summary, stopped once so many tokens were read."""
    cancel, events = Event(), []
    for event in summarize(reading, reading.document, strategy, cancel, max_tokens=4):
        events.append(event)
        if isinstance(event, Reading) and event.stats.tokens >= stop_at:
            cancel.set()
    return events


def of(kind: type, events: list) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("strategy", ["one-shot", "rolling"])
def test_a_summary_that_was_stopped_goes_on_to_the_same_memory(engine, library, strategy):
    first = run(made(library, engine), strategy, stop_at=150)
    second = run(made(library, engine), strategy)
    places = [event.stats.tokens for event in of(Reading, second)]
    assert places[0] == of(Reading, first)[-1].stats.tokens and places[-1] == 6 * 64
    assert places == sorted(set(places))
    whole = run(engine_for(engine))
    assert same(state(second[-1].memory), state(whole[-1].memory))
    assert second[-1].receipt.tokens_read == 6 * 64 and not second[-1].receipt.stopped
    assert second[-1].receipt.seconds > first[-1].receipt.seconds


@pytest.mark.parametrize("stop_at", [150, 10_000], ids=["stopped", "to the end"])
def test_what_was_read_is_saved_before_its_pages_are_let_go_of(engine, library, monkeypatch, stop_at):
    """Another window that opens them then would cut them back to what was saved before."""
    settle, saved = PageStore.settle, []

    def settling(store):
        reading = library.reading_of(engine, library.entries()[0].id)
        saved.append((store.tokens, reading.position if reading else 0))
        settle(store)

    monkeypatch.setattr(engine, "recall_bytes", 10**9)
    monkeypatch.setattr(Pace, "step", lambda *_, **__: False)
    monkeypatch.setattr(PageStore, "settle", settling)
    finished = run(made(library, engine), stop_at=stop_at)[-1]
    assert saved[-1] == (finished.memory.pages.tokens, finished.memory.position) and saved[-1][0] > 0


def engine_for(engine: Engine) -> Engine:
    """The engine itself, with the document where a reader has it."""
    engine.document = BOOK
    return engine


def test_drafts_of_what_was_read_before_are_not_written_again(engine, library):
    first = run(made(library, engine), stop_at=200)
    second = run(made(library, engine))
    pages = lambda events: [event.page for event in of(Draft, events) if not event.final]  # noqa: E731
    assert sorted({*pages(first), *pages(second)}) == [0, 1, 3, 4] and not {*pages(first)} & {*pages(second)}


def test_a_document_that_was_read_is_summarised_again_without_reading(engine, library, monkeypatch):
    first = run(made(library, engine))[-1]
    monkeypatch.setattr(engine, "_read_segment", lambda memory: 1 / 0)
    events = run(made(library, engine))
    assert isinstance(events[0], Reading) and len(of(Reading, events)) == 1
    assert all(draft.final for draft in of(Draft, events)) and events[-1].summary == first.summary
    assert events[-1].receipt.tokens_read == 6 * 64 == events[-1].receipt.tokens


def test_stopped_before_the_first_segment_the_receipt_counts_what_was_read_before(engine, library):
    before = run(made(library, engine), stop_at=150)[-1].receipt
    cancel = Event()
    cancel.set()
    reading = made(library, engine)
    finished = list(summarize(reading, reading.document, cancel=cancel))[-1]
    assert finished.receipt.tokens_read == before.tokens_read and finished.memory.position > 0


@pytest.mark.parametrize("strategy", ["map-reduce", "truncate"])
def test_parts_of_the_document_are_no_readings_until_the_run_ends(engine, library, strategy):
    reading = made(library, engine)
    finished = run(reading, strategy)[-1]
    id = library.entries()[0].id
    assert library.readings(id) == []
    library.finish(engine, id, finished)
    [kept] = library.readings(id)
    assert not kept.whole and same(state(library.open(engine, kept.id)), state(finished.memory))


def test_a_short_document_is_kept_too(engine, library):
    library.add(replace(book(1), sha256="7" * 64))
    reading = made(library, engine)
    memory = reading.open(reading.document)
    list(reading.ingest(memory))
    assert not memory.long and same(state(reading.open(reading.document)), state(memory))


def test_a_reading_is_saved_on_the_way(engine, library):
    reading = made(library, engine)
    memory = reading.open(BOOK)
    for stats in reading.ingest(memory):
        if stats.tokens > 64:
            kept = library.reading_of(engine, library.entries()[0].id)
            # The step after the one on show saves.
            assert 0 < kept.position < memory.position <= stats.tokens


def test_what_could_not_be_saved_in_the_end_is_saved_at_the_next_try(engine, library, monkeypatch):
    """Though nothing is left to be read."""

    save, document = library.save, library.entries()[0].id

    def filling(engine, document, memory):
        if memory.complete:
            raise SaveError("The disk is full.")
        return save(engine, document, memory)

    reading = made(library, engine)
    memory = reading.open(reading.document)
    with monkeypatch.context() as patch, pytest.raises(SaveError):
        patch.setattr(library, "save", filling)
        list(reading.ingest(memory))
    assert memory.complete and library.reading_of(engine, document).position < memory.position
    assert list(reading.ingest(memory)) == []
    assert library.reading_of(engine, document).position == memory.position


def test_a_damaged_memory_is_given_up_and_the_document_read_again(engine, library):
    run(made(library, engine))
    id = library.entries()[0].id
    kept = library.reading_of(engine, id)
    (library.folder / "files" / kept.memory).write_bytes(b"rubbish")
    reading = made(library, engine)
    events = run(reading)
    assert reading.problem == "The saved memory of book.pdf is damaged: read the document again."
    assert of(Reading, events)[0].stats.tokens < 64 and isinstance(events[-1], Finished)
    again = library.reading_of(engine, id)
    assert again.complete and again.id == kept.id and again.memory != kept.memory
    assert same(state(library.open(engine, again.id)), state(events[-1].memory))


def test_two_windows_do_not_read_one_document_at_once(engine, library):
    one, other = made(library, engine), made(Library(library.folder), engine)
    reading = one.ingest(one.open(BOOK))
    next(reading)
    with pytest.raises(LibraryError, match="^book.pdf is being read at this moment, here or in"):
        next(other.ingest(other.open(BOOK)))
    reading.close()
    assert list(other.ingest(other.open(BOOK)))[-1].tokens == 6 * 64


def test_a_document_deleted_meanwhile_cannot_be_read(engine, library):
    reading = made(library, engine)
    memory = reading.open(BOOK)
    library.delete(library.entries()[0].id)
    with pytest.raises(LibraryError, match="no longer in the library"):
        next(reading.ingest(memory))


# -- the pace ------------------------------------------------------------------------


class Clock:
    """A time that passes only where it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("cost", [0.01, 0.3, 5.0], ids=["fast", "usual", "slow disk"])
def test_saving_takes_less_than_two_percent_of_a_reading_however_slow_the_disk(monkeypatch, cost):
    monkeypatch.undo()
    clock, saves = Clock(), []

    def save() -> None:
        clock.now += cost
        saves.append(clock.now)

    pace = Pace(save, clock)
    while clock.now < 36_000:
        clock.now += 4.0
        pace.step()
    assert len(saves) * cost < 0.02 * clock.now and len(saves) >= 100
    gaps = [after - before for before, after in zip(saves, saves[1:])]
    assert min(gaps) >= 30 and max(gaps) <= max(30, cost / 0.015) + 4 + cost


def test_a_marked_page_is_saved_sooner_but_not_at_any_price(monkeypatch):
    monkeypatch.undo()
    clock = Clock()

    def save() -> None:
        clock.now += 0.5

    pace = Pace(save, clock)
    clock.now = 1.0
    assert not pace.step() and pace.step(marked=True)
    clock.now += 9.0
    assert not pace.step(marked=True)
    clock.now += 1.5
    assert not pace.step() and pace.step(marked=True)


def test_a_reading_too_fast_for_the_clock_has_checkpoints_all_the_same(engine, library, monkeypatch):
    monkeypatch.setattr(reader, "SECONDS_BETWEEN", 1e9)
    reading = made(library, engine)
    list(reading.ingest(reading.open(BOOK)))
    kept = library.past.checkpoints(library.reading_of(engine, library.entries()[0].id).id)
    assert [checkpoint.page for checkpoint in kept] == [2, 3, 4, 5, 6]
