from __future__ import annotations

import pytest

from mlx_edgeinf.cli import main
from mlx_edgeinf.ui import open as door


def test_a_library_that_cannot_be_opened_ends_the_program_with_one_sentence(tmp_path):
    folder = tmp_path / "library"
    folder.write_text("no folder")
    with pytest.raises(SystemExit) as ended:
        door.open_page(None, None, None, folder, None, False)
    assert str(folder) in ended.value.code and ended.value.code.count(". ") == 0


def test_serve_opens_the_library_that_it_is_told(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(door, "open_page", lambda *options: given.extend(options))
    assert main(["serve", "--library", str(tmp_path), "--port", "7999", "--no-browser"]) == 0
    assert given == [None, None, None, tmp_path, 7999, False]
