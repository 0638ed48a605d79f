"""mlx_edgeinf: long documents in constant memory, on the device in your lap.

    from mlx_edgeinf import load, generate, stream_generate, swap_gates
"""

from importlib import import_module

from .blas import load_openblas

# Before anything imports mlx: its matrix products bind to the BLAS found first.
load_openblas()

_HOMES = {
    "load": ".models", "generate": ".generation", "stream_generate": ".generation", "swap_gates": ".adapter",
}  # fmt: skip
__all__ = list(_HOMES)


def __getattr__(name: str):
    # On first use only: the page opens before mlx-lm, seconds of imports, is needed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
