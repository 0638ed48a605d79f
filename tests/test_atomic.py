from __future__ import annotations

import mlx.core as mx
import pytest

from mlx_edgeinf import atomic
from mlx_edgeinf.adapter import save_arrays
from mlx_edgeinf.atomic import replace_text


@pytest.mark.parametrize("write", [
    lambda path: save_arrays(path, {"a": mx.ones(3)}), lambda path: replace_text(path, "new")
], ids=["arrays", "text"])  # fmt: skip
def test_a_file_is_replaced_whole_and_only_once_it_is_on_disk(tmp_path, monkeypatch, write):
    path, steps = tmp_path / "file.safetensors", []
    path.write_text("old")
    replace = atomic.os.replace
    monkeypatch.setattr(atomic, "sync", lambda fd: steps.append(("sync", path.read_bytes())))
    monkeypatch.setattr(
        atomic.os, "replace", lambda a, b: (steps.append(("replace", path.read_bytes())), replace(a, b))
    )
    write(path)
    # The file, its new name, and the folder that holds the name.
    assert [step for step, _ in steps] == ["sync", "replace", "sync"]
    assert [text for _, text in steps[:2]] == [b"old", b"old"]
    assert path.read_bytes() != b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("known", [True, False])
def test_on_a_mac_the_drive_is_told_to_empty_its_cache(tmp_path, monkeypatch, known):
    """Where it can be: network drives cannot."""
    told = []

    def control(descriptor, command):
        told.append(command)
        if not known:
            raise OSError("Inappropriate ioctl for device")

    monkeypatch.setattr(atomic.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(atomic.fcntl, "fcntl", control)
    monkeypatch.setattr(atomic.os, "fsync", lambda descriptor: told.append("fsync"))
    with (tmp_path / "file").open("wb") as file:
        atomic.sync(file.fileno())
    assert told == ([51] if known else [51, "fsync"])
