"""Links from sentences to pages, in a browser."""

from __future__ import annotations

import fakes
import pytest
from browsing import STORY, Visit

SUMMARY = (
    "Anna kept forty jars of honey to mend the roof of her house. It was a triumph for **everybody**. "
    "An old woman in a grey coat asked about the bees."
)


@pytest.fixture(autouse=True)
def summary(monkeypatch):
    """A summary of which two sentences are in the story."""
    monkeypatch.setattr(fakes, "SUMMARY", SUMMARY)


def test_a_link_shows_its_page_with_the_passage_marked(chromium, page_address, pdf):
    with Visit(chromium, page_address) as visit:
        visit.read(pdf)
        visit.finish()
        names = visit.page.locator("#summary-text :is(.page, .no-page)").evaluate_all(
            "all => all.map(each => each.ariaLabel)"
        )
        assert names == ["Page 1", "No supporting page found", "Page 3"]
        visit.page.focus(".page[aria-label='Page 3']")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("dialog.leaf[open]")
        assert visit.page.inner_text("#leaf-title") == "Page 3"
        assert visit.page.inner_text(".leaf figcaption") == STORY[2]
        picture = visit.page.locator(".leaf img")
        assert picture.evaluate("image => image.decode().then(() => image.naturalHeight)") == 1700
        line, sheet = visit.page.locator(".leaf .mark").first.bounding_box(), picture.bounding_box()
        assert 0 < line["y"] - sheet["y"] < 0.15 * sheet["height"]
        visit.page.keyboard.press("Escape")
        visit.page.wait_for_selector("dialog.leaf", state="detached")
        assert visit.page.evaluate("document.activeElement.ariaLabel") == "Page 3"
        assert visit.hosts() == {"127.0.0.1"} and visit.errors == []


def test_the_page_of_a_link_fits_a_narrow_window(chromium, page_address, tmp_path):
    story = tmp_path / "story.txt"
    story.write_text("\f".join(each or "A page of nothing but these words." for each in STORY))
    with Visit(chromium, page_address, width=400, scheme="dark") as visit:
        visit.read(story)
        visit.finish()
        visit.page.click(".page[aria-label='Page 1']")
        visit.page.wait_for_selector("dialog.leaf[open]")
        assert visit.page.inner_text(".leaf mark") == STORY[0]
        assert visit.page.evaluate("document.querySelector('.leaf').scrollWidth") <= 400
        visit.page.click(".leaf [data-do=leave]")
        visit.page.wait_for_selector("dialog.leaf", state="detached")
        assert visit.errors == []
