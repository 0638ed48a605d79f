from __future__ import annotations

import re

import pytest

from mlx_edgeinf.ui.prose import prose


def test_prose_keeps_the_shape_of_a_text():
    html = prose("# Title\n\n**Bold** words\n\n- one\n- two")
    assert all(tag in html for tag in ("<h1>", "<strong>", "<li>one</li>"))


def test_code_in_which_sentences_end_is_shown_once():
    html = prose("Run `First do. Then go. And on.` now. Done.", lambda sentence: f"[{sentence.strip()}]")
    assert html.count("<code>") == 1 and html.count("Then go.") == 2
    assert re.sub(r"\[.*?\]|<.*?>", "", html).strip() == "Run First do. Then go. And on. now. Done."


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://elsewhere.example/?q=secret)",
        "![x][r]\n\n[r]: https://elsewhere.example/",
        "[click](https://elsewhere.example/)",
        "<https://elsewhere.example/>",
        '<img src="https://elsewhere.example/x.png">',
        '<p style="background:url(https://elsewhere.example)">hi</p>',
        "<script>fetch('https://elsewhere.example')</script>",
        "[x](javascript:alert(1))",
    ],
)
def test_prose_cannot_reach_out(text):
    assert not re.search(r"<(?!/?(p|br)\b)", prose(text))
