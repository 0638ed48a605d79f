"""Models fetched from a hub that runs on this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from threading import Event

import pytest
from filelock import FileLock
from hub import Hub, files_of, serving
from refusals import one_sentence

from mlx_edgeinf.catalogue import ModelRefused
from mlx_edgeinf.catalogue import download as home_of_download
from mlx_edgeinf.catalogue.download import Cancelled, download
from mlx_edgeinf.catalogue.home import downloaded, whole_models

REPO = "people/tiny-4bit"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(model_folder):
    hub = Hub(REPO, files_of(model_folder) | {"script.py": b"evil()", "pytorch_model.bin": b"no"})
    with serving(hub):
        yield hub


@pytest.fixture
def fetch(tmp_path):
    """Downloads the model; the calls of `progress` are in `fetch.steps`."""

    def fetch(repo: str = REPO, cancel: Event | None = None, progress=None) -> Path:
        note = progress or (lambda *step: fetch.steps.append(step))
        return download(repo, tmp_path, note, cancel or Event())

    fetch.steps = []
    return fetch


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(home_of_download, "CHUNK", 1000)


def names(hub: Hub) -> list[str]:
    return [name for name, _ in hub.asked]


def test_a_model_is_fetched_whole_and_found_again(hub, fetch, tmp_path, model_folder):
    folder = fetch()
    assert files_of(folder) == files_of(model_folder)
    assert downloaded(tmp_path, REPO) == folder and whole_models(tmp_path) == [(REPO, folder)]
    done, total = fetch.steps[-1]
    assert done == total == sum(map(len, files_of(folder).values()))
    assert [done for done, _ in fetch.steps] == sorted(done for done, _ in fetch.steps)


def test_the_configuration_comes_first_and_code_never(hub, fetch):
    fetch()
    assert names(hub)[0] == "config.json" and names(hub)[-1] == WEIGHTS
    assert not {"script.py", "pytorch_model.bin"} & set(names(hub))


def test_an_unsupported_architecture_is_refused_by_name_before_its_weights(hub, fetch, tmp_path):
    hub.files["config.json"] = json.dumps({"model_type": "gemma3_text"}).encode()
    with pytest.raises(ModelRefused, match="gemma3_text") as refusal:
        fetch()
    assert one_sentence(refusal) and names(hub) == ["config.json"]
    assert not list(tmp_path.glob("people/*.partial"))


def test_a_cancelled_download_goes_on_from_its_last_byte(hub, fetch, small_chunks, tmp_path, model_folder):
    cancel, size = Event(), len(hub.files[WEIGHTS])
    others = sum(map(len, files_of(model_folder).values())) - size

    def half(done: int, total: int) -> None:
        if done > others + size / 2:
            cancel.set()

    with pytest.raises(Cancelled):
        fetch(cancel=cancel, progress=half)
    assert downloaded(tmp_path, REPO) is None
    hub.asked.clear()
    assert files_of(fetch()) == files_of(model_folder)
    [(name, asked)] = hub.asked
    assert name == WEIGHTS and int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) > size / 2 - 1000


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_after_a_broken_connection_the_next_one_ends_it(hub, fetch, tmp_path, model_folder, ranges):
    hub.cut[WEIGHTS], hub.ranges = 5000, ranges
    with pytest.raises(ModelRefused, match="check the network") as refusal:
        fetch()
    assert one_sentence(refusal) and downloaded(tmp_path, REPO) is None
    assert files_of(fetch()) == files_of(model_folder)


def test_a_file_damaged_on_its_way_is_fetched_again(hub, fetch, tmp_path, model_folder):
    hub.sha256[WEIGHTS] = "0" * 64
    with pytest.raises(ModelRefused, match=f"{WEIGHTS}.*damaged") as refusal:
        fetch()
    assert one_sentence(refusal) and downloaded(tmp_path, REPO) is None
    hub.sha256.clear()
    assert files_of(fetch()) == files_of(model_folder)


def test_what_came_of_another_revision_is_not_gone_on_with(hub, fetch, tmp_path, model_folder):
    old = tmp_path / f"{REPO}.{'b' * 12}.partial"
    old.mkdir(parents=True)
    (old / WEIGHTS).write_bytes(b"old")
    assert files_of(fetch()) == files_of(model_folder) and not old.exists()


def test_a_gated_an_unknown_and_an_impossible_name_are_a_sentence_each(hub, fetch, tmp_path):
    hub.gated = True
    with pytest.raises(ModelRefused, match="accept") as gated:
        fetch()
    with pytest.raises(ModelRefused, match="no model called people/nothing") as unknown:
        fetch("people/nothing")
    with pytest.raises(ModelRefused, match="no model called") as impossible:
        fetch("../../etc")
    assert all(map(one_sentence, (gated, unknown, impossible)))
    assert not (tmp_path / "people" / "nothing.partial").exists()


def test_a_hub_that_does_not_answer_is_a_sentence(fetch, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelRefused, match="could not be reached") as refusal:
        fetch()
    assert one_sentence(refusal)


def test_too_little_room_is_told_before_the_weights_come(hub, fetch, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(home_of_download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelRefused, match="100 bytes are free") as refusal:
        fetch()
    assert one_sentence(refusal) and names(hub) == ["config.json"]


def test_a_disk_that_fills_up_keeps_what_came(hub, fetch, monkeypatch, model_folder):
    replace = home_of_download.os.replace

    def full(source, target):
        if Path(target).name == WEIGHTS:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(home_of_download.os, "replace", full)
        with pytest.raises(ModelRefused, match="free some room") as refusal:
            fetch()
    assert one_sentence(refusal)
    hub.asked.clear()
    assert files_of(fetch()) == files_of(model_folder) and hub.asked == []


def test_another_window_at_the_same_download_is_named(hub, fetch, tmp_path):
    (tmp_path / "people").mkdir()
    with FileLock(tmp_path / f"{REPO}.lock"), pytest.raises(ModelRefused, match="another window") as refusal:
        fetch()
    assert one_sentence(refusal)
