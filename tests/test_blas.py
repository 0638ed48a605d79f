from __future__ import annotations

import subprocess
import sys

import pytest

from mlx_edgeinf import blas

linux = pytest.mark.skipif(sys.platform != "linux", reason="only MLX's Linux wheel needs OpenBLAS")

MATMUL = """
import time
import mlx.core as mx
a, b = mx.random.uniform(shape=(2, 1024, 1024))
mx.eval(a, b)

def seconds():
    start = time.perf_counter()
    mx.eval(a @ b)
    return time.perf_counter() - start

print(min(seconds() for _ in range(3)))
"""

# Takes blas.py by its path: importing the package would load OpenBLAS before the test can.
BLAS = f"""
from importlib import util
spec = util.spec_from_file_location("blas", {blas.__file__!r})
blas = util.module_from_spec(spec)
spec.loader.exec_module(blas)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def matmul_seconds(before: str) -> float:
    return float(python(before + MATMUL).stdout)


@linux
def test_openblas_makes_matmul_several_times_faster():
    load = BLAS + "assert blas.load_openblas()\n"
    assert matmul_seconds("") > 5 * matmul_seconds(load)


@linux
def test_the_carried_openblas_serves_where_the_system_has_none():
    if blas.candidates() == [blas.SYSTEM]:
        pytest.skip(f"{blas.CARRIER} is not installed")
    hide = "blas.SYSTEM = 'libmissing.so.0'\n"
    load = BLAS + hide + "assert 'site-packages' in blas.load_openblas()\n"
    assert matmul_seconds("") > 5 * matmul_seconds(load)


@linux
def test_a_missing_system_library_is_passed_over(monkeypatch):
    monkeypatch.setattr(blas, "candidates", lambda: ["libmissing.so.0", "libc.so.6"])
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    assert blas.load_openblas.__wrapped__() == "libc.so.6"


@linux
def test_without_any_openblas_a_warning_says_what_to_install(monkeypatch):
    monkeypatch.setattr(blas, "candidates", lambda: ["libmissing.so.0"])
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    with pytest.warns(RuntimeWarning, match="pip install opencv-python-headless"):
        assert blas.load_openblas.__wrapped__() is None


@linux
def test_loading_after_mlx_warns_that_it_is_too_late():
    late = python("import mlx.core\n" + BLAS + "print(blas.load_openblas())")
    assert late.stdout == "None\n"
    assert "import mlx_edgeinf first" in late.stderr


def test_a_missing_carrier_offers_nothing(monkeypatch):
    monkeypatch.setattr(blas, "CARRIER", "a-package-nobody-installed")
    assert blas.candidates() == [blas.SYSTEM]


def test_other_systems_need_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(blas, "candidates", lambda: pytest.fail("looked for a library"))
    assert blas.load_openblas.__wrapped__() is None


def test_float32_stays_float32_wherever_mlx_would_round_it():
    told = python("import mlx_edgeinf, os; print(os.environ['MLX_ENABLE_TF32'])").stdout
    assert told == "0\n"
