from __future__ import annotations

import numpy as np
import pytest
from tiny import book, document

from mlx_edgeinf.insight import OPENINGS, PAGES, Insight


def whole(engine, pages: int):
    memory = engine.open(book(pages))
    for _ in engine.ingest(memory):
        pass
    return memory


def test_tokens_count_for_the_page_they_are_on():
    insight = Insight()
    insight.add([(1, np.array([1.0, 3.0, 5.0])), (4, np.array([7.0, 9.0]))], [2, 4, 4, 9])
    assert insight.pages.tolist() == [[1, 1], [8, 2], [0, 0], [16, 2]]
    assert np.array_equal(insight.strengths, [1, 4, np.nan, 8], equal_nan=True)


def test_every_token_that_was_folded_after_the_first_fold_is_counted_on_its_page(engine):
    memory = whole(engine, 6)
    sinks, segment = 2, 16
    counted = np.arange(sinks + segment, sinks + memory.cache[0].folded)
    pages = np.searchsorted(memory.page_ends, counted, side="right")
    assert memory.insight.pages[:, 1].tolist() == np.bincount(pages, minlength=6).tolist()
    assert np.all(memory.insight.strengths[:5] > 0) and memory.insight.openings.shape == (2, 4)


def test_what_is_said_again_and_again_surprises_less_than_what_is_new(engine):
    memory = engine.open(document(*(page.text for page in book(4).pages), *(["a" * 62] * 4)))
    for _ in engine.ingest(memory):
        pass
    strengths = memory.insight.strengths
    assert max(strengths[5:7]) < min(strengths[1:4])


def test_what_is_read_exactly_has_nothing_to_show(engine):
    memory = whole(engine, 1)
    assert not memory.long and memory.insight.openings is None
    assert np.all(np.isnan(memory.insight.strengths))


def test_an_answer_shows_its_own_openings_and_changes_no_strength(engine):
    memory = whole(engine, 4)
    before, pages = memory.insight.openings, memory.insight.pages.copy()
    assert not memory.insight.answering
    list(engine.generate(["Who?"], memory, 8))
    assert memory.insight.answering and not np.array_equal(memory.insight.openings, before)
    assert np.array_equal(memory.insight.pages, pages)


def test_a_saved_memory_keeps_what_it_showed_and_adds_to_it(engine, tmp_path):
    memory, reading = engine.open(book(6)), whole(engine, 6)
    for stats in engine.ingest(memory):
        if stats.pages == 3:
            break
    engine.save(memory, tmp_path / "memory")
    opened = engine.restore(tmp_path / "memory", book(6))
    assert np.allclose(opened.insight.openings, memory.insight.openings)
    for _ in engine.ingest(opened):
        pass
    assert np.allclose(opened.insight.pages, reading.insight.pages, rtol=1e-5)


def test_a_memory_that_was_saved_unwatched_shows_nothing():
    found = Insight.from_arrays({}, 3)
    assert len(found.strengths) == 0 and found.openings is None


@pytest.mark.parametrize("arrays", [
    {PAGES: np.zeros((4, 2))}, {PAGES: np.zeros(3)}, {PAGES: np.full((3, 2), np.nan)},
    {PAGES: np.full((3, 2), -1.0)}, {OPENINGS: np.zeros(3)}, {OPENINGS: np.full((2, 2), np.inf)},
])  # fmt: skip
def test_what_no_reading_shows_is_refused(arrays):
    with pytest.raises(ValueError):
        Insight.from_arrays(arrays, 3)
