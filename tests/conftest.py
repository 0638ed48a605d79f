from __future__ import annotations

# First of all: MLX binds to the BLAS that is loaded before it, and test modules import MLX.
import mlx_edgeinf  # noqa: F401
