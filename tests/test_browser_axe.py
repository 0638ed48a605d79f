"""Every state of the page as axe-core judges it: light and dark, wide and narrow, and without a server."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import Visit, served
from pages import any_path_is_a_book  # noqa: F401
from playwright.sync_api import Page
from states import SlowRoom, states

pytestmark = pytest.mark.usefixtures("any_path_is_a_book")

GRAVE = ("serious", "critical")
# Gradio's button for more files: it puts a field into a button, and we cannot take it apart.
GRADIOS_OWN = {"exclude": [["#upload .icon-button-wrapper button[aria-haspopup]:has(input)"]]}


@pytest.fixture
def slow(tmp_path):
    slow = SlowRoom(tmp_path)
    yield slow
    slow.ready.set()
    slow.library.close()


def violations(page: Page) -> list[str]:
    """What axe finds grave, each with its element and how to mend it."""
    found = Axe().run(page, GRADIOS_OWN, {"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{violation['id']}: {node['html']}: {node['failureSummary']}"
        for violation in found
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("width", [1512, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_can_be_used_by_everybody(chromium, slow, scheme, width):
    with served(slow.room) as address:
        visit = Visit(chromium, address, width, scheme)
        found = {state: violations(visit.page) for state in states(visit, slow)}
        assert visit.errors == []
    visit.page.wait_for_selector(".gone:has-text('The program has ended')")
    found["gone"] = violations(visit.page)
    visit.context.close()
    assert found == dict.fromkeys(found, []) and len(found) == 11


def test_axe_finds_what_is_wrong(chromium, slow):
    slow.ready.set()
    with served(slow.room) as address, Visit(chromium, address) as visit:
        visit.page.evaluate("document.querySelector('footer').innerHTML = '<img src=\"favicon.ico\">'")
        assert [each.partition(":")[0] for each in violations(visit.page)] == ["image-alt"]
