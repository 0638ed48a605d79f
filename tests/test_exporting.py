"""A document as a file for another machine, as the page hands it out and takes it in."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import any_path_is_a_book, do, finish, read  # noqa: F401

from mlx_edgeinf.library import Library
from mlx_edgeinf.ui import handlers, librarian
from mlx_edgeinf.ui.room import Room
from mlx_edgeinf.ui.session import Session

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


def test_a_document_goes_to_another_machine_through_the_upload_field(room, session, tmp_path, fake):
    finish(read(room, session))
    finish(handlers.ask(room, session, "First?"))
    views = librarian.act(room, session, {"do": "export"})
    view = next(views)
    parcel = tmp_path / "renamed by someone.zip"
    made = Path(view.export["value"])
    assert made.name == "book.pdf.edgeinf" and view.export["visible"]
    parcel.write_bytes(made.read_bytes())
    assert finish([view, *views]).export["visible"] and not made.parent.exists()

    elsewhere, visitor = Room(room.preparation, Library(tmp_path / "elsewhere")), Session()
    view = finish(librarian.choose(elsewhere, visitor, [str(parcel)]))
    assert view.notice == ""
    assert "Read all 12 pages" in view.summary and "First?" in view.chat and view.question["interactive"]
    assert view.upload["value"] is None and not visitor.offered
    again = finish(librarian.choose(elsewhere, visitor, [str(parcel)]))
    assert "is in the library already" in again.notice
    elsewhere.library.close()


def test_what_was_exported_is_offered_until_there_is_more_to_export(room, session):
    finish(read(room, session))
    for change in (
        lambda: finish(handlers.ask(room, session, "First?")),
        lambda: do(room, session, do="rename", name="Another name"),
    ):
        assert finish(librarian.act(room, session, {"do": "export"})).export["visible"]
        assert not change().export["visible"]


def test_what_is_chosen_beside_an_export_stays_chosen(room, session, tmp_path, fake, file):
    finish(read(room, session))
    exporting = librarian.act(room, session, {"do": "export"})
    parcel = file("parcel.zip", Path(next(exporting).export["value"]).read_bytes())
    elsewhere, visitor = Room(room.preparation, Library(tmp_path / "elsewhere")), Session()
    view = finish(librarian.choose(elsewhere, visitor, [str(parcel), "/uploads/other.pdf"]))
    assert len(elsewhere.library.entries()) == 1
    assert view.upload["value"] == ["/uploads/other.pdf"] and view.read["value"] == "Read"
    elsewhere.library.close()


def test_a_damaged_export_is_named(room, session, file):
    view = finish(librarian.choose(room, session, [str(file("book.edgeinf", b"rubbish"))]))
    assert "book.edgeinf was not exported from a library, or it is damaged" in view.notice
