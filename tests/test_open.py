from __future__ import annotations

from unittest.mock import Mock

import pytest

from mlx_edgeinf.catalogue.choice import choose_model
from mlx_edgeinf.cli import main
from mlx_edgeinf.library import Library
from mlx_edgeinf.ui import open as door


def test_a_library_that_cannot_be_opened_ends_the_program_with_one_sentence(tmp_path):
    folder = tmp_path / "library"
    folder.write_text("no folder")
    with pytest.raises(SystemExit) as ended:
        door.open_page(None, None, None, 8, folder, None, False)
    assert str(folder) in ended.value.code and ended.value.code.count(". ") == 0


def test_serve_opens_the_library_that_it_is_told(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(door, "open_page", lambda *options: given.extend(options))
    options = ["--library", str(tmp_path), "--recall-gb", "30", "--port", "7999", "--no-browser"]
    assert main(["serve", *options]) == 0
    assert given == [None, None, None, 30, tmp_path, 7999, False]


@pytest.mark.parametrize("option", [("--host", "0.0.0.0"), ("--api-key-file", "key")])
def test_options_of_the_api_are_refused_for_the_page(monkeypatch, option, capsys):
    monkeypatch.setattr(door, "open_page", None)
    with pytest.raises(SystemExit):
        main(["serve", *option])
    assert "are for --api" in capsys.readouterr().err


def test_a_folder_is_known_by_its_whole_path_however_it_is_named(monkeypatch, tmp_path):
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("models/mine", "link", "~/models/mine", str(folder)):
        assert door.named(name) == str(folder.resolve())
    assert door.named("people/model") == "people/model"


@pytest.mark.parametrize(
    "model, adapter, loaded", [
        (None, None, ("/chosen", None)), ("/named", None, ("/named", None)),
        (None, "/gates", (None, "/gates")), ("/named", "/gates", ("/named", "/gates")),
    ],
)  # fmt: skip
def test_the_model_chosen_last_is_loaded_unless_one_is_named(monkeypatch, tmp_path, model, adapter, loaded):
    engines, rooms = [], []
    monkeypatch.setattr(door, "load_engine", lambda *args: engines.append(args))
    monkeypatch.setattr(door, "build", lambda room: rooms.append(room) or Mock())
    monkeypatch.setattr(door, "serve", lambda *_, **__: "")
    choose_model(Library(tmp_path).folder, "/chosen")
    door.open_page(model, adapter, 80, 30, tmp_path, None, False)
    rooms[0].preparation.engine  # noqa: B018 - waits
    assert [(args[0], *args[2:]) for args in engines] == [(*loaded, 80, 30)]
    rooms[0].picker.load("/other", print)
    assert engines[-1][0] == "/other" and engines[-1][2:] == (None, 80, 30)
