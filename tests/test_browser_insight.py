"""The insight views and asking as of a page, in a browser."""

from __future__ import annotations

import fakes
from browsing import STORY, Visit, served

OPEN = "details.insight[open]"


def test_the_insight_opens_and_a_question_is_asked_as_of_a_page(chromium, room, tmp_path, monkeypatch):
    monkeypatch.setattr("mlx_edgeinf.library.reader.MARK_SHARE", 1e9)
    long = fakes.small_pdf(tmp_path / "long.pdf", STORY * 6)
    with served(room) as address, Visit(chromium, address, width=400) as visit:
        visit.read(long)
        visit.finish()
        page = visit.page
        assert page.locator(".insight svg").count() == 2 and not page.is_visible(".strength svg")
        page.focus(".insight summary")
        page.keyboard.press("Enter")
        page.wait_for_selector(OPEN)
        assert "Most new to the memory: pages" in page.inner_text(".strength figcaption")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        choice = page.locator(".as-of button").nth(3)
        number = int(choice.get_attribute("data-page"))
        choice.click()
        page.wait_for_selector(f".as-of [aria-pressed=true][data-page='{number}']")
        assert f"of {number - 1} pages read" in visit.ask("Who did it?")
        assert page.inner_text(".asked-at") == f"Asked as of page {number}"
        # Shown anew with the answer, it is still open.
        page.wait_for_selector(OPEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert visit.hosts() == {"127.0.0.1"} and visit.errors == []
