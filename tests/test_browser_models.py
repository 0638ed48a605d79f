"""The panel of models in a browser."""

from __future__ import annotations

import shutil

import pytest
from browsing import FOCUSED, MINUTE, Visit, served

from mlx_edgeinf.catalogue.choice import chosen_model


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "tiny-model")


def name_model(visit: Visit, name: str) -> None:
    visit.page.fill("#model-name", name)
    visit.page.keyboard.press("Enter")


def test_a_model_is_chosen_in_the_panel(chromium, room, folder, tmp_path):
    room.picker.home = tmp_path / "models"
    with served(room) as address, Visit(chromium, address) as visit:
        page = visit.page
        assert not page.is_visible("#models")
        page.focus(".chooser")
        page.keyboard.press("Enter")
        page.wait_for_selector(".models li[aria-current]:has-text('In use')", timeout=MINUTE)
        assert page.get_attribute(".chooser", "aria-expanded") == "true"
        assert page.locator(".models li").count() == 8
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == "Download"
        name_model(visit, str(tmp_path))
        page.wait_for_selector(".models .problem", timeout=MINUTE)
        assert "no model for mlx-lm" in page.inner_text(".models .problem")
        name_model(visit, str(folder))
        page.wait_for_selector(".model.ready:has-text('tiny-model is ready')", timeout=5 * MINUTE)
        page.wait_for_selector(".models form.gates:has-text('no gates yet')", timeout=MINUTE)
        page.focus("#model-name")
        page.keyboard.press("Escape")
        page.wait_for_selector("#models", state="hidden")
        assert page.evaluate(FOCUSED) == "Models"
        assert visit.hosts() == {"127.0.0.1"} and visit.errors == []
    assert chosen_model(room.library.folder) == str(folder)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_narrow_window_the_panel_needs_no_scrolling_sideways(chromium, room, tmp_path, scheme):
    room.picker.home = tmp_path / "models"
    with served(room) as address, Visit(chromium, address, width=400, scheme=scheme) as visit:
        visit.page.click(".chooser")
        visit.page.wait_for_selector(".models li", timeout=MINUTE)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
