from __future__ import annotations

import pytest

from mlx_edgeinf import wording
from mlx_edgeinf.documents import Origin, Page
from mlx_edgeinf.wording import page_places


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (wording.size(0), "0 bytes"),
        (wording.size(3_800_000_000), "3.8 GB"),
        (wording.size(214_400_000), "214 MB"),
        (wording.size(999_600), "1 MB"),
        (wording.duration(59.6), "1 min 0 s"),
        (wording.duration(723), "12 min 3 s"),
        (wording.duration(3840), "1 h 4 min"),
        (wording.time_left(20), "less than a minute left"),
        (wording.time_left(850), "about 14 min left"),
        (wording.time_left(3599), "about 1 h 0 min left"),
        (wording.counted(1, "page"), "1 page"),
        (wording.counted(1352, "page"), "1,352 pages"),
        (wording.page_ranges((3, 17, 18, 19)), "3, 17–19"),
        (wording.read_pages(352, 352), "the whole document"),
        (wording.read_pages(120, 352), "pages 1–120"),
        (wording.read_pages(0, 352), "the beginning of the first page"),
    ],
)
def test_numbers_are_said_as_people_say_them(words, expected):
    assert words == expected


def test_pages_of_a_collection_are_told_by_file():
    pages = [Page(n, "", Origin("a.pdf" if n < 4 else "b.pdf", n if n < 4 else n - 3)) for n in range(1, 7)]
    assert page_places(pages, [1, 2, 3, 5]) == "1–3 of a.pdf, 2 of b.pdf"
    assert page_places([Page(n, "") for n in range(1, 7)], [1, 2, 6]) == "1–2, 6"
    assert page_places(pages, []) == ""
