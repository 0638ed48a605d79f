"""OpenBLAS for MLX on Linux, loaded before MLX itself.

MLX's Linux wheel carries the reference BLAS, which multiplies 1024 x 1024 matrices at
6 GFLOP/s on a machine where OpenBLAS reaches 160 to 215. Symbols of a library loaded with
RTLD_GLOBAL come before those of libraries loaded later, so an OpenBLAS loaded first takes
over MLX's matrix products; once `mlx.core` is imported its symbols are bound and nothing
helps any more. macOS multiplies on the GPU or in Accelerate and needs none of this.

Where the system has no OpenBLAS, the wheel of `opencv-python-headless` brings one that
needs no root. It is there for that library alone: NumPy's own and `scipy-openblas32` prefix
their symbols, so MLX would not find them.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from functools import cache
from importlib import metadata

SYSTEM = "libopenblas.so.0"
CARRIER = "opencv-python-headless"


@cache
def load_openblas() -> str | None:
    """Load an OpenBLAS for MLX to use and return its name or path.

    Returns None, after a warning that says what to do, where none is found or where MLX was
    imported first; and None in silence on systems that need none. Never raises.
    """
    if sys.platform != "linux":
        return None
    # Its threads otherwise spin for a while after each product and take the cores from MLX's
    # own: without this a segment took 2.8 s instead of 2.2 on two cores, half of it in the kernel.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if "mlx.core" in sys.modules:
        return _warn("MLX was imported before mlx_edgeinf; import mlx_edgeinf first.")
    for library in candidates():
        if _load(library):
            return library
    return _warn(
        f"No OpenBLAS was found; install one with `pip install {CARRIER}` or your system's "
        "package manager (Debian and Ubuntu: `apt install libopenblas0-pthread`)."
    )


def candidates() -> list[str]:
    """Libraries to try, the system's first, as names or absolute paths."""
    return [SYSTEM, *_carried()]


def _carried() -> list[str]:
    try:
        files = metadata.files(CARRIER) or []
    except metadata.PackageNotFoundError:
        return []
    return [str(file.locate()) for file in files if file.name.startswith("libopenblas")]


def _load(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _warn(remedy: str) -> None:
    message = "MLX computes 30 to 50 times slower than this machine can. "
    warnings.warn(message + remedy, RuntimeWarning, stacklevel=3)
