"""How the process deals with the system's memory."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Keep the memory that tensors give back for the next ones; only glibc has this choice.

    By default large blocks go back to the system, which clears and maps them anew when they are
    wanted again: gigabytes at every training step on a CPU. Holes between kept blocks may raise the
    peak a little. What that is worth differs between machines and runs.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)  # no block of its own for a large tensor
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # and none of the common one is given back
