"""A text that is followed, by an engine without a model: when there is a summary, and what stays."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from fakes import TOKENS_PER_PAGE

from mlx_edgeinf import follow
from mlx_edgeinf.documents import Arrival, DocumentError
from mlx_edgeinf.events import Reading
from mlx_edgeinf.follow import Following, Notice, Rule, Update, known_text, new_text
from mlx_edgeinf.library import LibraryError
from mlx_edgeinf.summarize import QUESTION

PAGE = ("So the talk went on, and on. " * 100 + "\n").encode()
LINE = b"And so on.\n"
NEVER = 1e9


class Script:
    """A source that brings what is written here, and then ends, or is stopped by Ctrl-C."""

    def __init__(self, *arrivals: bytes | Arrival, cancel: Event | None = None):
        arrivals = [each if isinstance(each, Arrival) else Arrival(each) for each in arrivals]
        self._arrivals, self._cancel = arrivals, cancel

    def next(self, seconds: float) -> Arrival:
        if self._arrivals:
            return self._arrivals.pop(0)
        if self._cancel:
            self._cancel.set()
        return Arrival(ended=self._cancel is None)


@pytest.fixture
def talk(tmp_path) -> Path:
    path = tmp_path / "talk.txt"
    path.touch()
    return path


def run(engine, library, *arrivals, text=None, rule=Rule(pause=NEVER), stopped=False) -> list:
    """All events of a text that is followed to its end, or stopped behind what is written."""
    cancel = Event()
    source = Script(*arrivals, cancel=cancel if stopped else None)
    return list(Following(engine, library, text or new_text(), source, rule, cancel).run())


def updates(events: list) -> list[Update]:
    return [event for event in events if isinstance(event, Update)]


@pytest.mark.parametrize("stopped", [True, False], ids=["Ctrl-C", "end of the pipe"])
def test_the_last_summary_is_of_everything_and_in_the_library(fake, library, stopped):
    events = run(fake, library, PAGE, PAGE, b"The end", stopped=stopped)
    [update] = updates(events)
    assert events[-1] is update and update.final and not update.receipt.stopped
    assert (update.receipt.pages, update.receipt.pages_read, update.receipt.summary_pages) == (2, 2, 2)
    assert "page 2" in update.summary and update.receipt.settings == fake.settings
    [entry] = library.entries()
    assert entry.name.startswith("So the talk went on")
    assert library.document(entry.id).text.endswith("and on.\nThe end")
    [summary] = library.summaries(entry.id)
    assert (summary.text, summary.receipt) == (update.summary, update.receipt)
    assert library.open(fake, summary.reading).pages_read == 2


def test_there_is_a_summary_after_so_many_new_tokens(fake, library):
    events = run(fake, library, *[PAGE] * 7, rule=Rule(every=2 * TOKENS_PER_PAGE, pause=NEVER))
    # The page under way counts: its lines are part of the summary.
    assert [update.receipt.pages_read for update in updates(events)] == [2, 4, 6, 7]
    assert [update.final for update in updates(events)] == [False, False, False, True]


def test_there_is_a_summary_when_nothing_comes_for_a_while(fake, library, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])

    class Slow(Script):
        def next(self, seconds: float) -> Arrival:
            now[0] += 10
            return super().next(seconds)

    quiet, source = Arrival(), Slow(LINE, LINE, *[Arrival()] * 9, LINE, LINE)
    rule = Rule(pause=30)
    following, seen = Following(fake, library, new_text(), source, rule, Event()), []
    for event in following.run():
        if isinstance(event, Update):
            seen.append((now[0], event.final))
    assert quiet == Arrival() and seen == [(50.0, False), (140.0, True)]


def test_each_summary_is_asked_afresh_or_revises_the_one_before(fake, library, monkeypatch):
    asked, generate = [], fake.generate

    def watched(texts, *rest):
        asked.append(texts[-1])
        return generate(texts, *rest)

    monkeypatch.setattr(fake, "generate", watched)
    run(fake, library, PAGE, PAGE, rule=Rule(every=1, pause=NEVER))
    assert set(asked) == {QUESTION}
    asked.clear()
    first, *_ = updates(run(fake, library, PAGE, PAGE, rule=Rule(every=1, pause=NEVER, revised=True)))
    assert asked[0] == QUESTION and first.summary in asked[1] and first.receipt.strategy == "rolling"


def test_a_summary_of_everything_is_not_written_twice(fake, library, monkeypatch):
    calls, generate = [], fake.generate
    monkeypatch.setattr(fake, "generate", lambda *given: calls.append(given) or generate(*given))
    events = run(fake, library, PAGE + LINE, rule=Rule(every=1, pause=NEVER), stopped=True)
    assert len(calls) == 1 and [update.final for update in updates(events)] == [False, True]
    assert len({update.summary for update in updates(events)}) == 1


def test_what_happens_to_the_file_is_said_and_begins_a_line(fake, library):
    events = run(fake, library, b"One", Arrival(notice="talk.txt was cut short.", breaks=True), b"Two")
    assert Notice("talk.txt was cut short.") in events
    assert library.document(library.entries()[0].id).text == "One\nTwo"


def test_what_came_before_something_that_is_no_text_is_kept_and_summarised(fake, library):
    """A pipe cannot be read again."""
    events = run(fake, library, PAGE * 2 + LINE, bytes(range(8)) * 4096, PAGE)
    told = "What comes through the pipe is not text in UTF-8, so it cannot be followed."
    assert Notice(f"{told} What came before is kept.") in events
    assert events[-1].final and not events[-1].receipt.stopped
    [entry] = library.entries()
    assert entry.pages == events[-1].receipt.pages_read == 2 and library.summaries(entry.id)


def test_stopped_far_from_the_end_the_receipt_says_what_was_not_read(fake, library):
    cancel, events = Event(), []
    source = Script(PAGE * 6, cancel=cancel)
    for event in Following(fake, library, new_text(), source, Rule(pause=NEVER), cancel).run():
        events.append(event)
        if isinstance(event, Reading) and event.stats.pages == 2:
            cancel.set()
    receipt = updates(events)[-1].receipt
    assert (receipt.stopped, receipt.pages_read, receipt.pages) == (True, 2, 6)
    assert library.document(library.entries()[0].id).pages[-1].number == 6
    assert receipt.sentence().startswith("Stopped at page 2 of 6")


def test_nothing_that_comes_is_no_document(fake, library):
    with pytest.raises(DocumentError, match="^No text has come"):
        run(fake, library, b"\n \n")
    assert not library.entries()


def test_a_file_that_is_followed_again_goes_on_where_it_was(fake, library, talk, monkeypatch):
    talk.write_bytes(PAGE * 3)
    text, start = known_text(library, talk)
    assert (text.name, text.pages, start) == ("talk.txt", (), 0)
    run(fake, library, talk.read_bytes(), text=text)
    read, ingest = [], fake.ingest

    def watched(memory, cancel):
        for stats in ingest(memory, cancel):
            read.append(stats.pages)
            yield stats

    monkeypatch.setattr(fake, "ingest", watched)
    with talk.open("ab") as file:
        file.write(LINE)
    text, start = known_text(library, talk)
    assert len(text.pages) == 3 and talk.read_bytes()[start:].strip() == LINE.strip()
    last = updates(run(fake, library, talk.read_bytes()[start:], text=text))[-1]
    [entry] = library.entries()
    assert set(read) == {4} and last.receipt.pages == entry.pages == 4
    assert len(library.summaries(entry.id)) == 2


def test_a_file_that_begins_otherwise_is_another_document(fake, library, talk):
    for beginning in (b"Monday.\n", b"Tuesday.\n"):
        talk.write_bytes(beginning + PAGE)
        run(fake, library, talk.read_bytes(), text=known_text(library, talk)[0])
    assert len(library.entries()) == 2
    text, start = known_text(library, talk)
    assert text.text.startswith("Tuesday.") and start >= len(PAGE)


def test_what_is_being_followed_is_neither_deleted_nor_followed_twice(fake, library, talk):
    text, _ = known_text(library, talk)
    following = Following(fake, library, text, Script(PAGE, PAGE, LINE), Rule(every=1, pause=NEVER), Event())
    events = following.run()
    next(event for event in events if isinstance(event, Reading))
    with pytest.raises(LibraryError, match="is being read at this moment"):
        library.delete(library.entries()[0].id)
    with pytest.raises(LibraryError, match="is being read at this moment"):
        run(fake, library, PAGE, PAGE, text=text)
    list(events)
    library.delete(library.entries()[0].id)


def test_what_was_read_on_in_another_window_meanwhile_is_not_read_from_before_that(fake, library, talk):
    text, _ = known_text(library, talk)
    run(fake, library, PAGE, text=text)
    entries = library.entries()
    with pytest.raises(LibraryError, match="was read on in another window meanwhile: follow it again"):
        run(fake, library, PAGE, PAGE, text=text)
    assert library.entries() == entries


def test_a_reading_is_kept_on_the_way(fake, library, monkeypatch):
    monkeypatch.setattr("mlx_edgeinf.library.reader.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("mlx_edgeinf.library.reader.SHARE", 1e9)
    source = Script(*[PAGE] * 5)
    events = Following(fake, library, new_text(), source, Rule(pause=NEVER), Event()).run()
    for event in events:
        if isinstance(event, Reading) and event.stats.pages == 3:
            break
    [entry] = library.entries()
    [reading] = library.readings(entry.id)
    assert reading.pages_read == 2 and entry.pages >= 2
    events.close()
    assert library.open(fake, reading.id).pages_read == 2


def test_a_damaged_memory_is_given_up_and_the_text_read_again(fake, library, talk):
    talk.write_bytes(PAGE * 2)
    run(fake, library, talk.read_bytes(), text=known_text(library, talk)[0])
    [reading] = library.readings(library.entries()[0].id)
    (library.folder / "files" / reading.memory).write_bytes(b"rubbish")
    events = run(fake, library, LINE, text=known_text(library, talk)[0])
    assert events[0] == Notice("The saved memory of talk.txt is damaged: read the document again.")
    assert updates(events)[-1].receipt.pages_read == 3
