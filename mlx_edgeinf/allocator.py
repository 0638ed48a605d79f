"""Freed memory kept for the next arrays, on Linux.

MLX's CPU back end asks for and frees the memory of every intermediate array. The C library
hands blocks as large as these back to the kernel, which clears them page by page when they
are wanted again: 50,000 to 600,000 page faults a segment of the starter model, and up to a
fifth of its time in the kernel. macOS computes on the GPU, where MLX keeps a pool of its own.
"""

from __future__ import annotations

import ctypes
import sys

# Numbers of these parameters in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Bytes: more than any array of a segment, or all that one frees at its end.
KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Have blocks up to KEPT come from the heap, and the heap keep as much; False where it cannot be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all([mallopt(M_TRIM_THRESHOLD, KEPT), mallopt(M_MMAP_THRESHOLD, KEPT)])
