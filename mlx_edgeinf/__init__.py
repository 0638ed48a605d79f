"""mlx_edgeinf: long documents in constant memory, on the device in your lap."""

from .blas import load_openblas

# Before anything imports mlx: its matrix products bind to the BLAS found first.
load_openblas()
