"""mlx_edgeinf: long documents in constant memory, on the device in your lap.

    from mlx_edgeinf import load, generate, stream_generate, swap_gates
"""

import os
from importlib import import_module

from .allocator import keep_freed_memory
from .blas import load_openblas

# Before anything imports mlx: its matrix products bind to the BLAS found first.
load_openblas()
keep_freed_memory()
# On an M5 MLX rounds the factors of float32 products to 11 bits. Centres are averaged anew at every fold, so
# with factors cut off like that on the CPU the averages shrank by 1.6 % within 100,000 tokens. Products of
# the model's own precision, which nearly all are, stay as fast.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

_HOMES = {
    "load": ".models", "generate": ".generation", "stream_generate": ".generation", "swap_gates": ".adapter",
}  # fmt: skip
__all__ = list(_HOMES)


def __getattr__(name: str):
    # On first use only: the page opens before mlx-lm, seconds of imports, is needed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
