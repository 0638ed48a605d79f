"""Where the pages of a document come from, and pages that change: grown, or recognised."""

from __future__ import annotations

from dataclasses import replace
from threading import Event

import pytest
from shelf import BOOK, receipt

from mlx_edgeinf.chat import Turn
from mlx_edgeinf.documents import Document, Origin, Page, joined
from mlx_edgeinf.events import Finished
from mlx_edgeinf.library import Library, Reader
from mlx_edgeinf.library.database import Database


@pytest.fixture
def library(tmp_path):
    library = Library(tmp_path / "library")
    yield library
    library.close()


def part(name: str, digit: str, *texts: str) -> Document:
    return Document(name, digit * 64, tuple(Page(number, text) for number, text in enumerate(texts, 1)))


COLLECTION = joined([
    part("a.pdf", "a", "The first page of the first file.", ""), part("b.pdf", "b", "The one page of b.pdf."),
])  # fmt: skip
SCAN = part("scan.pdf", "c", "The first page has text.", "", "And so has the third one.")
RECOGNISED = replace(SCAN, pages=(SCAN.pages[0], Page(2, "Found in a picture.", None, True), SCAN.pages[2]))


def read(library: Library, engine, document: int, stop: int = 1000):
    """Read a document of the library, up to a page."""
    reader = Reader(library, engine, document)
    memory = reader.open(reader.document)
    for stats in reader.ingest(memory, Event()):
        if stats.pages == stop:
            break
    library.save(engine, document, memory)
    return memory


# -- collections ---------------------------------------------------------------------


def test_a_collection_that_is_opened_again_knows_its_files(library):
    id = library.add(COLLECTION).id
    library.close()
    again = Library(library.folder)
    document = again.document(id)
    assert document == COLLECTION and document.pages[2].origin == Origin("b.pdf", 1)
    assert [page.place for page in document.pages] == ["1 of a.pdf", "2 of a.pdf", "1 of b.pdf"]
    again.close()


def test_a_collection_is_read_on_where_it_was(library, fake):
    id = library.add(COLLECTION).id
    read(library, fake, id, stop=1)
    reader = Reader(library, fake, id)
    memory = reader.open(reader.document)
    assert memory.pages_read == 1 and memory.document == COLLECTION
    assert [stats.pages for stats in reader.ingest(memory, Event())] == [2, 3]


def test_an_exported_collection_knows_its_files(library, fake, tmp_path):
    id = library.add(COLLECTION).id
    read(library, fake, id, stop=2)
    library.export(id, tmp_path / "it.edgeinf")
    other = Library(tmp_path / "other")
    entry = other.take_over(tmp_path / "it.edgeinf")
    assert other.document(entry.id) == COLLECTION
    assert other.reading_of(fake, entry.id).pages_read == 2
    other.close()


def test_names_that_are_hard_to_store_are_stored(library):
    document = joined([part("caf\udce9.pdf", "d", "x"), part("b.pdf", "e", "y")])
    assert library.document(library.add(document).id).pages[0].origin == Origin("caf?.pdf", 1)


def test_a_document_takes_where_its_pages_come_from_with_it(library, tmp_path):
    id = library.add(COLLECTION).id
    library.close()
    database = Database(library.folder / "library.sqlite", may_create=False)
    with database.transaction() as db:
        db.execute("DELETE FROM documents WHERE id = ?", (id,))
        assert db.execute("SELECT count(*) FROM provenance").fetchone() == (0,)
    database.close()


# -- pages that change ---------------------------------------------------------------


def test_a_document_that_has_grown_is_read_on(library, fake):
    start = replace(BOOK, pages=BOOK.pages[:2])
    id = library.add(start).id
    read(library, fake, id)
    library.revise(id, BOOK)
    assert library.document(id) == BOOK and library.entry(id).pages == 4
    assert library.reading_of(fake, id).pages_read == 2
    # The fake engine's memory is of the document that it is given, as the engine's is.
    assert library.open(fake, library.reading_of(fake, id).id).document == BOOK
    assert library.search(BOOK.pages[3].text[:12])


def test_recognised_pages_take_their_place_and_are_found(library):
    id = library.add(SCAN).id
    assert not library.search("picture")
    library.revise(id, RECOGNISED)
    assert library.document(id) == RECOGNISED and library.document(id).pages_recognised == (2,)
    [hit] = library.search("picture")
    assert (hit.kind, hit.number) == ("page", 2) and len(library.search("third")) == 1


def test_what_was_made_of_the_pages_before_stays(library, fake):
    id = library.add(SCAN).id
    memory = read(library, fake, id)
    library.finish(fake, id, Finished("Of two pages.", receipt(document="scan.pdf"), memory))
    [before] = library.readings(id)
    library.add_turn(library.begin_chat(before.id), Turn("Who?", "I."))
    library.revise(id, RECOGNISED)
    [after] = library.readings(id)
    assert after.id == before.id and not after.whole and library.reading_of(fake, id) is None
    assert library.open(fake, after.id).document.pages == SCAN.pages
    assert library.summaries(id)[0].reading == after.id and library.chats(id)[0].turns[0].answer == "I."
    read(library, fake, id)
    assert [reading.whole for reading in library.readings(id)] == [False, True]


def test_pages_that_are_as_before_again_have_their_reading_again(library, fake):
    id = library.add(SCAN).id
    for pages in (RECOGNISED, SCAN, RECOGNISED, SCAN):
        read(library, fake, id)
        first = library.reading_of(fake, id)
        library.revise(id, pages)
    assert library.reading_of(fake, id).whole and library.reading_of(fake, id).id != first.id
    assert [reading.whole for reading in library.readings(id)] == [True, False]


def test_the_same_pages_change_nothing(library, fake):
    id = library.add(RECOGNISED).id
    read(library, fake, id)
    before = library.readings(id)
    library.revise(id, RECOGNISED)
    assert library.readings(id) == before and library.document(id) == RECOGNISED


def test_recognised_pages_are_carried_to_another_library(library, fake, tmp_path):
    id = library.add(RECOGNISED).id
    library.export(id, tmp_path / "it.edgeinf")
    other = Library(tmp_path / "other")
    assert other.document(other.take_over(tmp_path / "it.edgeinf").id) == RECOGNISED
    other.close()
