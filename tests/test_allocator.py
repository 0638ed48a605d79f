"""The memory of arrays that were freed is used again without asking the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlx_edgeinf import allocator

# Takes allocator.py by its path: importing the package would have told the C library already.
FAULTS = f"""
import resource
from importlib import util
spec = util.spec_from_file_location("allocator", {allocator.__file__!r})
allocator = util.module_from_spec(spec)
spec.loader.exec_module(allocator)
import mlx.core as mx

def run():
    for _ in range(5):
        mx.eval([mx.ones(1 << 20) * i for i in range(30)])

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux's C library")
def test_freed_memory_is_used_again_without_page_faults():
    before, after = "run()\nusual = faults()\n", "run()\nprint(usual, faults())"
    code = FAULTS + before + "assert allocator.keep_freed_memory()\n" + after
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    usual, kept = map(int, told.split())
    assert usual > 10_000 and kept < usual / 20


def test_other_systems_need_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
