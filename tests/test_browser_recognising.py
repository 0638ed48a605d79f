"""Scanned pages in a browser: the offer to recognise their text, and what comes of it."""

from __future__ import annotations

from browsing import Visit

from mlx_edgeinf.documents import scans
from mlx_edgeinf.ui import recognising

RECOGNISER = "def recognise(picture):\n    return [('Anna had found it there.', 0.1, 0.8, 0.9, 0.82)]\n"


def test_the_text_of_a_scanned_page_is_recognised(chromium, page_address, pdf, tmp_path, monkeypatch):
    (tmp_path / "one_of_ours.py").write_text(RECOGNISER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(scans, "RECOGNISER", "one_of_ours")
    monkeypatch.setattr(scans, "obstacle", lambda: "")
    monkeypatch.setattr(recognising, "ocr_obstacle", lambda: "")
    with Visit(chromium, page_address) as visit:
        visit.read(pdf)
        visit.page.wait_for_selector(".blank:has-text('1 of 4 pages has no text (2)')")
        visit.page.click("text=Recognise their text")
        visit.page.wait_for_selector(".receipt:has-text('Text recognised in pictures: 1 page.')")
        assert not visit.page.query_selector(".blank") and visit.errors == []
