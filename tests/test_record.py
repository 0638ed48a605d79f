from __future__ import annotations

import pytest
from pages import any_path_is_a_book, finish, read, stopped  # noqa: F401

from mlx_edgeinf.ui.record import facts, file_name, record

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


def test_the_file_has_the_summary_and_everything_of_its_receipt(room, session):
    finish(read(room, session))
    text = record("book.pdf", session.finished, session.kept)
    receipt = session.finished.receipt
    assert text.startswith(f"# book.pdf\n\n{session.finished.summary}\n\n## What this covers\n")
    for fact in (
        receipt.sentence(), "- Pages read: 12 of 12", "- Pages without text: none", "- Tokens read: 5,520 of",
        "- Time: ", "- Model: A small fake model", "- Gates: untrained", "- Strategy: Rolling",
        "- Base model: A small fake model",
    ):  # fmt: skip
        assert fact in text
    assert "Not read" not in text and "Not in the summary" not in text


def test_what_was_left_out_is_said_exactly(room, session):
    stopped(room, session)
    rows = facts(session.finished.receipt)
    assert rows["Not in the summary"] == "pages 4–12"
    assert rows["Not read"] == "pages 7–12 (2,760 tokens)"


def test_the_gates_of_another_model_are_not_claimed(room, session):
    finish(read(room, session))
    assert "Gates" not in record("book.pdf", session.finished, None)


def test_a_name_of_several_lines_is_one_heading(room, session):
    finish(read(room, session))
    assert record("a\n# b", session.finished, None).startswith("# a # b\n\n")


@pytest.mark.parametrize(
    "name, plain",
    [
        ("book.pdf", "book.pdf.md"), ("../../etc/passwd", "_.._etc_passwd.md"), ("", "document.md"),
        ('<img src="x">\n\u202e', "_img src__x____.md"), ("...", "document.md"),
        ("愛" * 99, "愛" * 53 + ".md"),
    ],
)  # fmt: skip
def test_a_file_has_a_name_that_every_system_takes(name, plain):
    assert file_name(name, ".md") == plain
