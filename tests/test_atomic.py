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
    monkeypatch.setattr(atomic.os, "fsync", lambda fd: steps.append(("fsync", path.read_bytes())))
    monkeypatch.setattr(
        atomic.os, "replace", lambda a, b: (steps.append(("replace", path.read_bytes())), replace(a, b))
    )
    write(path)
    # The file, its new name, and the folder that holds the name.
    assert [step for step, _ in steps] == ["fsync", "replace", "fsync"]
    assert [text for _, text in steps[:2]] == [b"old", b"old"]
    assert path.read_bytes() != b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
