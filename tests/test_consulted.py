"""Which pages of a document an answer is said to have gone back to."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from mlx_edgeinf.recall.consulted import consulted

SINKS, TOKENS = 4, 16


def told(page_ends: list[int], *layers: dict[int, int]) -> tuple[int, ...]:
    """Of layers to which pages on disk, by number, came back so often."""
    return consulted(page_ends, [
        SimpleNamespace(consulted=Counter(each), first_token=lambda page: SINKS + page * TOKENS)
        for each in layers
    ])  # fmt: skip


def test_what_came_back_most_is_named_first():
    ends = [n * 160 for n in range(1, 9)]
    assert told(ends, {1: 8, 35: 9}, {35: 1, 36: 5, 60: 1}) == (3, 0)


def test_tokens_count_for_the_page_that_they_stand_on():
    """A page on disk begins on a heading of six tokens, but most of it stands behind that."""
    assert told([3999, 4005, 4505, 5005], dict.fromkeys(range(250, 254), 30)) == (2,)


def test_of_short_pages_the_one_that_has_most_of_it_is_named_first():
    slides = [24 * n for n in range(1, 9)]
    first = (2 * 24 - SINKS) // TOKENS  # the last tokens of the second slide, and most of the third
    assert told(slides, {first: 1, first + 1: 5})[0] == 2


def test_blank_pages_and_what_stands_behind_the_document_are_never_named():
    assert told([90, 90, 90, 200], {5: 3, 6: 1}) == (3,)
    assert told([100, 200], {12: 3, 13: 50, 14: 50}) == (1,)


def test_where_nothing_came_back_nothing_is_named():
    assert told([100, 200], {}, {}) == ()
