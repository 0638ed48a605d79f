"""A document that grows while it is read."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from test_engine import last, same, state
from tiny import book

from mlx_edgeinf.document_memory import DocumentMemory, SaveFileError
from mlx_edgeinf.documents import Document
from mlx_edgeinf.engine import Engine

BOOK = book(6)


def begun(document: Document, pages: int) -> Document:
    """The first pages of a document."""
    return replace(document, pages=document.pages[:pages])


def read_at_once(engine: Engine, document: Document = BOOK) -> DocumentMemory:
    memory = engine.open(document)
    list(engine.ingest(memory))
    return memory


def logits(engine: Engine, memory: DocumentMemory) -> np.ndarray:
    """What the model says next, (V,)."""
    twin = engine.branch(memory)
    return engine._run(lambda: np.array(engine._model(mx.array([[7]]), cache=twin.cache)[0, -1]))


@pytest.mark.parametrize("pieces", [[1] * 6, [2, 1, 3], [6]], ids=str)
def test_read_in_pieces_it_is_the_memory_of_the_same_text_read_at_once(engine, pieces):
    memory, at = engine.open(begun(BOOK, 0), growing=True), 0
    for count in pieces:
        engine.grow(memory, BOOK.pages[at : at + count])
        list(engine.ingest(memory))
        at += count
    memory.growing = False
    list(engine.ingest(memory))
    whole = read_at_once(engine)
    assert memory.document == BOOK and memory.tokens == whole.tokens and memory.complete
    assert same(state(memory), state(whole))
    assert np.array_equal(logits(engine, memory), logits(engine, whole))


def test_a_segment_is_not_split_while_more_may_come(engine):
    memory = engine.open(begun(BOOK, 0), growing=True)
    engine.grow(memory, [replace(BOOK.pages[0], text="x" * 38)])
    assert last(engine.ingest(memory)).tokens == 34 and len(memory.tokens) == 40
    assert list(engine.ingest(memory)) == [] and not memory.complete


def test_a_short_text_is_in_memory_from_its_first_token(engine):
    memory = engine.open(begun(BOOK, 1), growing=True)
    assert memory.cache[0].exact_limit == 0 and engine.open(begun(BOOK, 1)).cache[0].exact_limit > 0


def test_a_branch_reads_to_the_end_and_leaves_the_memory_as_it_was(engine):
    memory = engine.open(begun(BOOK, 3), growing=True)
    list(engine.ingest(memory))
    before, tokens, document = state(memory), list(memory.tokens), memory.document
    branch = engine.branch(memory, BOOK.pages[3:4])
    list(engine.ingest(branch))
    assert last(engine.generate(["Who?"], branch, 4)) and branch.complete and branch.pages_read == 4
    assert same(state(memory), before) and memory.tokens == tokens and memory.document == document
    assert same(state(branch), state(read_at_once(engine, begun(BOOK, 4))))


def test_a_memory_of_another_beginning_is_refused(engine, tmp_path):
    engine.save(read_at_once(engine, begun(BOOK, 3)), tmp_path / "memory")
    other = replace(BOOK, pages=(replace(BOOK.pages[0], text="y" * 62), *BOOK.pages[1:]))
    with pytest.raises(SaveFileError, match="The saved memory of book.pdf is damaged"):
        engine.restore(tmp_path / "memory", other)


def test_a_saved_memory_goes_on_with_the_pages_that_have_come_since(engine, tmp_path):
    memory = read_at_once(engine, begun(BOOK, 3))
    engine.save(memory, tmp_path / "memory")
    again = engine.restore(tmp_path / "memory", BOOK)
    assert again.position == memory.position and again.document == BOOK and not again.complete
    list(engine.ingest(again))
    # Its first pages ended inside a segment, so that sums were taken in another order.
    pairs = zip(state(again), state(read_at_once(engine)), strict=True)
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)
