from __future__ import annotations

from dataclasses import replace

import pytest
from pages import any_path_is_a_book, finish, read, stopped  # noqa: F401

from mlx_edgeinf.ui.record import facts, file_name, record, settings

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")


def test_the_file_has_the_summary_and_everything_of_its_receipt(room, session):
    finish(read(room, session))
    text = record("book.pdf", session.finished, session.kept)
    receipt = session.finished.receipt
    assert text.startswith(f"# book.pdf\n\n{session.finished.summary}\n\n## What this covers\n")
    for fact in (
        receipt.sentence(), "- Pages read: 12 of 12", "- Pages without text: none", "- Tokens read: 5,520 of",
        "- Time: ", "- Model: A small fake model", "- Strategy: Rolling",
        "- Base model: A small fake model",
    ):  # fmt: skip
        assert fact in text
    assert "- Truncation: none\n" in text and "Not in the summary" not in text
    for fact in (
        "- Gates: a fake (0123456789abcdef)", "- Memory: centroids, 500", "- Sampling: greedy, repetition",
        "- Exact part: 4 sinks, window 512, segment 512 tokens", "- Length of the summary: at most 256",
    ):  # fmt: skip
        assert fact in text


def test_what_was_left_out_is_said_exactly(room, session):
    stopped(room, session)
    rows = facts(session.finished.receipt)
    assert rows["Not in the summary"] == "pages 4–12"
    assert rows["Truncation"] == "pages 7–12 were not read (2,760 tokens)"


def test_the_identity_of_another_reading_is_not_claimed(room, session):
    finish(read(room, session))
    assert "Base model" not in record("book.pdf", session.finished, None)


def test_a_receipt_of_an_earlier_version_claims_no_settings(room, session):
    finish(read(room, session))
    old = replace(session.finished.receipt, settings=None, max_tokens=None)
    assert "Sampling" not in record("book.pdf", replace(session.finished, receipt=old), None)


def test_the_sizes_of_parts_and_recognised_pages_are_said(room, session):
    finish(read(room, session))
    receipt = replace(session.finished.receipt, strategy="map-reduce", pages_recognised=(2, 3, 4))
    assert "parts of 3,000, each in at most 96" in settings(receipt)["Length of the summary"]
    assert facts(receipt)["Recognised in pictures"] == "pages 2–4"
    assert receipt.sentence().endswith("Text recognised in pictures: 3 pages.")


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
